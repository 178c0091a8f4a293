"""The Penn Treebank as Mikolov et al. (2010) prepared it for language models."""

import zipfile
from pathlib import Path
from typing import Literal

from typing_extensions import Unpack

from lm.language.data import TextData, TextSettings
from lm.text.chunks import Text
from lm.text.encoding import Encoded, encode
from lm.text.files import UTF_8
from reading.archives import read_members
from unroll.checks import checked
from unroll.errors import UserError


class PennTreebank(TextData):
    """Lower-case words of the Wall Street Journal: 10,000 of them, `<unk>` for all others and `<eos>` for line ends
    included.

    The text belongs to the Linguistic Data Consortium, so there is no download.

    Args:
        path: the folder with `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`, or a zip archive of them.
        split: what is evaluated: "valid" or "test".
        text: as for `TextData`.
    """

    frequent_words_first = True

    @checked
    def __init__(self, path: str, split: Literal["valid", "test"] = "valid", **text: Unpack[TextSettings]) -> None:
        text.setdefault("tokenizer", "whitespace")
        super().__init__(**text)
        self.path = Path(path).expanduser()
        self.split = split

    def read(self) -> Encoded:
        train, valid = (Text(part(self.path, f"ptb.{split}.txt")) for split in ("train", self.split))
        return encode(train, valid, self.recipe)


def part(path: Path, name: str) -> str:
    """The text of a file in a folder or a zip archive.

    Raises:
        UserError: there is no such file.
    """
    try:
        if path.is_dir():
            return next(path.rglob(name)).read_text(encoding=UTF_8)
        (content,) = read_members(path, lambda names: [next(n for n in names if n.rpartition("/")[2] == name)]).values()
        return content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: {name} is not UTF-8 text") from None
    except (OSError, zipfile.BadZipFile, StopIteration):
        raise UserError(f"{path}: has no {name}; give ptb.zip or the folder that it unpacks to") from None
