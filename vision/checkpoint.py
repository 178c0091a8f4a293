"""An image classifier from its checkpoint, with the names of what it tells apart."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import vision.models
from training import checkpoint
from training.errors import UserError
from vision.data.batches import normalised


class Loaded(NamedTuple):
    """What a checkpoint holds: the model, the names of its classes, and each channel's mean and deviation."""

    model: nn.Module
    classes: list[str]
    mean: list[float]
    deviation: list[float]

    def normalise(self, pixels: Tensor) -> Tensor:
        """What the model reads, float `[batch, 3, height, width]`, of the same as uint8."""
        mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.deviation))
        return normalised(pixels, mean, deviation)


def load_model(path: str | Path) -> Loaded:
    """The trained model, in eval mode on the CPU, and what belongs to it.

    Nothing in the file is run, and the model is built only if it is one of `vision.models`.

    Raises:
        UserError: the file is missing, or not a checkpoint of an image classifier of this project.
    """
    model, metadata = checkpoint.rebuild(
        Path(path), vision.models, lambda metadata: {"classes": len(metadata["classes"])}
    )
    try:
        return Loaded(model, metadata["classes"], metadata["mean"], metadata["deviation"])
    except KeyError:
        raise UserError(f"{path}: not a checkpoint of this project") from None
