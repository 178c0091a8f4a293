"""Text files as they are: compressed, or in another encoding than UTF-8."""

import bz2
import codecs
import gzip
import hashlib
import lzma
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from lm.text.chunks import CHUNK
from unroll.errors import ArgumentError, UserError
from unroll.files import locked, replacing
from unroll.training.cache import cache_folder

UTF_8 = "utf-8"
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


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
    if not path.is_file() or (path.suffix not in (*COMPRESSED, ".zst") and encoding == UTF_8):
        return path
    folder = cache_folder(cache)
    key = hashlib.sha256(repr((checksum(path, folder), path.suffix, encoding)).encode()).hexdigest()[:32]
    copy = folder / "texts" / f"{key}.txt"
    with locked(copy.with_suffix(".lock")):
        if not copy.exists():
            print(f"keeping {path} as plain text in {copy}", file=sys.stderr)
            decoder = codecs.getincrementaldecoder(encoding)()
            try:
                with opened(path) as source, replacing(copy) as unfinished, open(unfinished, "wb") as target:
                    while block := source.read(CHUNK):
                        target.write(block if encoding == UTF_8 else decoder.decode(block).encode())
                    target.write(decoder.decode(b"", final=True).encode())
            except UnicodeDecodeError:
                raise UserError(f"{path}: not text in the encoding {encoding}") from None
            except UserError:
                raise
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
                raise UserError(f"{path}: not a whole {path.suffix} file ({error})") from None
    return copy


def known_encoding(encoding: str) -> str:
    """Python's own name of an encoding.

    Raises:
        ArgumentError: there is no such encoding.
    """
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise ArgumentError("encoding", encoding, "an encoding that Python knows, such as utf-8 or latin-1") from None


def opened(path: Path) -> IO[bytes]:
    """The uncompressed content of a file."""
    if path.suffix in COMPRESSED:
        return COMPRESSED[path.suffix](path, "rb")
    if path.suffix != ".zst":
        return open(path, "rb")
    try:
        import zstandard
    except ImportError:
        raise UserError(f"{path}: reading .zst files needs the zstandard library: pip install zstandard") from None
    return zstandard.open(path, "rb")
