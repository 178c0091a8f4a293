"""Where text comes from."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from num2words import num2words

from lm.errors import UserError


@cache
def spell(number: int) -> str:
    """A number below a million in plain English words: 8143 → "eight thousand one hundred forty three"."""
    thousands, rest = divmod(number, 1000)
    if thousands:  # thousands of numbers share these parts
        return f"{spell(thousands)} thousand {spell(rest)}" if rest else f"{spell(thousands)} thousand"
    return num2words(number).replace("-", " ").replace(" and ", " ")


def human_numbers(train: Sequence[int] = (1, 7999), valid: Sequence[int] = (8001, 9999)) -> tuple[str, str]:
    """Two documents; the lesson's are 1…7999 to train on and 8001…9999 to validate on (8000 is in neither).

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


def download(url: str, sha256: str, cache: str | Path | None = None) -> Path:
    """A file of the web, or of a `file://` address, checked against its sum; downloaded once, then cached.

    The file appears in the cache whole or not at all, so processes that start at once don't disturb each other.

    Args:
        url: where it is.
        sha256: its sum, in hexadecimal digits.
        cache: the folder to keep it in; by default the user's cache folder.

    Raises:
        UserError: it cannot be had, or is not the file that is meant.
    """
    import pooch  # half a second that only a download needs

    address = urlparse(url)
    if address.scheme == "file":
        return checked(Path(url2pathname(address.path)), sha256)
    folder = Path(cache).expanduser() if cache else pooch.os_cache("unroll")
    name = Path(address.path).name or "download"
    pooch.get_logger().setLevel("WARNING")
    try:
        if (folder / name).exists():
            return checked(folder / name, sha256)
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, progressbar=True))
    except UserError as error:
        raise UserError(f"{error}; delete it to have it downloaded again") from None
    except Exception as error:  # requests and pooch raise many kinds
        reason = "its sum is not the expected one" if "hash" in str(error) else f"{type(error).__name__}"
        raise UserError(
            f"{url} could not be downloaded ({reason}); try again when online, or give a copy: data.path=FILE"
        ) from None


def checked(path: Path, sha256: str) -> Path:
    """The path, once the file's sum has been found right.

    Raises:
        UserError: the file is missing, or has another sum.
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if found != sha256:
        raise UserError(
            f"{path}: not the expected file, or not whole (its sha256 is {found[:12]}…, not {sha256[:12]}…)"
        )
    return path


def lines_between(text: str, start: float, end: float) -> str:
    """The lines of a text between two shares of them: from 0 to 0.8 is the first four fifths."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[int(start * len(lines)) : int(end * len(lines))])
