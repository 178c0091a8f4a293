"""Words as numbers, with their characters and further columns: what a tagger reads."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm.tagging.model import PADDING, UNKNOWN
from lm.tagging.schemes import Scheme

SPECIALS = ["", "xxunk"]  # the entries with the ids PADDING and UNKNOWN
LONGEST_WORD = 20  # characters that are read: of longer words the first and the last ten


class Ids:
    """The ids of a column's values; those that were not seen in training are `UNKNOWN`."""

    def __init__(self, entries: Sequence[str]) -> None:
        self.entries = list(entries)
        self.ids = {entry: number for number, entry in enumerate(entries)}

    @classmethod
    def of(cls, values: Iterable[str], min_freq: int = 1) -> "Ids":
        frequent = sorted(value for value, count in Counter(values).items() if count >= min_freq)
        return cls([*SPECIALS, *(value for value in frequent if value not in SPECIALS)])

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, value: str) -> int:
        return self.ids.get(value, UNKNOWN)


class WordEncoder(NamedTuple):
    """How words become numbers: all that a tagger needs to know of its data. It is kept in the checkpoint.

    Attributes:
        words, characters: their ids.
        extras: the ids of each further column that is read.
        labels: the names of the labels.
        scheme: how they spell spans.
        lower, zero_digits: what is done to words before they are looked up; characters are read as they are.
    """

    words: Ids
    characters: Ids
    extras: dict[str, Ids]
    labels: list[str]
    scheme: Scheme
    lower: bool
    zero_digits: bool

    def encode(self, words: Sequence[str], extras: Mapping[str, Sequence[str]] | None = None) -> Tensor:
        """The inputs of a model for some words, int32 `[words, 1 + extras + characters]`.

        Args:
            words: as they are in the text.
            extras: the values of each further column.
        """
        rows = []
        for number, word in enumerate(words):
            others = [ids[(extras or {})[name][number]] for name, ids in self.extras.items()]
            rows.append([self.words[lookup_form(word, self.lower, self.zero_digits)], *others, *self.spelling(word)])
        return torch.tensor(rows, dtype=torch.int32).view(len(words), 1 + len(self.extras) + LONGEST_WORD)

    def spelling(self, word: str) -> list[int]:
        half = LONGEST_WORD // 2
        shown = word if len(word) <= LONGEST_WORD else word[:half] + word[-half:]
        return [*(self.characters[character] for character in shown), *[PADDING] * (LONGEST_WORD - len(shown))]

    def description(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "words": self.words.entries,
            "characters": self.characters.entries,
            "extras": {name: ids.entries for name, ids in self.extras.items()},
            "labels": self.labels,
            "scheme": self.scheme._asdict(),
            "lower": self.lower,
            "zero_digits": self.zero_digits,
        }

    @classmethod
    def of_description(cls, found: Mapping[str, Any]) -> "WordEncoder":
        extras = {name: Ids(entries) for name, entries in found["extras"].items()}
        words, characters = Ids(found["words"]), Ids(found["characters"])
        labels, scheme = list(found["labels"]), Scheme(**found["scheme"])
        return cls(words, characters, extras, labels, scheme, found["lower"], found["zero_digits"])


def lookup_form(word: str, lower: bool, zero_digits: bool) -> str:
    """A word as it is in the vocabulary."""
    word = word.lower() if lower else word
    return "".join("0" if character.isdigit() else character for character in word) if zero_digits else word
