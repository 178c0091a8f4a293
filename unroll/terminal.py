"""What a program says on the terminal, and how it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from unroll.errors import UserError


def rank() -> int:
    """Which of a run's processes this is, as set by torchrun, srun or Lightning's launcher."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def say(message: str) -> None:
    """Prints a message to standard error, in the first process alone."""
    if rank() == 0:
        print(message, file=sys.stderr)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """A mistake of the user, or a refusal of the system, ends the program with one line, Ctrl-C and a closed pipe (`… |
    head`) without any.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at the end
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        if error.strerror is None:
            raise
        sys.exit(f"error: {error.filename or 'standard output'}: {error.strerror}")


def one_line(message: str) -> str:
    """A message on one line, whatever names of files and their content it quotes; no control character is left."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in message).split())
