"""Files that are found whole by whoever reads them, even after a process was killed while writing."""

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Gives a file's name to an error of the system that has none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; at the end it replaces `path`, after an error it is deleted.

    Nothing is written through a symbolic link: one in the place of either file is replaced.

    Raises:
        OSError: what the block or the system raises, with `path` as its `filename` if it names none, as of a full disk.
    """
    unfinished = path.with_name(f"{path.name}.tmp")  # of a.npz and a.json not the same
    unfinished.unlink(missing_ok=True)
    try:
        with named(path):
            yield unfinished
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds a lock for as long as the block runs; on file systems without locks it does nothing.

    Raises:
        BlockingIOError: another process has the lock, and `wait` is false.
        OSError: the file can't be opened, as where a symbolic link is in its place: none is followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except (ImportError, OSError):  # Windows; some network drives
            pass
        yield


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; an empty dict if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Any) -> None:
    """Writes the file whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes the file whole, in UTF-8."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def check_plain_archive(path: str | Path) -> None:
    """Refuses a zip archive that `torch.save` or `numpy.savez` has not written: theirs are not compressed.

    A small compressed archive, or one whose members overlap, can stand for any number of bytes.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no such archive.
        zipfile.BadZipFile: it is no archive.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a device has no end
        raise ValueError("not a file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("larger than the file")
