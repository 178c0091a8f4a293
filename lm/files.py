"""Files that a reader, or a run that was killed, finds whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write to, beside `path`; it takes the place of `path` at the end, and after an error it is gone."""
    unfinished = path.with_suffix(".tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
