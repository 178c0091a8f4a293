"""Tiny Shakespeare, the text of char-rnn and nanoGPT."""

from collections.abc import Mapping, Sequence

from typing_extensions import Unpack

from lm.language.data import DownloadedText, DownloadedTextSettings, TwoShares, check_splits
from lm.text.chunks import Text
from lm.text.encoding import Encoded, encode


class Shakespeare(DownloadedText):
    """1,115,394 characters of Shakespeare's plays, 65 different ones.

    Args:
        characters: the characters of each split, "train" and "valid", from one share of the text to another.
        text: as for `DownloadedText`.
    """

    def __init__(self, characters: Mapping[str, Sequence[float]], **text: Unpack[DownloadedTextSettings]) -> None:
        text.setdefault("tokenizer", "characters")
        text.setdefault("unknown", False)
        super().__init__(**text)
        check_splits("characters", characters, TwoShares)
        self.characters = characters

    def read(self) -> Encoded:
        text = self.whole_text()
        shares = (self.characters[split] for split in ("train", "valid"))
        train, valid = (Text(text[int(start * len(text)) : int(end * len(text))]) for start, end in shares)
        return encode(train, valid, self.recipe)
