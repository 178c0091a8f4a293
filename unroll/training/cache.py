"""The cache: downloads, and what can be made again from the user's files."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from unroll.errors import UserError, require


def download(url: str, sha256: str, cache: str | Path | None = None) -> Path:
    """A file from the web, or from a `file://` address, checked against its sha256; downloaded once, then cached.

    The file appears in the cache whole or not at all, so processes that start at once don't disturb each other.

    Args:
        url: the address.
        sha256: the expected checksum, in hexadecimal digits.
        cache: the folder to keep it in; by default the user's cache folder.

    Raises:
        UserError: it can't be downloaded, or has another checksum.
    """
    require("a download", "app", "pooch")
    import pooch  # half a second to import, for downloads alone

    address = urlparse(url)
    if address.scheme == "file":
        return verified(Path(url2pathname(address.path)), sha256)
    folder = Path(cache).expanduser() if cache else pooch.os_cache("unroll")
    name = Path(address.path).name or "download"
    pooch.get_logger().setLevel("WARNING")
    try:
        if (folder / name).exists():
            return verified(folder / name, sha256)
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, progressbar=True))
    except UserError as error:
        raise UserError(f"{error}; delete it to have it downloaded again") from None
    except Exception as error:  # requests and pooch raise many kinds
        reason = "its checksum is not the expected one" if "hash" in str(error) else f"{type(error).__name__}"
        raise UserError(
            f"{url} could not be downloaded ({reason}); try again when online, or give a copy: data.path=FILE"
        ) from None


def given_or_downloaded(path: str | None, url: str, sha256: str, cache: str | None) -> Path:
    """A copy that the user has, or the file from the web.

    Args:
        path: of the copy; None if there is none.
        url, sha256, cache: as for `download`.

    Raises:
        UserError: as for `download`.
    """
    return Path(path).expanduser() if path else download(url, sha256, cache)


def verified(path: Path, sha256: str) -> Path:
    """The path of a file that has the expected checksum.

    Raises:
        UserError: the file is missing, or has another checksum.
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if found != sha256:
        raise UserError(
            f"{path}: not the expected file, or incomplete (its sha256 is {found[:12]}…, not {sha256[:12]}…)"
        )
    return path


def cache_folder(cache: str | Path | None) -> Path:
    """The folder for what can be made again; by default the user's cache folder."""
    if cache:
        return Path(cache).expanduser()
    require("the cache folder", "app", "platformdirs")
    import platformdirs

    return Path(platformdirs.user_cache_dir("unroll"))


@contextmanager
def shown_progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal."""
    require("a progress bar", "app", "rich")
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda size: bar.advance(task, size)
