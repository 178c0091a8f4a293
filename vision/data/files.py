"""Image files of the user's own: of any size, decoded once into a file of bytes."""

import hashlib
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy
import torch
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, SAMPLEFORMAT
from torch import Tensor

from reading.folders import FOREIGN, Found, files_by_class
from unroll.checks import Rule, whole
from unroll.errors import UserError
from unroll.files import locked, read_json, replacing, write_json
from unroll.training.cache import cache_folder, shown_progress
from vision.data.batches import Images

ImageSize = Annotated[int, Rule(lambda value: whole(8).holds(value) and value <= 4096, "a whole number from 8 to 4096")]
FORMAT = 4
MANY = 1024  # files that are decoded before their pixels are written
HEIF = {".heic", ".heif"}
STARTS_A_PROGRAM = {"EPS"}  # Ghostscript, which runs what is in the file, whatever the file is called
COLOURS = ("RGB", "RGBA", "RGBX", "CMYK")
LOWER = {  # the lower bits of a packing of 16 bits, and the other way round; None: Pillow has no name for them
    **{f"{mode};16{order}": f"{mode};16{other}" for mode in COLOURS for order, other in ("BL", "LB")},
    **{f"{mode};16N": f"{mode};16{'B' if sys.byteorder == 'little' else 'L'}" for mode in COLOURS},
    "LA;16B": None,
}
APART = 2  # of TIFF's planar configurations
UNSIGNED, SIGNED = 1, 2  # of its formats of samples
PPM_OF_16_BITS = ("ppm", ("RGB", 2**16 - 1))  # codec and arguments
SEVERAL_CLASSES = "must have a folder for each class, two at least, with image files in it"


class Unreadable(UserError):
    """An image file can't be read; `reason` says why, for several of them."""

    def __init__(self, path: Path, what: str, reason: str = "as they can't be read") -> None:
        super().__init__(f"{path}: {what}")
        self.reason = reason


def read_image(path: Path, size: int, bits: int | None = None) -> Tensor:
    """The middle of an image, scaled: uint8 `[3, size, size]`.

    It is turned as its EXIF data say; what is transparent becomes white. Of an animation it is the first frame. Floats
    from 0 to 1 are multiplied by 255. Of values of 16 bits, as many bits count as the values need: 12-bit images come
    in files of 16 bits.

    Args:
        path: the file.
        size: height and width.
        bits: that count in files of 16 bits, 8 to 16, unless a file needs more; None: as many as this file needs.

    Raises:
        Unreadable: not an image that can be read, or the range of its numbers is not known.
        UserError: the file is missing.
    """
    return first_frame(path, size, bits).pixels


class Frame(NamedTuple):
    """An image as `read_image` reads it, whether its file has further ones, and how many of 16 bits its values need;
    0 in a file of fewer."""

    pixels: Tensor
    has_more: bool
    bits: int


def first_frame(path: Path, size: int, bits: int | None = None) -> Frame:
    readable_endings()
    try:
        with unpacked(path) as file:
            has_more = getattr(file, "n_frames", 1) > 1
            packing = packing_of(file)
            white_is_0 = getattr(file, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
            image: Image.Image = ImageOps.exif_transpose(file)
            sample = max(file.tag_v2.get(SAMPLEFORMAT, (UNSIGNED,))) if hasattr(file, "tag_v2") else None
        if sample == SIGNED and image.mode == "L":
            refuse_negative(numpy.asarray(image) ^ (255 if white_is_0 else 0), path)
        needed = 0
        if image.mode.startswith("I") or image.mode == "F":
            image, needed = in_eight_bits(image, path, packing, bits, sample == UNSIGNED)
            image = ImageOps.invert(image) if white_is_0 else image
        elif packing in LOWER:
            image, needed = colours_in_eight_bits(image, path, packing, bits)
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
    return Frame(torch.from_numpy(numpy.array(image)).permute(2, 0, 1), has_more, needed)


def unpacked(path: Path) -> ImageFile.ImageFile:
    """An image file of which the pixels are still to be read: those of a PPM of 16 bits like those of other files of 16
    bits, by the bits that its values need, where Pillow would cut the lower ones off.

    Raises:
        Unreadable: it is no file, or colours of 16 bits lie apart from each other, which Pillow reads as if they had 8.
    """
    if path.exists() and not path.is_file():  # a pipe may wait for ever
        raise Unreadable(path, "not a file")
    file = Image.open(path, formats=[name for name in Image.ID if name not in STARTS_A_PROGRAM])
    tags = getattr(file, "tag_v2", {})
    if tags.get(PLANAR_CONFIGURATION) == APART and max(tags.get(BITSPERSAMPLE, (8,))) > 8:
        file.close()
        kind, advice = "16 bits in a plane for each colour", "save them pixel by pixel, or in 8 bits"
        raise Unreadable(path, f"its pixels are {kind}; {advice}", f"as their pixels are {kind} ({advice})")
    file.tile = [
        tile._replace(codec_name="raw", args=("RGB;16B", 0, 1)) if (tile[0], tile[3]) == PPM_OF_16_BITS else tile
        for tile in file.tile
    ]
    return file


def packing_of(file: ImageFile.ImageFile) -> str:
    """How a file packs its pixels, as Pillow names it, such as RGB;16B; `ppm` or `ppm_plain` where a file says which
    value is white, so that Pillow scales them."""
    codec, _, _, found = file.tile[0] if file.tile else ("", None, 0, "")
    found = found[0] if isinstance(found, tuple) and found else found
    return codec if codec.startswith("ppm") or not isinstance(found, str) else found


def bits_of(values: numpy.ndarray, bits: int | None) -> int:
    """How many bits values of 16 need, of those that cameras and scanners have; at least so many as are given."""
    return next(size for size in (8, 10, 12, 14, 16) if size >= (bits or 0) and values.max() < 2**size)


def scaled(values: numpy.ndarray, bits: int) -> numpy.ndarray:
    """Values of so many bits in 8."""
    return (values * (255 / (2**bits - 1))).round().astype(numpy.uint8)


def refuse_negative(values: numpy.ndarray, path: Path) -> None:
    """Checks that signed bytes, which Pillow reads as unsigned ones, are not below 0."""
    signed = values.view(numpy.int8)
    if signed.min() < 0:
        raise beyond(path, "integers below 0", signed.min(), signed.max())


def beyond(path: Path, kind: str, low: Any, high: Any) -> Unreadable:
    """What to raise for pixels whose range is not known."""
    advice = "save them in 8 or 16 bits"
    what = f"its pixels are {kind}, from {low} to {high}; {advice}"
    return Unreadable(path, what, f"as their pixels are {kind} ({advice})")


def in_eight_bits(
    image: Image.Image, path: Path, packing: str, bits: int | None, unsigned: bool
) -> tuple[Image.Image, int]:
    """Grey values of 16 bits, or floats from 0 to 1, in 8 bits (Pillow itself would cut them off at 255), and how many
    of 16 bits they need.

    Args:
        image, path, packing, bits: as for `colours_in_eight_bits`.
        unsigned: whether the file says so of integers of 32 bits.

    Raises:
        Unreadable: they are beyond that.
    """
    values = numpy.asarray(image)
    if unsigned and values.dtype == numpy.int32:
        values = values.view(numpy.uint32)
    low, high = values.min(), values.max()
    if packing.startswith("ppm"):
        return Image.fromarray(scaled(values, 16)), 0
    if ";16" in image.mode + packing and low >= 0:
        needed = bits_of(values, bits)
        shades = scaled(values, needed)
        shades[values == image.info.get("transparency", -1)] = 255
        return Image.fromarray(shades), needed
    if image.mode == "F" and low >= 0 and high <= 1:  # not so for NaN
        return Image.fromarray(scaled(values, 1)), 0
    kind = "floats outside 0 to 1" if image.mode == "F" else "integers of 32 bits" if low >= 0 else "integers below 0"
    raise beyond(path, kind, low, high)


def colours_in_eight_bits(image: Image.Image, path: Path, packing: str, bits: int | None) -> tuple[Image.Image, int]:
    """Colours of 16 bits in 8, and how many bits they need.

    Pillow reads the upper 8 bits of each; the lower ones are what it reads from the same file in the other byte order.

    Args:
        image: the upper bits.
        path: the file.
        packing: see `packing_of`.
        bits: as for `read_image`.

    Raises:
        Unreadable: the upper bits are empty, and the lower ones can't be had.
    """
    upper = numpy.asarray(image)
    colours = slice(None) if image.mode == "CMYK" else slice(3)
    clear = image.info.get("transparency")
    if clear is None and ((bits or 0) > 14 or upper[..., colours].max() >= 2**6):
        return image, 16
    other = LOWER[packing]
    if other is None:
        kind = "grey of less than 16 bits in 16, with transparency"
        raise Unreadable(path, f"its pixels are {kind}; save them in 8 bits", f"as their pixels are {kind}")
    with unpacked(path) as file:
        file.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other) for tile in file.tile
        ]
        lower = numpy.asarray(ImageOps.exif_transpose(file))
    values = 256 * upper.astype(numpy.uint16) + lower
    needed = bits_of(values[..., colours], bits)
    parts = [scaled(values[..., colours], needed)]
    if clear is not None:
        parts[0][(values == clear).all(-1)] = 255
    if values.shape[2] > parts[0].shape[2]:
        parts.append(scaled(values[..., 3:], bits_of(values[..., 3:], None)))
    return Image.fromarray(numpy.concatenate(parts, 2), image.mode), needed


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
    return {ending for ending, name in Image.registered_extensions().items() if name not in STARTS_A_PROGRAM}


class Decoded(NamedTuple):
    """Pixels, uint8 `[files, 3, size, size]`; why files could not be read, by their numbers (their pixels are black);
    the files with further images, of which the first is read; and how many bits count in those of 16, 0 if there are
    none."""

    pixels: Tensor
    damaged: dict[int, str]
    several: list[int]
    bits: int


def decode(files: Sequence[Path], size: int, cache: str | Path | None = None, bits: int = 0) -> Decoded:
    """The images of files, decoded by all cores at the first call and then mapped from a file in the cache.

    It is made again when the name, the size or the time of a file has changed. It appears whole or not at all; of
    processes that need the same one, the first writes it and the others wait.

    Args:
        files: image files.
        size: as for `read_image`.
        cache: the folder of the file, by default the user's cache folder.
        bits: that count at least in files of 16 bits; as many as the one with the most needs count in all of them.
    """
    states = [file.stat() for file in files]
    known_as = [(str(file), state.st_size, state.st_mtime_ns) for file, state in zip(files, states, strict=True)]
    key = hashlib.sha256(repr((FORMAT, size, bits, known_as)).encode()).hexdigest()[:32]
    path = cache_folder(cache) / "images" / f"{key}.bin"
    shape = (len(files), 3, size, size)
    with locked(path.with_suffix(".lock")):
        if not is_whole(path, shape):
            write(files, size, bits, path, sum(state.st_size for state in states))
    pixels = torch.from_numpy(numpy.memmap(path, numpy.uint8, "c", shape=shape))  # torch warns about read-only memory
    found = read_json(path.with_suffix(".json"))
    damaged = {int(number): reason for number, reason in found["damaged"].items()}
    return Decoded(pixels, damaged, found["several"], found["bits"])


def is_whole(path: Path, shape: Sequence[int]) -> bool:
    """Whether the cache has all pixels, and what was found out about the files."""
    about = read_json(path.with_suffix(".json"))
    kinds = {"damaged": dict, "several": list, "bits": int}
    found = all(isinstance(about.get(name), kind) for name, kind in kinds.items())
    return found and path.is_file() and path.stat().st_size == math.prod(shape)


def write(files: Sequence[Path], size: int, bits: int, path: Path, total: int) -> None:
    """Decodes the files into one; the list of those that could not be read is written last, beside it."""
    print(f"reading {len(files):,} images once; their pixels are kept in {path}", file=sys.stderr)
    damaged: dict[int, str] = {}
    several: list[int] = []
    needed: dict[int, int] = {}

    def pixels(number: int) -> bytes:
        try:
            image, has_more, of_file = first_frame(files[number], size, bits)
        except UserError as error:
            damaged[number] = getattr(error, "reason", "as they can't be read")
            return bytes(3 * size * size)
        if has_more:
            several.append(number)
        if of_file:
            needed[number] = of_file
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
        count_in_all = max(needed.values(), default=0)
        for number in (number for number, of_file in needed.items() if of_file < count_in_all):
            out.seek(number * 3 * size * size)
            out.write(read_image(files[number], size, count_in_all).numpy().tobytes())
    write_json(path.with_suffix(".json"), {"damaged": damaged, "several": sorted(several), "bits": count_in_all})


class Labelled(NamedTuple):
    """The images that can be read, what is to be said of the others, and `Decoded.bits`."""

    images: Images
    notes: list[str]
    bits: int


def labelled(found: Found, classes: Sequence[str], size: int, cache: str | Path | None, bits: int = 0) -> Labelled:
    """The images of some files with their classes.

    Raises:
        UserError: a class is not among `classes`, or no file can be read.
    """
    if unseen := sorted(set(found.labels).difference(classes)):
        raise UserError(f"{found.files[found.labels.index(unseen[0])]}: its class is not among those of training")
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers[label] for label in found.labels])
    files = found.files
    pixels, damaged, several, bits = decode(files, size, cache, bits)
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
    if 0 < bits < 16:
        notes.append(f"of files with 16 bits, {bits} count, as no value needs more")
    return Labelled(images, notes, bits)
