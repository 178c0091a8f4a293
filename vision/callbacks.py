"""What a run on pictures shows and keeps besides what every run does."""

from typing import Any

import numpy
import pytorch_lightning as pl
import torch
from torch import Tensor

from training import callbacks
from training.module import SupervisedModule
from vision.data.module import ImageData

MISTAKES = 24


class Board(callbacks.Board):
    """In TensorBoard, the first training batch as the model sees it; at the end, as `mistakes.png`, the mistakes of the
    last validation that the model was surest of (of several processes: those of the first).
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.mistakes: list[tuple[float, int, int, Tensor]] = []
        if not self.writers:
            return
        from vision.pictures import grid

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ImageData)
        picture = grid(*data.first_pictures())
        for writer in self.writers:
            writer.add_image("first batch", picture, trainer.global_step, dataformats="HWC")

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
        labels = outputs["targets"]
        surest, guesses = outputs["logits"].float().softmax(-1).max(-1)
        surest = surest.where(guesses != labels, 0.0)
        found, at = surest.topk(min(MISTAKES, len(surest)))
        for sure, guess, label, pixels in zip(
            found.tolist(), guesses[at].tolist(), labels[at].tolist(), batch[0][at], strict=True
        ):
            if sure > 0:
                self.mistakes.append((sure, guess, label, pixels))
        self.mistakes = sorted(self.mistakes, key=lambda mistake: -mistake[0])[:MISTAKES]

    def pictures(self, trainer: pl.Trainer, module: SupervisedModule) -> dict[str, numpy.ndarray]:
        if not self.mistakes:
            return {}
        from vision.pictures import grid

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ImageData)
        names = data.names
        captions = [f"{names[guess]} {sure:.2f}\nnot {names[label]}" for sure, guess, label, _ in self.mistakes]
        return {"mistakes": grid(torch.stack([pixels for *_, pixels in self.mistakes]), captions)}
