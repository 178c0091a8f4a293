"""The Lightning data modules of text: what `conf/data/` chooses from."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Required, TypedDict, Unpack  # of Python 3.10, TypedDict does not know Required

from lm.language.corpora import human_numbers, lines_between
from lm.language.show import show_batch
from lm.language.split import split_windows
from lm.text.chunks import Chunk, Text, whole, without_end
from lm.text.encoding import Encoded, Recipe, encode, encode_files
from lm.text.files import UTF_8, known_encoding, plain_text, text_of_dataset
from lm.text.tokenizers import TokenizerName
from lm.text.tokens import NextTokenData
from lm.text.vocabulary import Vocabulary
from lm.text.words import ALONE
from reading.tables import DATASET
from unroll import checks
from unroll.checks import Count, FileName, Fraction, Rule, Size, checked
from unroll.errors import ArgumentError, UserError
from unroll.streams import IndependentWindows, Stream
from unroll.training.cache import given_or_downloaded

RELEASE_EVERY = 256  # batches
COUNTED = 2**24  # tokens of a split in which the unknown ones are counted
MANY_ALONE = 0.2  # the share of words that are single characters of a script without blanks, from which on it is said


class TextSettings(TypedDict, total=False):
    """The arguments of all data modules of text (see `TextData`)."""

    bptt: Required[int]
    batch_size: Required[int]
    valid_batch_size: int | None
    layout: Literal["stream", "windows"]
    stride: int | None
    tokenizer: TokenizerName
    lower: bool
    min_freq: int | None
    unknown: bool
    vocab_size: int | None
    tail: Literal["keep", "drop"]
    jitter: bool
    seed: int


class TextData(NextTokenData):
    """A text as a stream, or as independent windows. A subclass says where its ids come from.

    The vocabulary has the tokens of the training split; the validation split has no say. Validation keeps every token
    and never jitters, whatever is chosen for training.

    Args:
        bptt: tokens per window: how far back gradients reach.
        batch_size: rows side by side, or windows per batch.
        valid_batch_size: the same in validation, where each row of a stream begins from a state of zeros; by default
            `batch_size`. Of a text that has fewer tokens, each row has `bptt` or more.
        layout: "stream": the windows of a row continue each other; "windows": they are independent, and shuffled.
        stride: of independent windows, from the start of one to the start of the next; by default `bptt`.
        tokenizer: "characters", "words", "whitespace", or for text files "bpe".
        lower: lower-case the text first.
        min_freq: tokens seen less often than this in the training split become unknown. By default 2 for "words", so
            that the unknown word is learnt, and 1 for the others.
        unknown: keep a token for what is unknown; without it, every character must be in the training text.
        vocab_size: the number of tokens that "bpe" learns.
        tail, jitter, seed: as for `Stream`.
    """

    meaning: ClassVar[tuple[str, ...]] = ("vocabulary", "tokenizer")
    frequent_words_first: ClassVar[bool] = False  # in the vocabulary; the lessons have theirs in alphabetical order

    @checked
    def __init__(
        self,
        *,
        bptt: Size,
        batch_size: Size,
        valid_batch_size: Size | None = None,
        layout: Literal["stream", "windows"] = "stream",
        stride: Size | None = None,
        tokenizer: TokenizerName = "words",
        lower: bool = False,
        min_freq: Size | None = None,
        unknown: bool = True,
        vocab_size: Annotated[int, checks.whole(256)] | None = None,
        tail: Literal["keep", "drop"] = "keep",
        jitter: bool = False,
        seed: Count = 0,
    ) -> None:
        super().__init__()
        if jitter and layout == "windows":
            raise UserError("data.jitter=true: is for data.layout=stream; independent windows have one length")
        if tokenizer == "bpe" and vocab_size is None:
            raise UserError("data.tokenizer=bpe is for text of your own (data=text), and needs data.vocab_size")
        if min_freq is None:
            min_freq = 2 if tokenizer == "words" else 1
        ordered = self.frequent_words_first and tokenizer in ("words", "whitespace")
        self.recipe = Recipe(tokenizer, lower, min_freq, vocab_size if tokenizer == "bpe" else None, unknown, ordered)
        self.bptt = bptt
        self.batch_size = batch_size
        self.valid_batch_size = valid_batch_size or batch_size
        self.layout = layout
        self.stride = stride or bptt
        self.tail = tail
        self.jitter = jitter
        self.seed = seed
        self.batches_read = 0

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The vocabulary, if texts are split into the same tokens."""
        tokenizer = description.get("tokenizer", {})
        if [tokenizer.get(name) for name in ("name", "lower")] == [self.recipe.tokenizer, self.recipe.lower]:
            known = tuple(description["vocabulary"])
            self.recipe = replace(self.recipe, known=known, model=tokenizer.get("model"))

    @abstractmethod
    def read(self) -> Encoded:
        """The ids of both splits."""

    @cached_property
    def encoded(self) -> Encoded:
        """The ids of both splits, read when they are first asked for."""
        encoded = self.read()
        if len(encoded.train) and encoded.vocabulary.has_only_specials:
            raise UserError(f"data.min_freq={self.recipe.min_freq}: no token is that frequent in the training text")
        return encoded

    @property
    def vocabulary(self) -> Vocabulary:
        return self.encoded.vocabulary

    @cached_property
    def train(self) -> Stream | IndependentWindows:
        return self._batches("training", self.encoded.train, self.tail, self.jitter)

    @cached_property
    def valid(self) -> Stream | IndependentWindows:
        return self._batches("validation", self.encoded.valid, "keep", jitter=False)

    def chosen(self, split: str, ids: Tensor) -> Tensor | None:
        """The numbers of a split's independent windows, int64; None for all."""
        return None

    def _batches(
        self, split: str, ids: Tensor, tail: Literal["keep", "drop"], jitter: bool
    ) -> Stream | IndependentWindows:
        rows = self.batch_size if split == "training" else self.valid_batch_size
        unknown = self.vocabulary.unknown_id
        beginning = ids[: 2**20].long()
        if len(beginning) > 1 and unknown is not None and (beginning == unknown).all():
            raise UserError(
                f"{split} split: none of its {len(beginning)} tokens is in the vocabulary of the training text; "
                f"use text of the same kind, or a smaller data.min_freq (now {self.recipe.min_freq})"
            )
        if split == "validation" and len(ids) <= rows:
            rows = max(1, (len(ids) - 1) // self.bptt)
        try:
            if self.layout == "stream":
                return Stream(ids, rows, self.bptt, tail=tail, jitter=jitter, seed=self.seed)
            return IndependentWindows(
                ids,
                rows,
                self.bptt,
                self.stride,
                self.chosen(split, ids),
                shuffle=split == "training",
                seed=self.seed,
            )
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None

    def summary(self) -> str:
        if self.layout == "stream":
            counts = f"{len(self.encoded.train):,} training and {len(self.encoded.valid):,} validation tokens"
        else:
            counts = f"{self.train.count:,} training and {self.valid.count:,} validation windows of {self.bptt} tokens"  # type: ignore[union-attr]
        return f"{counts}, a vocabulary of {len(self.vocabulary)}{self._unknown()}{self._alone()}"

    def _alone(self) -> str:
        """How many of the words are single characters of a script without blanks, in words, where they are many."""
        if self.recipe.tokenizer != "words":
            return ""
        alone = torch.tensor([ALONE.fullmatch(entry[:1]) is not None for entry in self.vocabulary.entries])
        share = alone[self.encoded.train[:COUNTED].long()].double().mean().item()
        advice = (
            "; their script has no blanks between words: try data.tokenizer=characters, or bpe with data.vocab_size"
        )
        return f"; {share:.0%} of the words are single characters{advice}" if share > MANY_ALONE else ""

    def _unknown(self) -> str:
        """How much of the text is unknown, in words; nothing where all of it is known."""
        unknown = self.vocabulary.unknown_id
        splits = (self.encoded.train, self.encoded.valid)
        shares = [(ids[:COUNTED] == unknown).double().mean().item() if unknown is not None else 0.0 for ids in splits]
        if not any(shares):
            return ""
        words = "unknown: {:.2%} of the training and {:.2%} of the validation tokens".format(*shares)
        return f" ({words}{'' if shares[0] else ', so the unknown token is not learnt; try data.min_freq=2'})"

    def show(self, folder: Path) -> str:
        return show_batch(self.train, self.vocabulary)

    def start_of_validation(self, length: int = 1) -> Tensor:
        """The tokens that the first row of validation begins with, int64: whole windows, at least `length` tokens.

        Independent windows don't continue each other; of them it is the first.
        """
        start: list[Tensor] = []
        for window in self.valid.batches(0):
            if start and window.starts[0]:
                break
            start.append(window.inputs[0])
            if sum(map(len, start)) >= length:
                break
        return torch.cat(start)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.batches_read += 1
        if self.batches_read % RELEASE_EVERY == 0:
            self.encoded.release_pages()
        return batch


FirstAndLast = Annotated[
    Sequence[int],
    Rule(
        lambda value: checks.is_pair(value, checks.whole(1)) and value[0] <= value[1] < 1_000_000,
        "the first and the last number, as in [1,7999]",
    ),
]
TwoShares = Annotated[
    Sequence[float],
    Rule(
        lambda value: checks.is_pair(value, checks.zero_or_more) and value[0] < value[1] <= 1,
        "two rising shares from 0 to 1, as in [0,0.8]",
    ),
]


def check_splits(name: str, splits: Mapping[str, Any], kind: Any) -> None:
    """Checks `{"train": …, "valid": …}`, where each value is of a kind that has a rule."""
    rule = checks.rule_of(kind)
    assert rule is not None
    if not isinstance(splits, Mapping) or not {*splits} <= {"train", "valid"}:
        raise ArgumentError(name, splits, 'a part with "train" and "valid"')
    for split, value in splits.items():
        if not rule.holds(value):
            raise ArgumentError(f"{name}.{split}", value, rule.words)


class HumanNumbers(TextData):
    """The numbers in English words.

    Args:
        numbers: the first and the last number of each split, "train" and "valid" (None: the lesson's).
        text: as for `TextData`.
    """

    def __init__(self, numbers: Mapping[str, Sequence[int]] | None = None, **text: Unpack[TextSettings]) -> None:
        text.setdefault("min_freq", 1)  # xxbos occurs once
        super().__init__(**text)
        self.numbers = numbers or {}
        check_splits("numbers", self.numbers, FirstAndLast)

    def read(self) -> Encoded:
        train, valid = map(Text, human_numbers(**self.numbers))
        return encode(train, valid, self.recipe)


class TextFiles(TextData):
    """Text files of the user's own.

    Args:
        train: the file to train on.
        valid: the file to validate on; without one, the end of the training file is set aside.
        test: a file that is evaluated in place of `valid`, if `split` says so.
        valid_fraction: the share of the training file's bytes that is set aside then; no word is cut.
        split: what is evaluated: "valid" or "test".
        encoding: of the files, as Python names it.
        column: of the texts, where a file is `hf:FOLDER` (see `lm.text.files.text_of_dataset`); by default `text`.
        cache: where the ids of large files are kept, as for `lm.text.encoding.encode_files`, and the plain text of
            compressed ones, as for `lm.text.files.plain_text`.
        backwards: read the text from its end to its start; the ids are then held in memory.
        text: as for `TextData`.
    """

    meaning: ClassVar[tuple[str, ...]] = ("vocabulary", "tokenizer", "backwards")
    frequent_words_first = True

    @checked
    def __init__(
        self,
        train: FileName,
        valid: FileName | None = None,
        test: FileName | None = None,
        valid_fraction: Fraction = 0.1,
        split: Literal["valid", "test"] = "valid",
        encoding: str = UTF_8,
        column: str | None = None,
        cache: str | None = None,
        backwards: bool = False,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(**text)
        if split == "test" and test is None:
            raise UserError("data.split=test: there is no test part; give one: data.test=FILE")
        self.backwards = backwards
        self.encoding = known_encoding(encoding)
        if column is not None and not any(file.startswith(DATASET) for file in (train, valid, test) if file):
            raise UserError(
                f"data.column={column}: is for data sets of Hugging Face, hf:FOLDER; texts in a column of a table are "
                f"read by data=documents_text data.text={column}"
            )
        self.column = column or "text"
        self.train_file = train
        self.valid_file = valid
        self.test_file = test if split == "test" else None
        self.valid_fraction = valid_fraction
        self.cache = cache

    def read(self) -> Encoded:
        train = self._text(self.train_file, "train")
        if self.valid_file is not None:
            valid = self._text(self.valid_file, "valid")
        else:
            train, valid = without_end(train, self.valid_fraction, words=self.recipe.tokenizer != "characters")
        if self.test_file is not None:
            valid = self._text(self.test_file, "test")
        encoded = encode_files(train, valid, self.recipe, self.cache)
        if self.valid_file is self.test_file is None and len(encoded.valid) < 2:
            raise UserError(
                f"{self.train_file}: is too short for data.valid_fraction={self.valid_fraction}, which sets "
                f"{len(encoded.valid)} of its {len(encoded.train) + len(encoded.valid)} tokens aside; give a longer "
                f"text, or another for validation: data.valid=FILE"
            )
        if not self.backwards:
            return encoded
        return replace(encoded, train=encoded.train.flip(0), valid=encoded.valid.flip(0))

    def _text(self, file: str, split: str) -> Chunk:
        if file.startswith(DATASET):
            return whole(text_of_dataset(file, split, self.column, self.cache))
        return whole(plain_text(file, self.encoding, self.cache))

    def description(self) -> dict[str, Any]:
        return {**super().description(), "backwards": self.backwards}


class DownloadSettings(TypedDict):
    """Where a text comes from (see `DownloadedText`)."""

    url: str
    sha256: str
    path: str | None
    cache: str | None


class DownloadedTextSettings(TextSettings, DownloadSettings):
    """The arguments of all data modules of downloaded text."""


class DownloadedText(TextData):
    """One text from a public address. A subclass says how it is split.

    Args:
        url, sha256, cache: as for `unroll.training.cache.download`.
        path: a file of one's own instead.
        text: as for `TextData`.
    """

    def __init__(
        self, url: str, sha256: str, path: str | None, cache: str | None, **text: Unpack[TextSettings]
    ) -> None:
        super().__init__(**text)
        self.source = (path, url, sha256, cache)

    def whole_text(self) -> str:
        return whole(given_or_downloaded(*self.source)).read()


class Nietzsche(DownloadedText):
    """The collected works of Nietzsche.

    Args:
        lines: the lines of each split, "train" and "valid", from one share of the text to another. None: each split is
            a share of the windows of the whole text, drawn at random.
        valid_fraction, split_seed, split_among: as for `split_windows`, if `lines` is None.
        text: as for `DownloadedText`.
    """

    @checked
    def __init__(
        self,
        lines: Mapping[str, Sequence[float]] | None = None,
        valid_fraction: Fraction = 0.2,
        split_seed: Count = 42,
        split_among: Size | None = None,
        **text: Unpack[DownloadedTextSettings],
    ) -> None:
        super().__init__(**text)
        check_splits("lines", lines or {}, TwoShares)
        if lines is None and self.layout == "stream":
            raise UserError("data.lines=null: splits windows at random, so it needs data.layout=windows")
        self.lines = lines
        self.split = (valid_fraction, split_seed, split_among)

    def read(self) -> Encoded:
        text = self.whole_text()
        if self.lines is None:
            return encode(Text(text), Text(text), self.recipe)
        train, valid = (Text(lines_between(text, *self.lines[split])) for split in ("train", "valid"))
        return encode(train, valid, self.recipe)

    def chosen(self, split: str, ids: Tensor) -> Tensor | None:
        if self.lines is not None:
            return None
        windows = (len(ids) - self.bptt - 1) // self.stride + 1
        if windows < 1:  # the error is the batches' to raise
            return None
        train, valid = split_windows(windows, *self.split)
        return train if split == "training" else valid
