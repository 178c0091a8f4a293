"""Loads an image classifier from its checkpoint, with the names of its classes."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import vision.models
from unroll.checkpoint import rebuild
from unroll.errors import UserError
from vision.data.batches import normalise

MODELS = {name: getattr(vision.models, name) for name in vision.models.__all__}


class Loaded(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        model: in eval mode, on the CPU.
        classes: their names.
        size: height and width of the images that it was trained on.
        mean, std: of each channel of the training images, for pixels from 0 to 1.
    """

    model: nn.Module
    classes: list[str]
    size: int
    mean: list[float]
    std: list[float]

    def normalise(self, pixels: Tensor) -> Tensor:
        """What the model reads, float `[images, 3, height, width]`, from the same as uint8."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return normalise(pixels, mean, std)


def load_model(path: str | Path, model: type[nn.Module] | None = None) -> Loaded:
    """The trained model and what belongs to it.

    Nothing in the file is run, and no class is built but `model`, or one of `vision.models`.

    Args:
        path: the checkpoint.
        model: the class, for a model that is not one of `vision.models`.

    Raises:
        UserError: the file is missing, or not a checkpoint of an image classifier of this project.
    """
    loaded, metadata = rebuild(Path(path), model or MODELS)
    try:
        data = metadata["data"]
        outputs = metadata["model"]["arguments"]["classes"]
        if len(data["classes"]) != outputs:
            raise UserError(f"{path}: its {len(data['classes'])} classes do not fit its model's {outputs}")
        return Loaded(loaded, data["classes"], data["size"], data["mean"], data["std"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a checkpoint of an image classifier of this project") from None
