"""CIFAR-10 as its authors hand it out (Krizhevsky 2009): records of one byte for the class and 3,072 for the pixels."""

import gzip
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch

from reading.archives import Unpacked
from unroll.errors import UserError
from vision.data.batches import Images

SHAPE = (3, 32, 32)
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
NAMES = "batches.meta.txt"
MEANT = "give cifar-10-binary.tar.gz, or the folder that was unpacked from it"


def read_cifar10(path: Path) -> tuple[Images, Images, list[str]]:
    """The training and the test images, and the names of the classes.

    Args:
        path: the archive of the binary version, or the folder that it unpacks to.

    Raises:
        UserError: it is not that, or not whole.
    """
    files = unpacked(path) if path.is_dir() else in_archive(path)
    for name in (*TRAIN, *TEST, NAMES):
        if name not in files:
            raise UserError(f"{path}: there is no {name} in it; {MEANT}")
    names = files[NAMES].decode("utf-8", "replace").split()
    train, test = (images(path, files, split, len(names)) for split in (TRAIN, TEST))
    return train, test, names


def images(path: Path, files: dict[str, bytes], split: Sequence[str], classes: int) -> Images:
    """The images of a split; each of its files leaves `files` when it has been copied, so that memory has them once."""
    record = 1 + int(numpy.prod(SHAPE))
    for name in split:
        if not (size := len(files[name])) or size % record:
            raise UserError(f"{path}: {name} has {size:,} bytes, not a whole number of records of {record:,}")
    records = numpy.empty((sum(len(files[name]) for name in split) // record, record), numpy.uint8)
    rest = records
    for name in split:
        content = numpy.frombuffer(files.pop(name), numpy.uint8).reshape(-1, record)
        rest[: len(content)] = content
        rest = rest[len(content) :]
    labels = torch.from_numpy(records[:, 0].astype(numpy.int64))
    if labels.max() >= classes:
        raise UserError(f"{path}: there is an image of class {labels.max()}, but names for {classes} classes only")
    return Images(torch.from_numpy(records[:, 1:].reshape(-1, *SHAPE)), labels)


def unpacked(folder: Path) -> dict[str, bytes]:
    try:
        return {file.name: file.read_bytes() for file in folder.iterdir() if file.name in (*TRAIN, *TEST, NAMES)}
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None


def in_archive(path: Path) -> dict[str, bytes]:
    """Nothing is unpacked to the disk, and nothing else in the archive is read."""
    files = {}
    try:
        with gzip.open(path) as content, tarfile.open(fileobj=Unpacked(content), mode="r:") as archive:  # type: ignore[arg-type,call-overload]
            for member in archive:
                name = Path(member.name).name
                if name in (*TRAIN, *TEST, NAMES) and (file := archive.extractfile(member)):
                    files[name] = file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except ValueError as error:
        raise UserError(f"{path}: not an archive that can be read ({error}); {MEANT}") from None
    except Exception as error:  # tarfile, gzip and zlib raise many kinds
        raise UserError(f"{path}: not an archive that can be read ({type(error).__name__}); {MEANT}") from None
    return files
