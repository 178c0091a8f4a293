"""What a classifier takes for what."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unroll.errors import require
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import PLOT_LIBRARIES, save_plot

MAX_CLASSES = 50


class ConfusionMatrix(pl.Callback):
    """`confusion.png`: how often the last validation took each class for each (of several processes: the first's
    share). It is left out where there are more than fifty classes, too many to read.

    The data module names the classes: `classes`.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        require("ConfusionMatrix", "app", *PLOT_LIBRARIES)
        self.folder = Path(folder)
        self.counts: Tensor | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.counts = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        scores, labels = outputs["features"], batch[1]
        classes = scores.size(-1)
        counts = torch.bincount(labels * classes + scores.argmax(-1), minlength=classes**2).view(classes, classes).cpu()
        self.counts = counts if self.counts is None else self.counts + counts

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.counts is None or len(self.counts) > MAX_CLASSES or not trainer.is_global_zero:
            return
        from unroll.training.plots import confusion

        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        save_plot(trainer, self.folder, "confusion", confusion(self.counts.numpy(), classes))
