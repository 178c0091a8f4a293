"""Errors whose message is written for the person who typed the command."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]


class UserError(ValueError):
    """A value, a file or a combination that a user gave is wrong.

    The message is one line that says what is wrong and what would be right.
    """


class ArgumentError(UserError):
    """An argument has a value outside its range (see `unroll.checks`)."""

    def __init__(self, name: str, value: Any, wanted: str) -> None:
        super().__init__(f"{name}={value}: must be {wanted}")
        self.name = name


class Interrupted(SystemExit):
    """A signal stopped the run after its checkpoint was written.

    It is a `SystemExit`, so that a sweep stops with the run.
    """


def install_command(extra: str) -> str:
    """The command that installs an extra: of the checkout that this file is in, or of the installed distribution."""
    if (CHECKOUT / "pyproject.toml").is_file():
        return f"pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'unroll-rnn[{extra}]'"


def require(who: str, extra: str, *libraries: str) -> None:
    """Checks that the libraries of an extra are installed, without importing them.

    Args:
        who: what needs them, as the message begins.
        extra: the name of the extra that brings them.
        libraries: their modules.

    Raises:
        UserError: one of them is not installed.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise UserError(f"{who} needs the {library} library: {install_command(extra)}")
