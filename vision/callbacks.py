"""What a run of an image classifier shows and keeps, beside what every run does."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import save_plot, writers
from vision.data.data_modules import ImageData

MISTAKES = 24


class FirstBatch(pl.Callback):
    """The first training batch in TensorBoard, augmented as the model sees it."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        all_writers = writers(trainer)
        if not all_writers:
            return
        from vision.plots import grid

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ImageData)
        pixels = grid(*data.first_images())
        for writer in all_writers:
            writer.add_image("first batch", pixels, trainer.global_step, dataformats="HWC")


class Mistakes(pl.Callback):
    """`mistakes.png`: the wrong predictions of the last validation that the model gave the highest probability (of
    several processes: those of the first).

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.mistakes: list[tuple[float, int, int, Tensor]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mistakes = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        labels = batch[1]
        probabilities, predictions = outputs["features"].float().softmax(-1).max(-1)
        probabilities = probabilities.where(predictions != labels, 0.0)
        found, at = probabilities.topk(min(MISTAKES, len(probabilities)))
        for probability, prediction, label, pixels in zip(
            found.tolist(), predictions[at].tolist(), labels[at].tolist(), batch[0][at], strict=True
        ):
            if probability > 0:
                self.mistakes.append((probability, prediction, label, pixels))
        self.mistakes = sorted(self.mistakes, key=lambda mistake: -mistake[0])[:MISTAKES]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.mistakes or not trainer.is_global_zero:
            return
        from vision.plots import grid

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ImageData)
        names = data.classes
        captions = [
            f"{names[prediction]} {probability:.2f}\nnot {names[label]}"
            for probability, prediction, label, _ in self.mistakes
        ]
        pixels = grid(torch.stack([pixels for *_, pixels in self.mistakes]), captions)
        save_plot(trainer, self.folder, "mistakes", pixels)
