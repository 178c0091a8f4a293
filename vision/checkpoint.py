"""Image classifiers from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import vision.models
from unroll.resume.checkpoint import TrainedModel, check_sizes
from vision.data.batches import normalise
from vision.data.files import ImageSize

CHANNELS = 3


@dataclass(frozen=True)
class TrainedImageClassifier(TrainedModel):
    """An image classifier from its checkpoint.

    Attributes:
        classes: their names.
        size: height and width of the images that it was trained on.
        mean, std: of each channel of the training images, for pixels from 0 to 1.
        bits: that count in files of 16 bits, as for `vision.data.files.read_image`.
    """

    model: nn.Module
    classes: list[str]
    size: ImageSize
    mean: list[float]
    std: list[float]
    bits: int
    what = "an image classifier"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {name: getattr(vision.models, name) for name in vision.models.__all__}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedImageClassifier":
        data = metadata["data"]
        check_sizes(metadata, classes=len(data["classes"]))
        if len(data["mean"]) != CHANNELS or len(data["std"]) != CHANNELS:
            raise ValueError
        return cls(model, data["classes"], data["size"], data["mean"], data["std"], data.get("bits", 0))

    def normalise(self, pixels: Tensor) -> Tensor:
        """What the model reads, float `[images, 3, height, width]`, from the same as uint8."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return normalise(pixels, mean, std)
