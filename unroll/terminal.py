"""What a program says on the terminal, and how it ends."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from unroll.errors import UserError

CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\r\t"}


def rank() -> int:
    """Which of a run's processes this is, as set by torchrun, srun or Lightning's launcher."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def say(message: str) -> None:
    """Prints a message to standard error, in the first process alone."""
    if rank() == 0:
        print(message.translate(CONTROLS), file=sys.stderr)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """A mistake of the user, or a refusal of the system, ends the program with one line, Ctrl-C and a closed pipe (`… |
    head`) without any.

    What the program prints meanwhile is printed whatever is in it: to a terminal without control characters, and what
    the encoding does not have as Python writes it.
    """
    try:
        with redirect_stdout(printable(sys.stdout)), redirect_stderr(printable(sys.stderr)):
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


class PlainTerminal:
    """A terminal that is given no control characters: names and texts of a stranger's could command it by them."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        written: int = self.stream.write(text.translate(CONTROLS))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def printable(stream: Any) -> Any:
    """A stream that takes any text."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return PlainTerminal(stream) if stream is not None and stream.isatty() else stream


def in_markdown(text: str) -> str:
    """A text on one line that is text in Markdown too: no border of a cell, no HTML, no link."""
    return re.sub(r"[|<`]|](?=[(\[])", r"\\\g<0>", one_line(text))


def one_line(message: str) -> str:
    """A message on one line, whatever names of files and their content it quotes; no control character is left."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in message).split())
