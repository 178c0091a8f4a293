"""Tiny Shakespeare, the text of char-rnn and nanoGPT."""

from collections.abc import Mapping, Sequence
from typing import Any

from lm.data.encoding import Encoded, encode
from lm.data.module import TextData, TwoShares, check_splits
from lm.data.pieces import Text, whole
from unroll.downloads import download


class Shakespeare(TextData):
    """1,115,394 characters of Shakespeare's plays, 65 different ones.

    Args:
        url, sha256, cache: as for `unroll.downloads.download`.
        path: a file of one's own instead.
        characters: the characters of each split, "train" and "valid", from one share of the text to another.
        text: as for `TextData`.
    """

    def __init__(
        self,
        url: str,
        sha256: str,
        path: str | None,
        cache: str | None,
        characters: Mapping[str, Sequence[float]],
        **text: Any,
    ) -> None:
        super().__init__(**{"tokenizer": "characters", "unknown": False, **text})
        check_splits("characters", characters, TwoShares)
        self.source = (url, sha256, path, cache)
        self.characters = characters

    def read(self) -> Encoded:
        url, sha256, path, cache = self.source
        text = whole(path or download(url, sha256, cache)).read()
        shares = (self.characters[split] for split in ("train", "valid"))
        train, valid = (Text(text[int(start * len(text)) : int(end * len(text))]) for start, end in shares)
        return encode(train, valid, self.recipe)
