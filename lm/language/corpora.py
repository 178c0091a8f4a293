"""Where text comes from."""

from collections.abc import Sequence
from functools import cache

from num2words import num2words


@cache
def spell(number: int) -> str:
    """A number below a million in plain English words: 8143 → "eight thousand one hundred forty three"."""
    thousands, rest = divmod(number, 1000)
    if thousands:  # thousands of numbers share these parts
        return f"{spell(thousands)} thousand {spell(rest)}" if rest else f"{spell(thousands)} thousand"
    return num2words(number).replace("-", " ").replace(" and ", " ")


def human_numbers(train: Sequence[int] = (1, 7999), valid: Sequence[int] = (8001, 9999)) -> tuple[str, str]:
    """The training and the validation text: by default the lesson's, 1 to 7999 and 8001 to 9999 (8000 is in neither).

    Args:
        train: the first and the last number to train on.
        valid: to validate on.

    Returns:
        The training and the validation text, the numbers joined by " , " and `xxbos` (beginning of stream)
        in front; the lesson's have 50,079 and 13,017 tokens when split at blanks.
    """

    def document(first: int, last: int) -> str:
        return "xxbos " + " , ".join(map(spell, range(first, last + 1)))

    return document(*train), document(*valid)


def lines_between(text: str, start: float, end: float) -> str:
    """The lines of a text between two shares of them: from 0 to 0.8 is the first four fifths."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[int(start * len(lines)) : int(end * len(lines))])
