"""The Lightning data modules of images: what `conf/data/` chooses from."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from unroll import checks
from unroll.checks import Count, Size, check_arguments, checked
from unroll.data import Data
from unroll.downloads import download
from unroll.errors import UserError
from vision.data.batches import ImageBatches, Images, move
from vision.data.cifar10 import read_cifar10
from vision.data.shapes import NAMES, draw_shapes

SHOWN = 32


class Splits(NamedTuple):
    """The training and the validation images, and the names of their classes."""

    train: Images
    valid: Images
    names: list[str]


class ImageData(Data):
    """Images of named classes; a subclass says where they come from.

    Args:
        batch_size, pad, flip, seed: as for `ImageBatches`; validation images are not augmented.
    """

    meaning = ("classes",)

    @checked
    def __init__(self, *, batch_size: Size, pad: Count, flip: bool, seed: Count = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.pad = pad
        self.flip = flip
        self.seed = seed

    @abstractmethod
    def read(self) -> Splits:
        """The images of both splits."""

    @cached_property
    def splits(self) -> Splits:
        """The images of both splits, read when they are first asked for."""
        return self.read()

    @property
    def names(self) -> list[str]:
        return self.splits.names

    @cached_property
    def train(self) -> ImageBatches:
        try:
            return ImageBatches(self.splits.train, self.batch_size, True, self.seed, self.pad, self.flip)
        except UserError as error:
            raise UserError(f"training split: {error}") from None

    @cached_property
    def valid(self) -> ImageBatches:
        images = self.splits.valid
        return ImageBatches(images, min(self.batch_size, len(images.labels)), False)

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel of the training images, for pixels from 0 to 1."""
        return channel_statistics(self.splits.train.pixels)

    def model_arguments(self) -> dict[str, Any]:
        return {"classes": len(self.names)}

    def learner_arguments(self) -> dict[str, Any]:
        mean, std = self.statistics
        return {"mean": mean, "std": std}

    def description(self) -> dict[str, Any]:
        return {"classes": self.names, **self.learner_arguments()}

    def summary(self) -> str:
        return (
            f"{len(self.train.labels):,} training and {len(self.valid.labels):,} validation images "
            f"of {len(self.names)} classes"
        )

    def show(self, folder: Path) -> str:
        from PIL import Image

        from vision.plots import grid

        pixels, captions = self.first_images()
        path = folder / "batch.png"
        Image.fromarray(grid(pixels, captions)).save(path)
        return (
            f"{len(self.train):,} batches of {self.batch_size} images in an epoch; the first images are in {path}\n"
            f"{', '.join(captions)}"
        )

    def first_images(self) -> tuple[Tensor, list[str]]:
        """Some images of the first training batch, augmented as the model sees them, and their labels."""
        pixels, labels, *moves = (part[:SHOWN] for part in next(self.train.batches(0)))
        return move(pixels, *moves) if moves else pixels, [self.names[label] for label in labels.tolist()]

    def random_batch(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        pixels = torch.randint(256, (rows, *self.train.pixels.shape[1:]), dtype=torch.uint8)
        return pixels, torch.randint(len(self.names), (rows,))


def channel_statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for pixels from 0 to 1: exact, whatever the number of images.

    Args:
        pixels: uint8 `[images, channels, height, width]`.
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(1):
        share = channel.flatten().bincount(minlength=256).double() / channel.numel()
        mean = (share * value).sum()
        means.append(mean.item())
        stds.append((share * (value - mean).square()).sum().sqrt().item() or 1.0)  # 1 for a channel of one shade
    return means, stds


class CIFAR10(ImageData):
    """The 60,000 images of CIFAR-10; its test split is for validation.

    Args:
        url, sha256, cache: as for `unroll.downloads.download`.
        path: a copy of the archive, or the folder that it unpacks to, instead.
        batches: as for `ImageData`.
    """

    def __init__(self, *, url: str, sha256: str, path: str | None, cache: str | None, **batches: Any) -> None:
        super().__init__(**batches)
        self.source = (url, sha256, cache)
        self.path = path

    def read(self) -> Splits:
        return Splits(*read_cifar10(Path(self.path) if self.path else download(*self.source)))


class Shapes(ImageData):
    """Generated images of ten shapes, the same in every run.

    Args:
        train_images, valid_images: how many.
        batches: as for `ImageData`.
    """

    def __init__(self, *, train_images: Annotated[int, checks.whole(2)], valid_images: Size, **batches: Any) -> None:
        super().__init__(**batches)
        check_arguments(Shapes.__init__, {"train_images": train_images, "valid_images": valid_images})
        self.counts = (train_images, valid_images)

    def read(self) -> Splits:
        train, valid = (draw_shapes(count, seed) for seed, count in enumerate(self.counts))
        return Splits(train, valid, NAMES)
