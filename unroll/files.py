"""Files that are found whole by whoever reads them, even after a process was killed while writing."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; at the end it replaces `path`, after an error it is deleted."""
    unfinished = path.with_name(f"{path.name}.tmp")  # of a.npz and a.json not the same
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds a lock for as long as the block runs; on file systems without locks it does nothing.

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
    """The content of the file; an empty dict if there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_json(path: Path, content: Any) -> None:
    """Writes the file whole."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
