"""The LightningModule of pictures."""

from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import vision.models
from training.module import Prediction, SupervisedModule
from vision.data.batches import moved, normalised

Batch = tuple[Tensor, ...]


class ImageClassifier(SupervisedModule):
    """Trains a model of `vision.models`. Pixels come as they are kept, one byte each; moving and normalising them is
    done here, a batch at a time, on the device that trains.

    Args:
        model: `forward(images) -> logits` as described in `vision.models`.
        settings: optimizer, groups, schedule, metadata, compile and label_smoothing, as for `SupervisedModule`; the
            metadata's `mean` and `deviation` of each channel are what pixels are normalised by.
    """

    models: ClassVar[ModuleType] = vision.models
    unit = "images"

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: nn.Module, *settings: Any, **more: Any) -> None:
        super().__init__(model, *settings, **more)
        for name, otherwise in (("mean", 0.5), ("deviation", 0.25)):
            values = (self.metadata or {}).get(name, [otherwise] * 3)
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        pixels, _, *moves = batch
        pixels = moved(pixels, *moves) if moves else pixels.contiguous(memory_format=torch.channels_last)
        return (normalised(pixels, self.mean, self.deviation).to(self.mean.dtype),)

    def predict(self, split: str, batch: Batch) -> Prediction:
        (logits,) = self.read(*self.inputs(batch))
        return Prediction(logits, batch[1])

    def size(self, batch: Batch) -> int:
        return len(batch[1])
