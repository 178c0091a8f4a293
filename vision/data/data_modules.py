"""The Lightning data modules of images: what `conf/data/` chooses from."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor
from typing_extensions import Required, Unpack

from reading.datasets import has_split
from reading.folders import Found, folders_in, note, parts_of
from reading.tables import DATASET
from unroll import checks
from unroll.checks import Count, FileName, Fraction, Size, checked
from unroll.errors import UserError
from unroll.training.cache import given_or_downloaded
from unroll.training.data import Data
from unroll.training.split import set_aside
from vision.data.batches import Flip, ImageBatches, Images, move
from vision.data.cifar10 import read_cifar10
from vision.data.datasets import images_of_dataset
from vision.data.files import ImageSize, find_images, labelled
from vision.data.shapes import NAMES, draw_shapes

SHOWN = 32
EVALUATED = {"valid": "validation", "test": "test"}


class Splits(NamedTuple):
    """The training, validation and test images, and the names of their classes; not all data have a test part."""

    train: Images
    valid: Images
    test: Images | None
    classes: list[str]


class ImageSettings(TypedDict, total=False):
    """The arguments of all data modules of images (see `ImageData`)."""

    batch_size: Required[int]
    pad: Required[int]
    flip: Required[Flip]
    split: Literal["valid", "test"]
    seed: int


class ImageData(Data):
    """Images of named classes; a subclass says where they come from.

    Args:
        batch_size, pad, flip, seed: as for `ImageBatches`; only training images are augmented.
        split: what is validated on: "valid" or "test".
    """

    meaning = ("classes", "size")

    @checked
    def __init__(
        self, *, batch_size: Size, pad: Count, flip: Flip, split: Literal["valid", "test"] = "valid", seed: Count = 0
    ) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.pad = pad
        self.flip = flip
        self.seed = seed

    @abstractmethod
    def read(self) -> Splits:
        """The images of all splits."""

    @cached_property
    def splits(self) -> Splits:
        """The images of all splits, read when they are first asked for."""
        return self.read()

    @property
    def classes(self) -> list[str]:
        return self.splits.classes

    @cached_property
    def train(self) -> ImageBatches:
        images = self.splits.train
        try:
            return ImageBatches(images, self.batch_size, True, self.seed, self.pad, self.flip)
        except UserError as error:
            raise UserError(f"training split: {error}") from None

    @cached_property
    def valid(self) -> ImageBatches:
        images = self.splits.valid if self.split == "valid" else self.splits.test
        if images is None:
            raise UserError("data.split=test: these data have no test part; data.split=valid is there")
        return ImageBatches(images, min(self.batch_size, len(images.labels)), False)

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel of the training images, for pixels from 0 to 1."""
        return channel_statistics(self.splits.train.pixels)

    def model_arguments(self) -> dict[str, Any]:
        return {"classes": len(self.classes)}

    def learner_arguments(self) -> dict[str, Any]:
        mean, std = self.statistics
        return {"mean": mean, "std": std}

    def description(self) -> dict[str, Any]:
        return {"classes": self.classes, "size": self.splits.train.pixels.size(-1), **self.learner_arguments()}

    def summary(self) -> str:
        return (
            f"{len(self.train.labels):,} training and {len(self.valid.labels):,} {EVALUATED[self.split]} images "
            f"of {len(self.classes)} classes"
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
        return move(pixels, *moves) if moves else pixels, [self.classes[label] for label in labels.tolist()]


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
    """The 60,000 images of CIFAR-10.

    Args:
        url, sha256, cache: as for `unroll.training.cache.download`.
        path: a copy of the archive, or the folder that it unpacks to, instead.
        valid_images: so many of the 50,000 training images, the last ones, are for validation; 0: all are for training,
            and the test images are validated on.
        batches: as for `ImageData`.

    Raises:
        UserError: there are not that many.
    """

    @checked
    def __init__(
        self,
        *,
        url: str,
        sha256: str,
        path: FileName | None,
        cache: str | None,
        valid_images: Count = 5000,
        **batches: Unpack[ImageSettings],
    ) -> None:
        super().__init__(**batches)
        self.source = (path, url, sha256, cache)
        self.valid_images = valid_images

    def read(self) -> Splits:
        given, test, names = read_cifar10(given_or_downloaded(*self.source))
        if not self.valid_images:
            return Splits(given, test, test, names)
        if self.valid_images >= (count := len(given.labels)):
            raise UserError(f"data.valid_images={self.valid_images}: must be less than {count}, the training images")
        first = count - self.valid_images  # their order is random
        train, valid = (Images(given.pixels[part], given.labels[part]) for part in (slice(first), slice(first, None)))
        return Splits(train, valid, test, names)


class Shapes(ImageData):
    """Generated images of ten shapes, the same in every run.

    Args:
        train_images, valid_images: how many.
        batches: as for `ImageData`.
    """

    @checked
    def __init__(
        self, *, train_images: Annotated[int, checks.whole(2)], valid_images: Size, **batches: Unpack[ImageSettings]
    ) -> None:
        super().__init__(**batches)
        self.counts = (train_images, valid_images)

    def read(self) -> Splits:
        train, valid = (draw_shapes(count, seed) for seed, count in enumerate(self.counts))
        return Splits(train, valid, None, NAMES)


class ImageFiles(ImageData):
    """Image files of the user's own: a folder with a folder per class, or with such folders train, valid and test.

    Args:
        path: the folder, or `hf:FOLDER`, as for `vision.data.datasets.images_of_dataset`.
        size: height and width that images are scaled to; their middle is taken.
        valid_fraction: the share of each class that is set aside, drawn by `seed`, if there is no folder valid.
        cache: where the pixels are kept, as for `vision.data.files.decode`.
        batches: as for `ImageData`.

    Raises:
        UserError: there are fewer than two classes, or files of a class that training does not have.
    """

    @checked
    def __init__(
        self,
        *,
        path: FileName,
        size: ImageSize = 32,
        valid_fraction: Fraction = 0.1,
        cache: str | None = None,
        **batches: Unpack[ImageSettings],
    ) -> None:
        super().__init__(**batches)
        self.path, self.folder = path, Path(path).expanduser()
        self.size = size
        self.valid_fraction = valid_fraction
        self.cache = cache
        self.notes: list[str] = []  # what was left out
        self.known_classes: list[str] = []  # of a checkpoint
        self.bits = 0  # that count in files of 16 bits

    def find(self) -> dict[str, Found]:
        """The files of each part; those of training may be for validation too."""
        if self.path.startswith(DATASET):
            parts = ["train", *(part for part in ("valid", "test") if has_split(self.path, part))]
            return {part: images_of_dataset(self.path, part, self.cache) for part in parts}
        folders = parts_of(self.folder) if self.folder.is_dir() else {}
        if "train" not in folders:
            return {"train": find_images(self.folder)}
        if others := [folder for folder in folders_in(self.folder) if folder not in folders.values()]:
            self.notes.append(note("as they are beside the folder train", others))
        return {part: find_images(folder) for part, folder in folders.items()}

    def read(self) -> Splits:
        found = self.find()
        given = found.pop("train")
        classes = self.known_classes or sorted(set(given.labels))
        train = self.images(given, classes)
        others = {name: self.images(of_part, classes) for name, of_part in found.items()}
        if "valid" not in others:
            labels = train.labels.tolist()
            kept, held_out = set_aside(labels, self.valid_fraction, self.seed, "images", "folders train and valid")
            train, others["valid"] = train.at(kept), train.at(held_out)
        return Splits(train, others["valid"], others.get("test"), classes)

    def images(self, found: Found, classes: list[str]) -> Images:
        images, notes, self.bits = labelled(found, classes, self.size, self.cache, self.bits)
        self.notes += notes
        return images

    def description(self) -> dict[str, Any]:
        return {**super().description(), "bits": self.bits}

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The classes, and how many bits of 16 count."""
        self.known_classes = list(description.get("classes", ()))
        self.bits = description.get("bits", 0)

    def summary(self) -> str:
        return "; ".join([super().summary(), *self.notes])
