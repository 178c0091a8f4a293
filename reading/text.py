"""Text in files: compressed or not, and in which encoding."""

import bz2
import codecs
import gzip
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unroll.errors import ArgumentError, UserError, require

UTF_8 = "utf-8"
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ENDINGS = (*COMPRESSED, ".zst")
MARKS = {  # the longer one first: the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
OTHER_FILES = {  # how they begin
    b"\x1f\x8b": "compressed by gzip; its name must end in .gz",
    b"BZh": "compressed by bzip2; its name must end in .bz2",
    b"\xfd7zXZ": "compressed by xz; its name must end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; its name must end in .zst",
    b"PAR1": "a Parquet file; its name must end in .parquet",
    b"ARROW1": "an Arrow file; its name must end in .arrow",
    b"PK\3\4": "a ZIP archive, such as .zip, .xlsx and .docx files are, not text",
    b"\xd0\xcf\x11\xe0": "a file of Excel or Word, not text",
    b"\x89HDF": "an HDF5 file, not text",
    b"SQLite format 3": "a database of SQLite, not text",
    b"%PDF": "a PDF file, not text",
}
TABLES = (".parquet", ".arrow")
SETTING, OPTION = "data.encoding=", "--encoding "  # how a run, and a command, is told the encoding
NUL, STRAY = re.compile("\0"), re.compile("[\0\x80-\x84\x86-\x9f]")
WORD = re.compile(r"[^\W\d_]*[^\x00-\x7f\W\d_][^\W\d_]*")  # of which a letter is not ASCII
TWO_SCRIPTS = re.compile(  # Greek, Cyrillic, Hebrew, Arabic, Thai, …; a character of East Asia within a word
    "[a-zA-Z][\u0370-\u0fff]|[\u0370-\u0fff][a-zA-Z]|[a-zA-Z][\u3041-\u9fff\uac00-\ud7a3][a-z]"
)
KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
LOOKED_AT = 2**17  # bytes around what can't be read
SHOWN = 30  # characters
AS_LIKELY = 0.8  # of the best guess's confidence
FEW_NUL = 0.25  # of the bytes: there are more in UTF-16
UNSURE = 0.1  # a confidence
FEW_BYTES = 4
USUAL = ("cp1252", "cp932", "euc_kr", "cp1251")  # of guesses that are as likely
JAPANESE = ("cp932", "euc_jp")
SUPERSETS = {
    "iso8859_1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis_2004": "cp932",
    "euc_jis_2004": "euc_jp",
}


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def ending_of(path: Path) -> str:
    """The ending in small letters, that of a compressed file apart."""
    endings = [suffix.lower() for suffix in path.suffixes]
    while endings and endings[-1] in ENDINGS:
        endings.pop()
    return endings[-1] if endings else ""


def opened(path: Path) -> IO[bytes]:
    """The uncompressed content of a file."""
    ending = path.suffix.lower()
    if ending in COMPRESSED:
        return COMPRESSED[ending](path, "rb")
    if ending != ".zst":
        return open(path, "rb")
    try:
        import zstandard
    except ImportError:
        raise UserError(f"{path}: reading .zst files needs the zstandard library: pip install zstandard") from None
    return zstandard.open(path, "rb")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of a file that is read in this block in one line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        if getattr(error, "filename", None) not in (None, str(path)):
            raise  # of another file, such as a copy of this one on a full disk
        strerror = getattr(error, "strerror", None)
        if is_compressed(path) and not strerror:
            raise UserError(f"{path}: not a whole {path.suffix} file ({error})") from None
        raise UserError(f"{path}: cannot be read ({strerror or error})") from None


def refuse_device(path: Path) -> None:
    """Refuses what may have no end, or wait for ever to be written to.

    Raises:
        UserError: it is there, and is neither a file nor a folder: a device, a pipe or a socket.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: not a file, but a device or a pipe; save what it gives as a file")


def read_text(path: Path, encoding: str = UTF_8, setting: str = SETTING) -> str:
    """The text of a file, without a byte order mark; line ends as they are.

    Args:
        path: the file.
        encoding: as Python names it; a byte order mark overrules it.
        setting: how the user says it.

    Raises:
        UserError: the file can't be read, or is not text in this encoding.
    """
    refuse_device(path)
    return read_any(path, encoding, setting)


def read_any(path: Path, encoding: str, setting: str) -> str:
    with reading(path), opened(path) as file:
        content = file.read()
    return decoded(content, encoding, path, setting)


def read_argument(name: str, encoding: str = UTF_8) -> str:
    """The text of a file or pipe that a command is given, or of standard input for `-`, as `read_text`."""
    if name == "-":
        return decoded(sys.stdin.buffer.read(), encoding, "standard input", OPTION)
    return read_any(Path(name), encoding, OPTION)


def decoded(content: bytes, encoding: str, name: str | Path, setting: str = SETTING) -> str:
    """The text of some bytes, as `read_text`.

    Args:
        content: the bytes.
        encoding, setting: as for `read_text`.
        name: of their file, for messages.
    """
    encoding = marked(content) or known_encoding(encoding)
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise not_text(name, content, encoding, getattr(error, "start", 0), setting=setting) from None
    if (place := stray(text, encoding)) is not None:
        raise not_text(name, content, encoding, len(text[:place].encode(encoding, "replace")), setting=setting)
    if MayBeUTF8(encoding).add(content, text, last=True):
        raise is_utf_8(name, encoding, setting)
    return text


def marked(content: bytes) -> str | None:
    """The encoding that a byte order mark stands for, if the bytes begin with one."""
    return next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)


def stray(text: str, encoding: str) -> int | None:
    """Where there is a character that no text has, as in one that is decoded wrongly: NUL, or, unless the encoding is
    UTF-8, a control character of Latin-1."""
    found = (NUL if encoding.startswith("utf") else STRAY).search(text)
    return found.start() if found else None


def not_text(
    name: str | Path, content: bytes, encoding: str, place: int = 0, offset: int = 0, setting: str = SETTING
) -> UserError:
    """What to raise for bytes that are no text in this encoding: it says which one fits, and how they read in it.

    Args:
        name: of the file.
        content: the bytes.
        encoding: the one that does not fit.
        place: the first byte that can't be read.
        offset: of the first of the bytes in the file.
        setting: how the user says an encoding.
    """
    kind = next((kind for begins, kind in OTHER_FILES.items() if not offset and content.startswith(begins)), None)
    if kind is not None:
        what, _, ending = kind.partition("; its name must end in ")
        if ending and str(name).lower().endswith(ending):
            kind = f"{what}, not text" + ("; hf:FOLDER reads those in a folder" if ending in TABLES else "")
        return UserError(f"{name}: is {kind}")
    called = "UTF-8" if encoding == UTF_8 else encoding
    nul = content.count(b"\0")
    if 0 < nul < FEW_NUL * len(content) and reads(content.replace(b"\0", b""), encoding):
        return UserError(
            f"{name}: byte {offset + place} is NUL ({nul:,} in all), which no text has; without it the rest is {called}"
        )
    wrong = f"{name}: not {called} text (byte {offset + place} cannot be read"
    start = content.rfind(b"\n", 0, max(0, place - LOOKED_AT)) + 1
    content, place = content[start : place + LOOKED_AT], place - start
    if is_damaged(content, encoding):
        return UserError(f"{wrong}; the rest is, so the file is damaged there)")
    better = fitting(content)
    if better is None or better == encoding:
        holds = "; it holds NUL bytes" if nul else ""
        return UserError(f"{wrong}), nor in another usual encoding{holds}; is it a text file?")
    before = len(content[:place].decode(better, "ignore"))
    text = content.decode(better, "ignore")
    begin = max(text.rfind("\n", 0, before) + 1, before - SHOWN // 2)
    sample = " ".join(text[begin : begin + SHOWN].split("\n")[0].split())
    return UserError(f"{wrong}); as {better} it reads “{sample}”: {setting}{better}")


def is_damaged(content: bytes, encoding: str) -> bool:
    """Whether bytes are in an encoding but for a few that are not: of UTF-8, far fewer than those that are."""
    text = content.decode(encoding, "replace")
    wrong = text.count("\ufffd")
    if not wrong or b"\0" in content:
        return False
    if encoding == UTF_8:
        return 5 * wrong < sum(not character.isascii() for character in text)
    name = codecs.lookup(encoding).name.replace("-", "_")
    return fitting(content.decode(encoding, "ignore").encode(encoding)) == name


def fitting(content: bytes) -> str | None:
    """The encoding, as Python names it, that bytes are most likely in; None if they are no text in a usual one."""
    require("to find an encoding", "app", "chardet")
    from chardet import EncodingEra, detect_all

    telling = content if b"\0" in content else b"\n".join(line for line in content.split(b"\n") if not line.isascii())
    found = detect_all(
        telling,
        ignore_threshold=True,
        encoding_era=EncodingEra.MODERN_WEB | EncodingEra.LEGACY_ISO,
        compat_names=False,
    )
    for encoding in JAPANESE:
        if reads(telling, encoding) and is_kana(telling.decode(encoding, "ignore")):
            return encoding
    alone = not re.search(rb"[\x80-\xff]{2}", telling)
    if alone and found[0]["confidence"] < UNSURE and reads(content, USUAL[0]):  # a degree sign, or a single accent
        return USUAL[0]
    readable: dict[str, float] = {}  # the confidence of each guess that it can be
    for guess in found:
        if guess["encoding"] is not None:
            encoding = codecs.lookup(guess["encoding"]).name.replace("-", "_")
            names = (name for name in (SUPERSETS.get(encoding, encoding), encoding) if reads(content, name))
            readable |= {name: guess["confidence"] for name in names if name not in readable}
    most = max(readable.values(), default=0)
    likely = [encoding for encoding, confidence in readable.items() if confidence >= AS_LIKELY * most]
    return next((encoding for encoding in USUAL if encoding in likely), likely[0] if likely else None)


def reads(content: bytes, encoding: str) -> bool:
    """Whether bytes, of which the last character may be cut, are text in an encoding: of few words in two scripts."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeError:
        return False
    words = WORD.findall(text)
    return stray(text, encoding) is None and 4 * sum(map(bool, map(TWO_SCRIPTS.search, words))) <= len(words)


def is_kana(text: str) -> bool:
    """Whether half of the characters that are not ASCII are syllables of Japanese."""
    others = sum(not character.isascii() for character in text)
    return 2 * len(KANA.findall(text)) > others


class MayBeUTF8:
    """Whether bytes that are read block by block in another encoding are UTF-8, which text in it hardly ever is, unless
    few characters have several bytes each."""

    def __init__(self, encoding: str) -> None:
        self.reads = not encoding.startswith("utf")
        self.decoder = codecs.getincrementaldecoder(UTF_8)()
        self.surplus = 0  # bytes without a character of their own in UTF-8
        self.several = False  # whether characters have several bytes in the other encoding

    def add(self, block: bytes, text: str, last: bool) -> bool:
        """Whether all blocks, of which this is the next one, are.

        Args:
            block: the bytes.
            text: what the other encoding reads.
            last: whether there are no more.
        """
        if self.reads:
            try:
                self.surplus += len(block) - len(self.decoder.decode(block, last))
            except UnicodeDecodeError:
                self.reads = False
        self.several |= len(text) < len(block)
        return last and self.reads and self.surplus >= (FEW_BYTES if self.several else 1)


def is_utf_8(name: str | Path, encoding: str, setting: str) -> UserError:
    """What to raise then (arguments as for `not_text`)."""
    return UserError(f"{name}: is UTF-8, which {encoding} reads as other characters: {setting}{UTF_8}")


def known_encoding(encoding: str) -> str:
    """Python's own name of an encoding.

    Raises:
        ArgumentError: there is no such encoding, or it is none of texts.
    """
    try:
        b"\xff".decode(encoding, "replace")
        return codecs.lookup(encoding).name
    except (LookupError, TypeError, ValueError):
        raise ArgumentError("encoding", encoding, "an encoding that Python knows, such as utf-8 or latin-1") from None
