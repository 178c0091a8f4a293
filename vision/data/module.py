"""Lightning's view of the pictures: from a choice in `conf/data/` to batches."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data import Data
from training.downloads import download
from training.errors import UserError
from vision.data.batches import ImageBatches, Images, moved
from vision.data.cifar10 import read_cifar10
from vision.data.shapes import NAMES, draw_shapes

SHOWN = 32


class ImageData(Data):
    """Pictures of named classes; a subclass says where they come from.

    After `setup()`, `mean` and `deviation` are those of each channel over the training pictures, pixels being 0 to 1.

    Args:
        batch_size, pad, flip, seed: as for `ImageBatches`; validation pictures are not moved.
    """

    train: ImageBatches
    valid: ImageBatches
    names: list[str]
    mean: list[float]
    deviation: list[float]

    def __init__(self, *, batch_size: int, pad: int, flip: bool, seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.pad = pad
        self.flip = flip
        self.seed = seed

    def read(self) -> tuple[Images, Images, list[str]]:
        """The pictures to train on, those to validate on, and the names of the classes."""
        raise NotImplementedError

    def prepare(self) -> None:
        train, valid, self.names = self.read()
        self.mean, self.deviation = channel_statistics(train.pixels)
        try:
            self.train = ImageBatches(train, self.batch_size, True, self.seed, self.pad, self.flip)
            self.valid = ImageBatches(valid, min(self.batch_size, len(valid.labels)), False)
        except UserError as error:
            raise UserError(f"training split: {error}") from None

    def model_arguments(self) -> dict[str, int]:
        return {"classes": len(self.names)}

    def description(self) -> dict[str, Any]:
        return {"classes": self.names, "mean": self.mean, "deviation": self.deviation}

    def summary(self) -> str:
        return (
            f"{len(self.train.labels):,} training and {len(self.valid.labels):,} validation pictures "
            f"of {len(self.names)} classes"
        )

    def show(self, folder: Path) -> str:
        from PIL import Image

        from vision.pictures import grid

        pixels, captions = self.first_pictures()
        path = folder / "batch.png"
        Image.fromarray(grid(pixels, captions)).save(path)
        return (
            f"{len(self.train):,} batches of {self.batch_size} pictures in an epoch; the first ones are in {path}\n"
            f"{', '.join(captions)}"
        )

    def first_pictures(self) -> tuple[Tensor, list[str]]:
        """Some of the first training batch, moved as the model sees them, and what is on each."""
        pixels, labels, *moves = (part[:SHOWN] for part in next(self.train.batches(0)))
        return moved(pixels, *moves) if moves else pixels, [self.names[label] for label in labels.tolist()]

    def random_batch(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        pixels = torch.randint(256, (rows, *self.train.pixels.shape[1:]), dtype=torch.uint8)
        return pixels, torch.randint(len(self.names), (rows,))


def channel_statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for pixels from 0 to 1: exact, whatever the number of pictures.

    Args:
        pixels: uint8 `[images, channels, height, width]`.
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in pixels.unbind(1):
        share = channel.flatten().bincount(minlength=256).double() / channel.numel()
        mean = (share * value).sum()
        means.append(mean.item())
        deviations.append((share * (value - mean).square()).sum().sqrt().item() or 1.0)  # a channel of one shade
    return means, deviations


class CIFAR10(ImageData):
    """The 60,000 pictures of CIFAR-10; its test split is for validation.

    Args:
        url, sha256, cache: as for `training.downloads.download`.
        path: a copy of the archive, or the folder that it unpacks to, instead.
    """

    def __init__(self, *, url: str, sha256: str, path: str | None, cache: str | None, **batches: Any) -> None:
        super().__init__(**batches)
        self.source = (url, sha256, cache)
        self.path = path

    def read(self) -> tuple[Images, Images, list[str]]:
        return read_cifar10(Path(self.path) if self.path else download(*self.source))


class Shapes(ImageData):
    """Generated pictures of ten shapes, the same ones in every run.

    Args:
        train_images, valid_images: how many.
    """

    def __init__(self, *, train_images: int, valid_images: int, **batches: Any) -> None:
        super().__init__(**batches)
        self.counts = (train_images, valid_images)

    def read(self) -> tuple[Images, Images, list[str]]:
        train, valid = (draw_shapes(count, seed) for seed, count in enumerate(self.counts))
        return train, valid, NAMES
