"""Where a document classifier is wrong: a confusion matrix, and the documents that it was surest about."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lm.data.documents import Documents
from unroll.callbacks.tensorboard import keep_plot

MISTAKES, WORDS = 20, 80


class DocumentMistakes(pl.Callback):
    """`confusion.png`, and `mistakes.md` with the wrong predictions of the last validation that had the highest
    probability (of several processes: those of the first).

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.counts: Tensor | None = None
        self.mistakes: list[tuple[float, int, int, Tensor]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.counts, self.mistakes = None, []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        scores, labels = outputs["outputs"].float().cpu(), outputs["targets"].cpu()
        probabilities, predictions = scores.softmax(-1).max(-1)
        classes = scores.size(-1)
        counts = torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)
        self.counts = counts if self.counts is None else self.counts + counts
        for row in (predictions != labels).nonzero().flatten().tolist():
            tokens = batch.inputs[row] if batch.mask is None else batch.inputs[row][batch.mask[row]]
            self.mistakes.append((probabilities[row].item(), int(predictions[row]), int(labels[row]), tokens.cpu()))
        self.mistakes = sorted(self.mistakes, key=lambda mistake: -mistake[0])[:MISTAKES]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.counts is None or not trainer.is_global_zero:
            return
        from lm.plots import confusion

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, Documents)
        names = data.classes
        keep_plot(trainer, self.folder, "confusion", confusion(self.counts.numpy(), names))
        lines = ["# The surest mistakes", ""]
        for probability, guess, truth, tokens in self.mistakes:
            words = data.vocabulary.textify(tokens[:WORDS]) + (" …" if len(tokens) > WORDS else "")
            lines += [
                f"**{names[guess]} {probability:.3f}, not {names[truth]}** ({len(tokens):,} tokens)",
                "",
                words,
                "",
            ]
        (self.folder / "mistakes.md").write_text("\n".join(lines), encoding="utf-8")
