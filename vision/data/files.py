"""Image files of the user's own: of any size, decoded once into a file of bytes."""

import hashlib
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from reading.folders import FOREIGN, Found, files_by_class
from unroll.errors import UserError
from unroll.files import locked, read_json, replacing, write_json
from unroll.training.cache import cache_folder, shown_progress
from vision.data.batches import Images

FORMAT = 2
MANY = 1024  # files that are decoded before their pixels are written
HEIF = {".heic", ".heif"}
SEVERAL_CLASSES = "must have a folder for each class, two at least, with image files in it"


class Unreadable(UserError):
    """An image file can't be read; `reason` says why, for several of them."""

    def __init__(self, path: Path, what: str, reason: str = "as they can't be read") -> None:
        super().__init__(f"{path}: {what}")
        self.reason = reason


def read_image(path: Path, size: int) -> Tensor:
    """The middle of an image, scaled: uint8 `[3, size, size]`.

    It is turned as its EXIF data say; what is transparent becomes white. Of an animation it is the first frame. Grey
    values of 16 bits are divided by 257, floats from 0 to 1 multiplied by 255.

    Raises:
        Unreadable: not an image that can be read, or the range of its numbers is not known.
        UserError: the file is missing.
    """
    return first_frame(path, size)[0]


def first_frame(path: Path, size: int) -> tuple[Tensor, bool]:
    """An image as `read_image` reads it, and whether its file has further ones."""
    readable_endings()
    try:
        with Image.open(path) as file:
            several = getattr(file, "n_frames", 1) > 1
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I") or image.mode == "F":
                image = in_eight_bits(image, path)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BOX)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # Pillow raises many kinds
        raise Unreadable(path, f"not an image that can be read ({type(error).__name__})") from None
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1), several


def in_eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Grey values of 16 bits, or floats from 0 to 1, in 8 bits. (Pillow itself would cut them off at 255.)

    Raises:
        Unreadable: they are beyond that.
    """
    values = numpy.asarray(image)
    low, high = values.min(), values.max()
    if image.mode.startswith("I;16") or (image.mode == "I" and path.suffix.lower() == ".png"):
        values = values / 257
    elif image.mode == "F" and low >= 0 and high <= 1:  # not so for NaN
        values = values * 255
    else:
        kind = "floats outside 0 to 1" if image.mode == "F" else "integers of 32 bits"
        advice = "save them in 8 or 16 bits"
        what = f"its pixels are {kind}, from {low} to {high}; {advice}"
        raise Unreadable(path, what, f"as their pixels are {kind} ({advice})")
    return Image.fromarray(values.round().astype(numpy.uint8))


def find_images(folder: Path) -> Found:
    """The files in the folder of each class, and in folders within it, in order. Only names that end like those of
    images that Pillow reads count; hidden and empty files do not.

    Raises:
        UserError: there is no such folder, or it has fewer than two folders with images.
    """
    endings = readable_endings()
    try:
        found = files_by_class(folder, lambda file: file.suffix.lower() in endings)
    except UserError as error:
        raise UserError(f"{error}; {folder} {SEVERAL_CLASSES}") from None
    if HEIF.isdisjoint(endings):
        photographs = [file for file in found.left_out[FOREIGN] if file.suffix.lower() in HEIF]
        others = [file for file in found.left_out[FOREIGN] if file not in photographs]
        needed = {"as they need pip install pillow-heif": photographs}
        found = found._replace(left_out={**found.left_out, FOREIGN: others, **needed})
    if len(set(found.labels)) < 2:
        raise UserError(f"{folder}: {SEVERAL_CLASSES}" + (f" ({found.note()})" if found.note() else ""))
    return found


def readable_endings() -> set[str]:
    """The endings of images that can be read here; of HEIF images, if pillow-heif is installed."""
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return set(Image.registered_extensions())


class Decoded(NamedTuple):
    """Pixels, uint8 `[files, 3, size, size]`; why files could not be read, by their numbers (their pixels are black);
    and the files with further images, of which the first is read."""

    pixels: Tensor
    damaged: dict[int, str]
    several: list[int]


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
        if not is_whole(path, shape):
            write(files, size, path, sum(state.st_size for state in states))
    pixels = torch.from_numpy(numpy.memmap(path, numpy.uint8, "c", shape=shape))  # torch warns about read-only memory
    found = read_json(path.with_suffix(".json"))
    return Decoded(pixels, {int(number): reason for number, reason in found["damaged"].items()}, found["several"])


def is_whole(path: Path, shape: Sequence[int]) -> bool:
    """Whether the cache has all pixels, and what was found out about the files."""
    about = read_json(path.with_suffix(".json"))
    found = isinstance(about.get("damaged"), dict) and isinstance(about.get("several"), list)
    return found and path.is_file() and path.stat().st_size == math.prod(shape)


def write(files: Sequence[Path], size: int, path: Path, total: int) -> None:
    """Decodes the files into one; the list of those that could not be read is written last, beside it."""
    print(f"reading {len(files):,} images once; their pixels are kept in {path}", file=sys.stderr)
    damaged: dict[int, str] = {}
    several: list[int] = []

    def pixels(number: int) -> bytes:
        try:
            image, has_more = first_frame(files[number], size)
        except UserError as error:
            damaged[number] = getattr(error, "reason", "as they can't be read")
            return bytes(3 * size * size)
        if has_more:
            several.append(number)
        return image.numpy().tobytes()

    path.with_suffix(".json").unlink(missing_ok=True)
    with (
        replacing(path) as unfinished,
        open(unfinished, "wb") as out,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        shown_progress(total) as advance,
    ):
        for first in range(0, len(files), MANY):
            some = range(first, min(first + MANY, len(files)))
            out.writelines(pool.map(pixels, some))
            advance(sum(files[number].stat().st_size for number in some))
    write_json(path.with_suffix(".json"), {"damaged": damaged, "several": sorted(several)})


def labelled(found: Found, classes: Sequence[str], size: int, cache: str | Path | None) -> tuple[Images, list[str]]:
    """The images that can be read, and what is to be said of the others.

    Raises:
        UserError: a class is not among `classes`, or no file can be read.
    """
    if unseen := sorted(set(found.labels).difference(classes)):
        raise UserError(f"{found.files[found.labels.index(unseen[0])]}: its class is not among those of training")
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers[label] for label in found.labels])
    files = found.files
    pixels, damaged, several = decode(files, size, cache)
    if len(damaged) == len(files):
        reasons = "; ".join(sorted(set(damaged.values())))
        raise UserError(f"{files[0]}: not an image that can be read, as all {len(damaged):,} others ({reasons})")
    images = Images(pixels, labels)
    if damaged:
        images = images.at(torch.tensor([number for number in range(len(files)) if number not in damaged]))
    for reason in sorted(set(damaged.values())):
        found = found.without(reason, {files[number] for number in damaged if damaged[number] == reason})
    notes = [found.note()] if found.note() else []
    if several:
        notes.append(f"files with several images, of which the first is read: {len(several):,}")
    return images, notes
