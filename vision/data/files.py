"""Image files of the user's own: of any size, decoded once into a file of bytes."""

import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from unroll.errors import UserError
from unroll.files import locked, read_json, write_json
from unroll.training.cache import cache_folder, shown_progress
from vision.data.batches import Images

FORMAT = 1
MANY = 1024  # files that are decoded before their pixels are written
SEVERAL_CLASSES = "must have a folder for each class, two at least, with image files in it"


def read_image(path: Path, size: int) -> Tensor:
    """The middle of an image, scaled: uint8 `[3, size, size]`.

    It is turned as its EXIF data say; what is transparent becomes white.

    Raises:
        UserError: the file is missing, or not an image that can be read.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BOX)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # Pillow raises many kinds
        raise UserError(f"{path}: not an image that can be read ({type(error).__name__})") from None
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


class Found(NamedTuple):
    """Image files and the names of their classes, one for each."""

    files: list[Path]
    labels: list[str]


def find_images(folder: Path) -> Found:
    """The files in the folder of each class, and in folders within it, in order. Only names that end like those of
    images count; hidden files and folders do not.

    Raises:
        UserError: there is no such folder, or it has fewer than two folders with images.
    """
    endings = Image.registered_extensions()
    found = Found([], [])
    try:
        classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        for of_class in classes:
            for parent, folders, names in os.walk(of_class):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(names):
                    if not name.startswith(".") and Path(name).suffix.lower() in endings:
                        found.files.append(Path(parent, name))
                        found.labels.append(of_class.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); it {SEVERAL_CLASSES}") from None
    if len(set(found.labels)) < 2:
        raise UserError(f"{folder}: {SEVERAL_CLASSES}")
    return found


class Decoded(NamedTuple):
    """Pixels, uint8 `[files, 3, size, size]`, and the numbers of the files that could not be read: black ones."""

    pixels: Tensor
    damaged: list[int]


def decode(files: Sequence[Path], size: int, cache: str | Path | None = None) -> Decoded:
    """The images of files, decoded by all cores at the first call and then mapped from a file in the cache.

    It is made again when the name, the size or the time of a file has changed. It appears whole or not at all; of
    processes that need the same one, the first writes it and the others wait.

    Args:
        files: image files.
        size: as for `read_image`.
        cache: the folder of the file, by default the user's cache folder.
    """
    states = [file.stat() for file in files]
    known_as = [(str(file), state.st_size, state.st_mtime_ns) for file, state in zip(files, states, strict=True)]
    key = hashlib.sha256(repr((FORMAT, size, known_as)).encode()).hexdigest()[:32]
    path = cache_folder(cache) / "images" / f"{key}.bin"
    shape = (len(files), 3, size, size)
    with locked(path.with_suffix(".lock")):
        if "damaged" not in read_json(path.with_suffix(".json")):
            write(files, size, path, sum(state.st_size for state in states))
    pixels = torch.from_numpy(numpy.memmap(path, numpy.uint8, "c", shape=shape))  # torch warns about read-only memory
    return Decoded(pixels, read_json(path.with_suffix(".json"))["damaged"])


def write(files: Sequence[Path], size: int, path: Path, total: int) -> None:
    """Decodes the files into one; the list of those that could not be read is written last, beside it."""
    print(f"reading {len(files):,} images once; their pixels are kept in {path}", file=sys.stderr)
    damaged: list[int] = []

    def pixels(number: int) -> bytes:
        try:
            return read_image(files[number], size).numpy().tobytes()
        except UserError:
            damaged.append(number)
            return bytes(3 * size * size)

    with open(path, "wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool, shown_progress(total) as advance:
        for first in range(0, len(files), MANY):
            some = range(first, min(first + MANY, len(files)))
            out.writelines(pool.map(pixels, some))
            advance(sum(files[number].stat().st_size for number in some))
    write_json(path.with_suffix(".json"), {"damaged": sorted(damaged)})


def labelled(found: Found, classes: Sequence[str], size: int, cache: str | Path | None) -> tuple[Images, list[Path]]:
    """The images that can be read, and the files that can't.

    Raises:
        UserError: a class is not among `classes`, or no file can be read.
    """
    if unseen := sorted(set(found.labels).difference(classes)):
        raise UserError(f"{found.files[found.labels.index(unseen[0])]}: its class is not among those of training")
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers[label] for label in found.labels])
    pixels, damaged = decode(found.files, size, cache)
    images = Images(pixels, labels)
    if len(damaged) == len(found.files):
        raise UserError(f"{found.files[0]}: not an image that can be read, as all {len(damaged):,} others")
    if damaged:
        readable = torch.ones(len(labels), dtype=torch.bool)
        readable[damaged] = False
        images = images.at(readable.nonzero().flatten())
    return images, [found.files[number] for number in damaged]
