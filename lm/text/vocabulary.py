"""Tokens to ids and back."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy
import torch
from torch import Tensor

from lm.text.tokenizers import Tokenizer, code_points
from unroll.errors import UserError

UNKNOWN = "xxunk"
MARKED_UNKNOWN = "<unk>"  # in texts whose rare words have been replaced already
PADDING = "xxpad"
SPECIALS = (UNKNOWN, PADDING)
PADDING_CHARACTER = "\0"  # the Nietzsche lesson's, in a vocabulary that knows every character


class UnknownToken(UserError, KeyError):
    """A token is not in the vocabulary, and no token stands for unknown ones."""

    def __str__(self) -> str:
        return f"{self.args[0]!r} does not occur in the training split, and data.unknown=false has no token for it"


class Vocabulary:
    """The tokens a model knows; a token's id is its index in `entries`.

    Args:
        entries: all tokens in the order of their ids. If `UNKNOWN` or `MARKED_UNKNOWN` is among them, it stands for
            every other token.
        tokenizer: how text becomes tokens.

    Raises:
        TypeError: an entry is not a string.
    """

    def __init__(self, entries: Sequence[str], tokenizer: Tokenizer) -> None:
        self.entries = list(entries)
        if not set(map(type, self.entries)) <= {str}:
            raise TypeError("the entries of a vocabulary must be strings")
        self.tokenizer = tokenizer
        self.ids = {token: index for index, token in enumerate(self.entries)}
        self.unknown_id = self.ids.get(UNKNOWN, self.ids.get(MARKED_UNKNOWN))

    @classmethod
    def build(cls, tokens: Iterable[str], tokenizer: Tokenizer, min_freq: int = 1) -> "Vocabulary":
        """The tokens seen at least `min_freq` times, sorted, after the `SPECIALS`."""
        return cls.of_counts(Counter(tokens), tokenizer, min_freq)

    @property
    def has_only_specials(self) -> bool:
        """Whether no token of a text is known."""
        return set(self.entries) <= {*SPECIALS, PADDING_CHARACTER}

    @classmethod
    def of_counts(
        cls,
        counts: Mapping[str, int],
        tokenizer: Tokenizer,
        min_freq: int = 1,
        unknown: bool = True,
        frequent_first: bool = False,
    ) -> "Vocabulary":
        """The same from how often each token was seen; for byte pair encoding the tokenizer has the tokens.

        Args:
            unknown: begin with the `SPECIALS`; else with the `PADDING_CHARACTER` alone. A text that marks its unknown
                words, at least `min_freq` times, gets neither: its vocabulary is its own words.
            frequent_first: in the order of frequency, as `lm.language.heads.AdaptiveHead` needs it.
        """
        if tokenizer.name == "bpe":
            ids = tokenizer.bpe.get_vocab()
            return cls(sorted(ids, key=ids.__getitem__), tokenizer)
        frequent = {token for token, count in counts.items() if count >= min_freq}
        specials = () if MARKED_UNKNOWN in frequent else SPECIALS if unknown else (PADDING_CHARACTER,)
        order = sorted(frequent.difference(specials))
        if frequent_first:
            order.sort(key=counts.__getitem__, reverse=True)  # stable: of equally frequent ones in alphabetical order
        return cls([*specials, *order], tokenizer)

    def __len__(self) -> int:
        return len(self.entries)

    def encode(self, text: str | Sequence[str]) -> Tensor:
        """Ids, int64 `[tokens]`, of a text (which is split first) or of tokens.

        Raises:
            UnknownToken: a token is not in the vocabulary and no token stands for unknown ones.
        """
        if isinstance(text, str):
            return torch.from_numpy(self.numbers(text, numpy.int64))
        return torch.tensor(self._look_up(text), dtype=torch.int64)

    def numbers(self, text: str, dtype: Any) -> numpy.ndarray:
        """Ids of a text, `[tokens]`, in an integer type that holds them.

        Raises:
            UnknownToken: as `encode`.
        """
        tokenizer = self.tokenizer
        if tokenizer.name == "bpe":
            return numpy.array(tokenizer.encoded(tokenizer.cased(text)).ids, dtype)
        if tokenizer.name != "characters":
            return numpy.array(self._look_up(tokenizer.split(text)), dtype)
        points = code_points(tokenizer.cased(text))
        ids = self._of_code_points[numpy.minimum(points, len(self._of_code_points) - 1)]
        if self.unknown_id is None and len(ids) and ids.min() < 0:
            raise UnknownToken(chr(points[ids.argmin()]))
        return ids.astype(dtype)

    def _look_up(self, tokens: Iterable[str]) -> list[int]:
        if self.unknown_id is None:
            try:
                return [self.ids[token] for token in tokens]
            except KeyError as error:
                raise UnknownToken(*error.args) from None
        return [self.ids.get(token, self.unknown_id) for token in tokens]

    @cached_property
    def _of_code_points(self) -> numpy.ndarray:
        """The id of each character by its code point; the last entry is for all beyond."""
        known = {ord(entry): index for index, entry in enumerate(self.entries) if len(entry) == 1}
        table = numpy.full(max(known, default=0) + 2, -1 if self.unknown_id is None else self.unknown_id, numpy.int32)
        table[list(known)] = list(known.values())
        return table

    def decode(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The tokens of the ids `[tokens]`."""
        return [self.entries[int(index)] for index in ids]

    def textify(self, ids: Tensor | Sequence[int]) -> str:
        """The text of the ids `[tokens]`."""
        return self.tokenizer.join(self.decode(ids))
