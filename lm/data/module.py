"""Lightning's view of the data: from a choice in `conf/data/` to two streams."""

from collections.abc import Sequence
from typing import Literal

import pytorch_lightning as pl

from lm.data.corpora import human_numbers, read_text
from lm.data.stream import BpttStream
from lm.data.tokenizers import Tokenizer
from lm.data.vocabulary import SPECIALS, Vocabulary
from lm.errors import UserError


class StreamData(pl.LightningDataModule):
    """A training and a validation stream; a subclass says where their tokens come from.

    After `setup()`, `vocabulary` holds the tokens of the training split (the validation split has no say),
    and `train` and `valid` the streams. Validation keeps every token and never jitters, whatever is chosen
    for training.

    Args:
        tokenizer: "characters" or "words".
        lower: lower-case the text first.
        min_freq: tokens seen less often than this in the training split become unknown.
        bptt, batch_size, tail, jitter, seed: as for `BpttStream`.
    """

    def __init__(
        self,
        *,
        bptt: int,
        batch_size: int,
        tokenizer: str = "words",
        lower: bool = False,
        min_freq: int = 1,
        tail: Literal["keep", "drop"] = "keep",
        jitter: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(tokenizer, lower)
        self.min_freq = min_freq
        self.bptt = bptt
        self.batch_size = batch_size
        self.tail = tail
        self.jitter = jitter
        self.seed = seed

    def read(self) -> tuple[list[str], list[str]]:
        """The tokens of the training and of the validation split."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "vocabulary"):  # train.py needs it before Lightning asks
            return
        train, valid = self.read()
        self.vocabulary = Vocabulary.build(train, self.tokenizer, self.min_freq)
        if train and len(self.vocabulary) == len(SPECIALS):
            raise UserError(f"data.min_freq={self.min_freq}: no token is that frequent in the training text")
        self.train = self._stream("training", train, tail=self.tail, jitter=self.jitter)
        self.valid = self._stream("validation", valid)

    def train_dataloader(self) -> BpttStream:
        return self.train

    def val_dataloader(self) -> BpttStream:
        return self.valid

    def summary(self) -> str:
        """One line for people: how much text there is."""
        return (
            f"{len(self.train.tokens):,} training and {len(self.valid.tokens):,} validation tokens, "
            f"a vocabulary of {len(self.vocabulary)}"
        )

    def _stream(self, split: str, tokens: Sequence[str], tail: Literal["keep", "drop"] = "keep", jitter: bool = False):
        ids = self.vocabulary.encode(tokens)
        try:
            stream = BpttStream(ids, self.batch_size, self.bptt, tail, jitter, self.seed)
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None
        if set(tokens).isdisjoint(self.vocabulary.ids):
            raise UserError(
                f"{split} split: none of its {len(ids)} tokens is in the vocabulary of the training text; "
                f"use text of the same kind, or a smaller data.min_freq (now {self.min_freq})"
            )
        return stream


class HumanNumbers(StreamData):
    """The numbers in English words, `lm.data.human_numbers`."""

    def read(self) -> tuple[list[str], list[str]]:
        train, valid = human_numbers()
        return self.tokenizer.split(train), self.tokenizer.split(valid)


class TextFiles(StreamData):
    """People's own text.

    Args:
        train: the file to train on.
        valid: the file to validate on; without one, the end of the training file is set aside.
        valid_fraction: how much of the training file is set aside then, by tokens.
    """

    def __init__(self, train: str, valid: str | None = None, valid_fraction: float = 0.1, **stream) -> None:
        super().__init__(**stream)
        self.train_file = train
        self.valid_file = valid
        self.valid_fraction = valid_fraction

    def read(self) -> tuple[list[str], list[str]]:
        tokens = self.tokenizer.split(read_text(self.train_file))
        if self.valid_file is not None:
            return tokens, self.tokenizer.split(read_text(self.valid_file))
        cut = len(tokens) - round(len(tokens) * self.valid_fraction)
        return tokens[:cut], tokens[cut:]
