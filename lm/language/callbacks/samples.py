"""What the model writes: a sample in TensorBoard after each epoch, and on standard output at the end."""

import textwrap
from itertools import islice
from typing import Any

import torch

from lm.language.generation import encode_prompt, generate, special_ids
from unroll.checks import Positive, Size, checked
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import writers
from unroll.training.learner import Learner


class Samples(pl.Callback):
    """Continues the beginning of the validation text.

    The data module has a `vocabulary`, `bptt` and `prompt()`, as `lm.language.data.TextData`.

    Args:
        length: tokens per sample.
        temperature, seed: as for `lm.generate.generate`; the draws have a generator of their own.
    """

    @checked
    def __init__(self, length: Size = 100, temperature: Positive = 0.8, seed: int = 0) -> None:
        self.length = length
        self.temperature = temperature
        self.seed = seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        all_writers = writers(trainer)
        if all_writers:
            text = preformatted(self.sample(trainer, pl_module))
            for writer in all_writers:
                writer.add_text("sample", text, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"\n{self.sample(trainer, pl_module)}\n", flush=True)

    def sample(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, Learner)
        vocabulary = data.vocabulary
        prompt = encode_prompt(vocabulary, data.prompt())
        model = pl_module.model
        was_training = model.training
        model.eval()
        try:
            tokens = generate(
                model,
                prompt,
                temperature=self.temperature,
                seed=self.seed,
                context=data.bptt,
                never=special_ids(vocabulary),
            )
            more = torch.tensor(list(islice(tokens, self.length)))
        finally:
            model.train(was_training)
        return vocabulary.textify(torch.cat([prompt, more]))


def preformatted(text: str, width: int = 100) -> str:
    """Markdown that shows a text as it is, but for breaks in long lines: TensorBoard scrolls them sideways."""
    wrap = textwrap.TextWrapper(width, replace_whitespace=False, drop_whitespace=False, expand_tabs=False).wrap
    return "\n".join(f"    {part}" for line in text.split("\n") for part in wrap(line) or [""])
