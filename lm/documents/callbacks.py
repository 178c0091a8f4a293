"""What a document classifier says: samples of predictions, and the mistakes it was surest of."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lm.documents.data import Documents
from unroll.files import write_text
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import writers

MISTAKES, SAMPLES, WORDS = 20, 6, 80


class Prediction(NamedTuple):
    """The class of a document that a model predicts, with its probability, and the true one; the tokens int64."""

    probability: float
    guess: int
    truth: int
    tokens: Tensor

    def lines(self, data: Documents) -> list[str]:
        """As Markdown, the beginning of the document after it."""
        names, tokens = data.classes, self.tokens
        truth = "" if self.guess == self.truth else f", not {names[self.truth]}"
        words = data.vocabulary.textify(tokens[:WORDS]) + (" …" if len(tokens) > WORDS else "")
        return [f"**{names[self.guess]} {self.probability:.3f}{truth}** ({len(tokens):,} tokens)", "", words, ""]


class DocumentMistakes(pl.Callback):
    """`mistakes.md` with the wrong predictions of the last validation that had the highest
    probability; after each validation, samples of predictions in TensorBoard (of several processes: of the first).

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.mistakes: list[Prediction] = []
        self.samples: list[Prediction] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mistakes, self.samples = [], []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        scores, labels = outputs["features"].float().cpu(), batch[1].cpu()
        mask = batch.full_mask
        probabilities, predictions = scores.softmax(-1).max(-1)

        def predicted(row: int) -> Prediction:
            tokens = batch.inputs[row][mask[row]]
            return Prediction(float(probabilities[row]), int(predictions[row]), int(labels[row]), tokens.cpu())

        if len(self.samples) < SAMPLES:
            self.samples.append(predicted(0))
        wrong = (predictions != labels).nonzero().flatten().tolist()
        self.mistakes = sorted([*self.mistakes, *map(predicted, wrong)], key=lambda one: -one.probability)[:MISTAKES]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for writer in writers(trainer):
            shown = [line for predicted in self.samples for line in predicted.lines(data)]
            writer.add_text("validation", "\n".join(shown), trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, Documents)
        lines = ["# The surest mistakes", "", *(line for predicted in self.mistakes for line in predicted.lines(data))]
        write_text(self.folder / "mistakes.md", "\n".join(lines))
