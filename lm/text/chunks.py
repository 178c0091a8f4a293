"""Text files of any size, read in chunks. No token crosses the edge of a chunk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reading.text import UTF_8, not_text, refuse_device, stray
from unroll.errors import UserError

CHUNK = 2**20  # bytes
REACH = 2**16  # bytes in which the end of a chunk is looked for
LINE_END, BLANK = re.compile(rb"\n"), re.compile(rb"[ \n\t]")
CHARACTER = re.compile(rb"(?s)(?!\r\n).[\x80-\xbf]*(?![\x80-\xbf])")  # up to the beginning of the next one
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Readable(Protocol):
    def read(self) -> str: ...


@dataclass(frozen=True)
class Text:
    """A text in memory."""

    content: str

    def read(self) -> str:
        return self.content


@dataclass(frozen=True)
class Chunk:
    """The bytes `[start, stop)` of a UTF-8 file."""

    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> str:
        """Its text, with line ends as `\\n`.

        Raises:
            UserError: it is not UTF-8 text.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start)
            content = file.read(len(self))
        try:
            text = content.decode()
            place = stray(text, UTF_8)
        except UnicodeDecodeError as error:
            place = error.start
        if place is not None:
            raise not_text(self.path, content, UTF_8, place, self.start)
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def whole(path: str | Path) -> Chunk:
    """A text file as one chunk.

    Raises:
        UserError: the file is missing, not a file, or empty.
    """
    path = Path(path).expanduser()
    refuse_device(path)
    try:
        with open(path, "rb") as file:
            beginning = file.read(REACH)
            size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    start = len(BYTE_ORDER_MARK) if beginning.startswith(BYTE_ORDER_MARK) else 0
    if size <= REACH and not beginning[start:].strip():
        raise UserError(f"{path}: the file is empty")
    return Chunk(path, start, size)


def without_end(chunk: Chunk, fraction: float, words: bool) -> tuple[Chunk, Chunk]:
    """A chunk without the last share of its bytes, and that share; `words`: no word is cut."""
    cut = edge(chunk, chunk.stop - round(len(chunk) * fraction), [BLANK] if words else [])
    return Chunk(chunk.path, chunk.start, cut), Chunk(chunk.path, cut, chunk.stop)


def chunks_of(chunk: Chunk, size: int = CHUNK) -> Iterator[Chunk]:
    """Pieces of about `size` bytes, one after the other; each but the last ends after a line, or a word."""
    start = chunk.start
    while start < chunk.stop:
        stop = edge(chunk, start + size, [LINE_END, BLANK])
        yield Chunk(chunk.path, start, stop)
        start = stop


def edge(chunk: Chunk, place: int, behind: list[re.Pattern[bytes]]) -> int:
    """The first byte from `place` on that follows one of these, the first pattern first.

    If none is near, it is the end of the chunk, if that is near, or else the first byte of a character.
    """
    if place >= chunk.stop:
        return chunk.stop
    before = max(place - 1, chunk.start)
    with open(chunk.path, "rb") as file:
        file.seek(before)
        near = file.read(min(REACH, chunk.stop - before))
    for pattern in behind:
        if found := pattern.search(near):
            return before + found.end()
    if behind and before + len(near) == chunk.stop:
        return chunk.stop
    character = CHARACTER.search(near)
    return before + character.end() if character else chunk.stop
