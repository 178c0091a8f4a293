"""Data sets in archives, which a small file can be and yet unpack to any number of bytes."""

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from unroll.errors import UserError

LARGEST_UNPACKED = 2**29  # bytes of a data set; CIFAR-10 has 184 million
TOO_LARGE = f"it stands for more than {LARGEST_UNPACKED:,} bytes"


def read_members(path: Path, choose: Callable[[list[str]], Iterable[str]]) -> dict[str, bytes]:
    """The content of the files of a zip archive that `choose` picks from the names of all, by name.

    Raises:
        OSError: the archive can't be opened.
        KeyError: there is no such file in it.
        zipfile.BadZipFile: it is no archive, or damaged.
        UserError: a file can't be read, or they are larger than `LARGEST_UNPACKED` together.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [archive.getinfo(name) for name in choose(archive.namelist())]
            if sum(member.file_size for member in members) > LARGEST_UNPACKED:
                raise ValueError(TOO_LARGE)
            return {member.filename: archive.read(member) for member in members}
    except (ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:  # encrypted
        raise UserError(f"{path}: cannot be read ({error})") from None


class Unpacked(io.BufferedIOBase):
    """An uncompressed stream of a compressed file that ends with a ValueError behind `LARGEST_UNPACKED` bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        if place > LARGEST_UNPACKED:
            raise ValueError(TOO_LARGE)
        return self.file.seek(place, whence)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or self.tell() + size > LARGEST_UNPACKED + tarfile.RECORDSIZE:
            raise ValueError(TOO_LARGE)
        return self.file.read(size)
