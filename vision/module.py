"""The LightningModule of image classifiers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unroll.module import Learner, Prediction
from unroll.objectives import CrossEntropy, Objective
from vision.data.batches import move, normalise

Batch = tuple[Tensor, ...]


class ImageClassifier(Learner):
    """Trains a model of `vision.models`. Batches hold one byte per value; augmentation and normalisation are done here,
    a batch at a time, on the device that trains.

    Args:
        model: `forward(images) -> logits` as described in `vision.models`.
        mean, std: of each channel, for pixels from 0 to 1: what images are normalised by.
        objective: the loss and the figures, `CrossEntropy()` by default.
        settings: optimizer, groups, schedule, metadata and compile, as for `Learner`.
    """

    unit = "images"

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *settings: Any,
        objective: Objective | None = None,
        **more: Any,
    ) -> None:
        super().__init__(model, objective or CrossEntropy(), *settings, **more)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        pixels, _, *moves = batch
        pixels = move(pixels, *moves) if moves else pixels.contiguous(memory_format=torch.channels_last)
        return (normalise(pixels, self.mean, self.std).to(self.mean.dtype),)

    def predict(self, split: str, batch: Batch) -> Prediction:
        (logits,) = self.fast_model(*self.inputs(batch))
        return Prediction(logits, batch[1])

    def size(self, batch: Batch) -> int:
        return len(batch[1])
