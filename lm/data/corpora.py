"""Where text comes from."""

from pathlib import Path

from num2words import num2words

from lm.errors import UserError


def spell(number: int) -> str:
    """A number in plain English words: 8143 → "eight thousand one hundred forty three"."""
    words = num2words(number).replace("-", " ").replace(",", "")
    return words.replace(" and ", " ")


def human_numbers() -> tuple[str, str]:
    """The two documents of the lesson: 1…7999 to train on, 8001…9999 to validate on (8000 is in neither).

    Returns:
        The training and the validation text, the numbers joined by " , " and `xxbos` (beginning of stream)
        in front; 50,079 and 13,017 tokens when split at blanks.
    """

    def document(numbers: range) -> str:
        return "xxbos " + " , ".join(map(spell, numbers))

    return document(range(1, 8000)), document(range(8001, 10000))


def read_text(path: str | Path) -> str:
    """A UTF-8 text file, whole.

    Raises:
        UserError: the file is missing, not a file, empty, or not UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start} cannot be read)") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise UserError(f"{path}: not a text file (it holds NUL bytes)")
    if not text.strip():
        raise UserError(f"{path}: the file is empty")
    return text
