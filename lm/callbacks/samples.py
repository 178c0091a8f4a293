"""What the model would write: a sample in TensorBoard after each epoch, and on the screen at the end."""

from itertools import islice

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from lm.data.module import TextData
from lm.generate import encode_prompt, generate, unspoken
from lm.module import LanguageModel


class Samples(pl.Callback):
    """Goes on from the beginning of the validation text.

    Args:
        length: tokens per sample.
        temperature, seed: as for `lm.generate.generate`; the draws are its own and don't touch training.
    """

    def __init__(self, length: int = 100, temperature: float = 0.8, seed: int = 0) -> None:
        self.length = length
        self.temperature = temperature
        self.seed = seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards and trainer.is_global_zero:
            text = self.sample(trainer, pl_module).replace("\n", "\n    ")
            for board in boards:
                board.experiment.add_text("sample", f"    {text}", trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"\n{self.sample(trainer, pl_module)}\n", flush=True)

    def sample(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TextData)
        assert isinstance(pl_module, LanguageModel)
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
                never=unspoken(vocabulary),
            )
            more = torch.tensor(list(islice(tokens, self.length)))
        finally:
            model.train(was_training)
        return vocabulary.textify(torch.cat([prompt, more]))
