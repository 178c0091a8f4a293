"""Tokens to ids and back."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lm.data.tokenizers import Tokenizer

UNKNOWN = "xxunk"
PADDING = "xxpad"
SPECIALS = (UNKNOWN, PADDING)
PADDING_CHARACTER = "\0"  # the Nietzsche lesson's, in a vocabulary that knows every character


class Vocabulary:
    """The tokens a model knows; a token's id is its place in `entries`.

    Args:
        entries: all tokens in the order of their ids. If `UNKNOWN` is among them, it stands for every token
            that is not.
        tokenizer: how text becomes tokens.
    """

    def __init__(self, entries: Sequence[str], tokenizer: Tokenizer) -> None:
        self.entries = list(entries)
        self.tokenizer = tokenizer
        self.ids = {token: index for index, token in enumerate(self.entries)}
        self.unknown_id = self.ids.get(UNKNOWN)

    @classmethod
    def build(cls, tokens: Iterable[str], tokenizer: Tokenizer, min_freq: int = 1) -> "Vocabulary":
        """The tokens seen at least `min_freq` times, sorted, after the `SPECIALS`."""
        counts = Counter(tokens)
        frequent = {token for token, count in counts.items() if count >= min_freq}
        return cls([*SPECIALS, *sorted(frequent.difference(SPECIALS))], tokenizer)

    def __len__(self) -> int:
        return len(self.entries)

    def encode(self, text: str | Sequence[str]) -> Tensor:
        """Ids, int64 `[tokens]`, of a text (which is split first) or of tokens.

        Raises:
            KeyError: a token is not in the vocabulary and the vocabulary has no `UNKNOWN`.
        """
        tokens = self.tokenizer.split(text) if isinstance(text, str) else text
        if self.unknown_id is None:
            ids = [self.ids[token] for token in tokens]
        else:
            ids = [self.ids.get(token, self.unknown_id) for token in tokens]
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The tokens of the ids `[tokens]`."""
        return [self.entries[int(index)] for index in ids]

    def textify(self, ids: Tensor | Sequence[int]) -> str:
        """The text of the ids `[tokens]`."""
        return self.tokenizer.join(self.decode(ids))
