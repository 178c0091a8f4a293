"""Files that a reader, or a run that was killed, finds whole."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write to, beside `path`; it takes the place of `path` at the end, and after an error it is gone."""
    unfinished = path.with_suffix(".tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Keeps others out for as long as the block runs; where the file system knows no locks, it does nothing.

    Raises:
        BlockingIOError: another process has the lock, and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except (ImportError, OSError):  # Windows; some network drives
            pass
        yield


def read_json(path: Path) -> dict[str, Any]:
    """What the file holds; nothing if there is none yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
