"""Text files as they are: compressed, or in another encoding than UTF-8."""

import codecs
import hashlib
import sys
from pathlib import Path

from lm.text.chunks import CHUNK
from reading.datasets import load
from reading.text import (
    SETTING,
    UTF_8,
    MayBeUTF8,
    is_compressed,
    is_utf_8,
    known_encoding,
    marked,
    not_text,
    opened,
    reading,
    stray,
)
from unroll.errors import UserError
from unroll.files import locked, replacing
from unroll.training.cache import cache_folder


def checksum(path: Path, folder: Path) -> str:
    """The sha256 of a file's content, cached for as long as its size and modification time stay the same."""
    status = path.stat()
    known_as = repr((str(path.resolve()), status.st_size, status.st_mtime_ns))
    remembered = folder / "sums" / hashlib.sha256(known_as.encode()).hexdigest()[:32]
    with locked(remembered.with_suffix(".lock")):
        if not remembered.exists():
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(CHUNK):
                    digest.update(block)
            with replacing(remembered) as unfinished:
                unfinished.write_text(digest.hexdigest())
        return remembered.read_text()


def text_of_dataset(path: str, split: str, column: str, cache: str | Path | None = None) -> Path:
    """A file of the texts in a data set of Hugging Face, each of which ends a line; it is made once, in the cache.

    Args:
        path, split: as for `reading.datasets.load`.
        column: of the texts.
        cache: as for `plain_text`.

    Raises:
        UserError: the data set can't be read, or the column is not there or has something else than texts.
    """
    dataset = load(path, split)
    if column not in dataset.column_names:
        named = ", ".join(dataset.column_names)
        raise UserError(f"{path}: there is no column {column}; choose one of {named}: data.column=…")
    key = hashlib.sha256(repr((dataset._fingerprint, column)).encode()).hexdigest()[:32]
    copy = cache_folder(cache) / "texts" / f"{key}.txt"
    with locked(copy.with_suffix(".lock")):
        if not copy.exists():
            print(f"keeping {path} as plain text in {copy}", file=sys.stderr)
            with replacing(copy) as unfinished, open(unfinished, "w", encoding=UTF_8, newline="") as target:
                for row, text in enumerate(dataset[column]):
                    if not isinstance(text, str):
                        what = "nothing" if text is None else type(text).__name__
                        raise UserError(f"{path}, row {row}: the column {column} holds {what}, not text")
                    target.write(text if text.endswith("\n") else f"{text}\n")
    return copy


def plain_text(path: str | Path, encoding: str = UTF_8, cache: str | Path | None = None) -> Path:
    """A file of uncompressed UTF-8 text: the file itself, or a copy in the cache that is made once.

    Args:
        path: the file; `.gz`, `.bz2`, `.xz` and `.zst` files are decompressed.
        encoding: of the text in it, as Python names it.
        cache: the folder of the copies, as for `cache_folder`.

    Raises:
        UserError: the file can't be decompressed or is not in this encoding.
    """
    path, encoding = Path(path).expanduser(), known_encoding(encoding)
    if not path.is_file():
        return path
    with reading(path), opened(path) as source:
        encoding = marked(source.read(4)) or encoding
    if not is_compressed(path) and encoding in (UTF_8, "utf-8-sig"):
        return path
    folder = cache_folder(cache)
    key = hashlib.sha256(repr((checksum(path, folder), path.suffix, encoding)).encode()).hexdigest()[:32]
    copy = folder / "texts" / f"{key}.txt"
    with locked(copy.with_suffix(".lock")):
        if not copy.exists():
            print(f"keeping {path} as plain text in {copy}", file=sys.stderr)
            with reading(path), opened(path) as source, replacing(copy) as unfinished, open(unfinished, "wb") as target:
                decoder, place, last = codecs.getincrementaldecoder(encoding)(), 0, False
                may_be_utf_8 = MayBeUTF8(encoding)
                while not last:
                    block = source.read(CHUNK)
                    last = not block
                    try:
                        text = decoder.decode(block, final=last)
                        wrong = stray(text, encoding)
                    except UnicodeDecodeError as error:
                        text, wrong = "", error.start
                    if wrong is not None:
                        raise not_text(path, block, encoding, wrong, place)
                    if may_be_utf_8.add(block, text, last):
                        raise is_utf_8(path, encoding, SETTING)
                    target.write(text.encode())
                    place += len(block)
    return copy
