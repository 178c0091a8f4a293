"""How a program of its own, beside `train.py`, ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from unroll.errors import UserError


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """A mistake of the user ends the program with one line, Ctrl-C and a closed pipe (`… | head`) without any."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at the end
        sys.exit(1)
