"""Lightning's view of the data: from a choice in `conf/data/` to batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lm.data.corpora import human_numbers, lines_between
from lm.data.encoding import Encoded, Recipe, encode, encode_files
from lm.data.pieces import Text, set_aside, whole
from lm.data.show import show_batch
from lm.data.stream import BpttStream
from lm.data.tokenizers import Tokenizer
from lm.data.vocabulary import PADDING_CHARACTER, SPECIALS, Vocabulary
from lm.data.windows import WindowBatches, Windows
from training.data import Data
from training.downloads import download
from training.errors import UserError

LET_GO_EVERY = 256  # batches
WINDOWS = (8, 16, 32, 70, 140, 280, 560)  # that `task=plan` tries


class TextData(Data):
    """A vocabulary, and batches to train and to validate on: after `setup()`, in `vocabulary`, `train` and `valid`.

    `bptt` is the number of tokens in a window.
    """

    bptt: int
    vocabulary: Vocabulary
    lengths = WINDOWS
    train: BpttStream | WindowBatches
    valid: BpttStream | WindowBatches

    def model_arguments(self) -> dict[str, int]:
        return {"vocab_size": len(self.vocabulary)}

    def description(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.entries,
            "context": self.bptt,
            "prompt": self.prompt(),
            "tokenizer": self.vocabulary.tokenizer.settings(),
        }

    def show(self, folder: Path) -> str:
        return show_batch(self)

    def random_batch(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(len(self.vocabulary), (rows, length + 1))
        return tokens[:, :-1], tokens[:, 1:]

    def prompt(self) -> str:
        """The first few known tokens of the validation text, for samples to begin with."""
        known = [int(index) for index in self.start_of_validation() if index != self.vocabulary.unknown_id]
        return self.vocabulary.textify(known[:8])

    def start_of_validation(self, length: int = 1) -> Tensor:
        """The tokens that the first row of validation begins with: `length` if there are so many, at least one window.

        Independent windows don't continue each other: then it is the first one.
        """
        start: list[Tensor] = []
        for inputs, _ in self.valid:
            start.append(inputs[0])
            if sum(map(len, start)) >= length or isinstance(self.valid, WindowBatches):
                break
        return torch.cat(start)


class StreamData(TextData):
    """A training and a validation stream; a subclass says where their tokens come from.

    The vocabulary holds the tokens of the training split (the validation split has no say). Validation keeps
    every token and never jitters, whatever is chosen for training.

    Args:
        tokenizer: "characters" or "words"; for text files also "bpe".
        lower: lower-case the text first.
        min_freq: tokens seen less often than this in the training split become unknown.
        vocab_size: how many tokens "bpe" is to learn.
        bptt, batch_size, tail, jitter, seed: as for `BpttStream`.
    """

    train: BpttStream
    valid: BpttStream

    def __init__(
        self,
        *,
        bptt: int,
        batch_size: int,
        tokenizer: str = "words",
        lower: bool = False,
        min_freq: int = 1,
        vocab_size: int | None = None,
        tail: Literal["keep", "drop"] = "keep",
        jitter: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.recipe = Recipe(tokenizer, lower, min_freq, vocab_size if tokenizer == "bpe" else None)
        self.bptt = bptt
        self.batch_size = batch_size
        self.tail = tail
        self.jitter = jitter
        self.seed = seed
        self.batches_read = 0

    def encode(self) -> Encoded:
        """The ids of both splits."""
        raise NotImplementedError

    def prepare(self) -> None:
        self.encoded = self.encode()
        self.vocabulary = self.encoded.vocabulary
        if len(self.encoded.train) and len(self.vocabulary) == len(SPECIALS):
            raise UserError(f"data.min_freq={self.recipe.min_freq}: no token is that frequent in the training text")
        self.train = self._stream("training", self.encoded.train, tail=self.tail, jitter=self.jitter)
        self.valid = self._stream("validation", self.encoded.valid)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.batches_read += 1
        if self.batches_read % LET_GO_EVERY == 0:
            self.encoded.let_go()
        return batch

    def summary(self) -> str:
        return (
            f"{len(self.train.tokens):,} training and {len(self.valid.tokens):,} validation tokens, "
            f"a vocabulary of {len(self.vocabulary)}"
        )

    def _stream(self, split: str, tokens: Tensor, **settings: Any) -> BpttStream:
        try:
            stream = BpttStream(tokens, self.batch_size, self.bptt, seed=self.seed, **settings)
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None
        beginning = tokens[: 2**20].long()
        if self.vocabulary.unknown_id is not None and (beginning == self.vocabulary.unknown_id).all():
            raise UserError(
                f"{split} split: none of its {len(beginning)} tokens is in the vocabulary of the training text; "
                f"use text of the same kind, or a smaller data.min_freq (now {self.recipe.min_freq})"
            )
        return stream


class HumanNumbers(StreamData):
    """The numbers in English words.

    Args:
        numbers: the first and the last one of each split, "train" and "valid" (None: the lesson's).
    """

    def __init__(self, numbers: Mapping[str, Sequence[int]] | None = None, **stream: Any) -> None:
        super().__init__(**stream)
        self.numbers = numbers or {}

    def encode(self) -> Encoded:
        train, valid = map(Text, human_numbers(**self.numbers))
        return encode(train, valid, self.recipe)


class TextFiles(StreamData):
    """People's own text.

    Args:
        train: the file to train on.
        valid: the file to validate on; without one, the end of the training file is set aside.
        valid_fraction: how much of the training file is set aside then, by bytes; words are not cut.
        cache: where the ids of large files are kept, as for `lm.data.encoding.encode_files`.
    """

    def __init__(
        self,
        train: str,
        valid: str | None = None,
        valid_fraction: float = 0.1,
        cache: str | None = None,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        self.train_file = train
        self.valid_file = valid
        self.valid_fraction = valid_fraction
        self.cache = cache

    def encode(self) -> Encoded:
        train = whole(self.train_file)
        if self.valid_file is not None:
            valid = whole(self.valid_file)
        else:
            train, valid = set_aside(train, self.valid_fraction, words=self.recipe.tokenizer != "characters")
        return encode_files(train, valid, self.recipe, self.cache)


class Nietzsche(StreamData):
    """The collected works as one stream.

    Args:
        url, sha256, cache: as for `training.downloads.download`.
        path: a file of one's own instead.
        lines: the shares of the lines between which each split lies.
    """

    def __init__(
        self,
        url: str,
        sha256: str,
        path: str | None,
        cache: str | None,
        lines: Mapping[str, Sequence[float]],
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        self.source = (url, sha256, path, cache)
        self.lines = lines

    def encode(self) -> Encoded:
        text = nietzsche(*self.source)
        train, valid = (Text(lines_between(text, *self.lines[split])) for split in ("train", "valid"))
        return encode(train, valid, self.recipe)


class NietzscheWindows(TextData):
    """The same works as independent windows of characters; a random share of them is for validation.

    The vocabulary is the lesson's: every character of the text, sorted, after a null character for padding.

    Args:
        url, sha256, path, cache: as for `Nietzsche`.
        bptt, stride: as for `Windows`.
        batch_size, seed: as for `WindowBatches`.
        valid_fraction, split_seed, split_among: as for `Windows.split`.
    """

    train: WindowBatches
    valid: WindowBatches

    def __init__(
        self,
        *,
        url: str,
        sha256: str,
        path: str | None,
        cache: str | None,
        bptt: int,
        stride: int,
        batch_size: int,
        valid_fraction: float,
        split_seed: int,
        split_among: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.source = (url, sha256, path, cache)
        self.bptt = bptt
        self.stride = stride
        self.batch_size = batch_size
        self.valid_fraction = valid_fraction
        self.split_seed = split_seed
        self.split_among = split_among
        self.seed = seed

    def prepare(self) -> None:
        text = nietzsche(*self.source)
        vocabulary = Vocabulary([PADDING_CHARACTER, *sorted(set(text))], Tokenizer("characters"))
        self.windows = Windows(vocabulary.encode(text), self.bptt, self.stride)
        train, valid = self.windows.split(self.valid_fraction, self.split_seed, self.split_among)
        self.train = WindowBatches(self.windows, train, self.batch_size, shuffle=True, seed=self.seed)
        self.valid = WindowBatches(self.windows, valid, self.batch_size, shuffle=False)
        self.vocabulary = vocabulary

    def summary(self) -> str:
        return (
            f"{len(self.train.chosen):,} training and {len(self.valid.chosen):,} validation windows "
            f"of {self.bptt} characters, a vocabulary of {len(self.vocabulary)}"
        )


def nietzsche(url: str, sha256: str, path: str | None, cache: str | None) -> str:
    return whole(path or download(url, sha256, cache)).read()
