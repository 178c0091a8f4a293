"""The Lightning data modules of labelled words: what `conf/data/` chooses from."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from typing_extensions import Required, TypedDict, Unpack  # of Python 3.10, TypedDict does not know Required

from lm.tagging.columns import Columns, Sentence, lists_of, read_columns, read_lists, words_of
from lm.tagging.encoder import Ids, WordEncoder, lookup_form
from lm.tagging.model import UNKNOWN
from lm.tagging.schemes import Scheme, SchemeName, like_labels, recognised
from lm.tagging.spans import count
from lm.text.labelled import LabelledData, Splits
from reading.archives import read_members
from reading.tables import DATASET
from reading.text import UTF_8, known_encoding, read_text
from unroll import checks
from unroll.checks import Count, FileName, Fraction, Rule, Size, checked
from unroll.errors import UserError
from unroll.streams import Stream, WholeSequences
from unroll.training.cache import given_or_downloaded
from unroll.training.split import set_aside_end

SHOWN = 4
WORDS = ("word", "form", "token", "words", "tokens")  # what the column of the words is called where nobody says
Names = Annotated[
    Sequence[str], Rule(lambda value: checks.is_list(value) and len(set(value)) == len(value), "a list of columns")
]


class TaggedSettings(TypedDict, total=False):
    """The arguments of all data modules of labelled words (see `TaggedWords`)."""

    columns: Required[Sequence[str] | None]
    word: str | None
    label: str
    scheme: SchemeName | None
    extra: Sequence[str]
    lower: bool
    zero_digits: bool
    min_freq: int
    layout: Literal["sentences", "stream"]
    batch_size: int
    bptt: int
    split: Literal["valid", "test"]
    seed: int


class TaggedWords(LabelledData):
    """Sentences in which every word has a label. A subclass says where they come from.

    The ids are those of the training split. A label that does not occur there is refused in the others.

    Args:
        columns: the names of a line's columns; None: as for `lm.tagging.columns.read_columns`.
        word: the column of the word; by default `word`, or `form` or `token`.
        label: the column of its label.
        scheme: how labels spell spans (see `lm.tagging.schemes`); by default what the training labels show.
        extra: further columns that the model reads.
        lower, zero_digits: look words up in lower case, and with 0 for every digit.
        min_freq: words seen less often in training are unknown.
        layout: "sentences": whole sentences of like length side by side; "stream": the text in its order, window by
            window, the state carried.
        batch_size: sentences or rows side by side.
        bptt: words per window of a stream.
        split: what is evaluated: "valid" or "test".
        seed: of the order of sentences.
    """

    meaning = ("words", "characters", "extras", "labels", "scheme", "lower", "zero_digits")

    @checked
    def __init__(
        self,
        *,
        columns: Names | None,
        word: str | None = None,
        label: str = "tag",
        scheme: SchemeName | None = None,
        extra: Names = (),
        lower: bool = True,
        zero_digits: bool = True,
        min_freq: Size = 1,
        layout: Literal["sentences", "stream"] = "sentences",
        batch_size: Size = 32,
        bptt: Size = 35,
        split: Literal["valid", "test"] = "valid",
        seed: Count = 0,
    ) -> None:
        super().__init__(split, seed)
        self.chosen = (word, label, extra)
        self.extra = list(extra)
        self.chosen_scheme = scheme
        if columns is not None:
            self.named(columns)
        self.lower, self.zero_digits, self.min_freq = lower, zero_digits, min_freq
        self.layout = layout
        self.batch_size = batch_size
        self.bptt = bptt

    def named(self, columns: Sequence[str], whose: str = "data.columns names") -> None:
        """Takes up the names of the columns.

        Args:
            columns: the names.
            whose: they are, for messages.

        Raises:
            UserError: one that is chosen is not among them.
        """
        chosen, label, extra = self.chosen
        word = chosen or next((name for name in WORDS if name in columns), WORDS[0])
        for name in (word, label, *extra):
            if name not in columns:
                raise UserError(f"there is no column {name}; {whose} {', '.join(columns)}")
        self.columns = list(columns)
        self.word, self.label = word, label

    def values(self, sentences: Sequence[Sentence], column: str) -> Iterable[str]:
        return words_of(sentences, self.columns.index(column))

    @cached_property
    def encoder(self) -> WordEncoder:
        train = self.splits.train
        words = list(self.values(train, self.word))
        return WordEncoder(
            Ids.of((lookup_form(word, self.lower, self.zero_digits) for word in words), self.min_freq),
            Ids.of(character for word in words for character in word),
            {name: Ids.of(self.values(train, name)) for name in self.extra},
            self.label_names(),
            self.scheme(),
            self.lower,
            self.zero_digits,
        )

    def label_names(self) -> list[str]:
        """The labels that a model can give: those of the training split."""
        return sorted(set(self.values(self.splits.train, self.label)))

    def scheme(self) -> Scheme:
        train = self.splits.train
        found = recognised(self.labels_of(train), self.chosen_scheme)
        label = like_labels(self.values(train, self.word))
        if label and found.name == "none" and self.chosen_scheme is None:
            raise UserError(f"the words are labels, such as {label}; data.columns=[…] names the columns in their order")
        return found

    def labels_of(self, sentences: Sequence[Sentence]) -> list[list[str]]:
        at = self.columns.index(self.label)
        return [[word[at] for word in sentence] for sentence in sentences]

    @cached_property
    def train(self) -> Stream | WholeSequences:
        return self._batches("train", self.splits.train)

    @cached_property
    def valid(self) -> Stream | WholeSequences:
        return self._batches(self.split, self.evaluated)

    def _batches(self, split: str, sentences: Sequence[Sentence]) -> Stream | WholeSequences:
        encoder, labels = self.encoder, {name: number for number, name in enumerate(self.encoder.labels)}
        columns = {name: self.columns.index(name) for name in (self.word, self.label, *self.extra)}
        inputs, targets = [], []
        for sentence in sentences:
            values = {name: [word[at] for word in sentence] for name, at in columns.items()}
            for name in values[self.label]:
                if name not in labels:
                    raise UserError(
                        f"{split} split: the label {name} does not occur in the training split{self._other(sentences)}"
                    )
            inputs.append(encoder.encode(values[self.word], values))
            targets.append(torch.tensor([labels[name] for name in values[self.label]]))
        lengths = [len(target) for target in targets]
        whole, every = torch.cat(inputs), torch.cat(targets)
        try:
            if self.layout == "sentences":
                batch_size = self.batch_size if split == "train" else min(self.batch_size, len(lengths))
                parts = whole.split(lengths), every.split(lengths)
                return WholeSequences(*parts, batch_size, shuffle=split == "train", seed=self.seed)
            rows = self.batch_size if split == "train" else 1  # one row, so that no span is cut in two
            return Stream(whole, rows, self.bptt, every, seed=self.seed)
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None

    def _other(self, sentences: Sequence[Sentence]) -> str:
        """What to say of the scheme of some sentences, if it is another than that of training."""
        ours = self.encoder.scheme.name
        try:
            theirs = recognised(self.labels_of(sentences)).name
        except UserError as error:
            return f" ({error})"
        return "" if theirs == ours else f", whose scheme is {ours.upper()}; here it is {theirs.upper()}"

    def model_arguments(self) -> dict[str, Any]:
        encoder = self.encoder
        return {
            "vocab_size": len(encoder.words),
            "labels": len(encoder.labels),
            "characters": len(encoder.characters),
            "extras": [len(ids) for ids in encoder.extras.values()],
        }

    def learner_arguments(self) -> dict[str, Any]:
        return {"labels": self.encoder.labels, "scheme": self.encoder.scheme._asdict()}

    def description(self) -> dict[str, Any]:
        return {**self.encoder.description(), "layout": self.layout}

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The ids, labels and scheme, if words are looked up in the same form."""
        try:
            encoder = WordEncoder.of_description(description)
        except (KeyError, TypeError, AttributeError):
            return
        same_scheme = self.chosen_scheme in (None, encoder.scheme.name)
        form = (self.lower, self.zero_digits, self.extra)
        if same_scheme and form == (encoder.lower, encoder.zero_digits, list(encoder.extras)):
            self.encoder = encoder

    def summary(self) -> str:
        train, valid = self.splits.train, self.evaluated
        known = self.encoder.words
        words = [lookup_form(word, self.lower, self.zero_digits) for word in self.values(valid, self.word)]
        unknown = sum(known[word] == UNKNOWN for word in words) / max(1, len(words))
        name = self.evaluated_name
        return (
            f"{len(train):,} training and {len(valid):,} {name} sentences, {len(self.encoder.labels)} labels "
            f"({self._scheme_in_words()}), {len(known):,} words; {unknown:.1%} of those in {name} are unknown"
        )

    def _scheme_in_words(self) -> str:
        """The name of the scheme, and how many spans of each split are spelt otherwise."""
        scheme = self.encoder.scheme
        if scheme.name == "none":
            return "each a type of its own"
        words = scheme.name.upper()
        for split, sentences in (("", self.splits.train), (f" of {self.evaluated_name}", self.evaluated)):
            labels = self.labels_of(sentences)
            every, strict = (count(labels, labels, scheme, strict).true for strict in (False, True))
            words += f", but for {every - strict:,} of {every:,} spans{split}" if strict < every else ""
        return words

    def show(self, folder: Path) -> str:
        window = next(self.train.batches(0))
        lines = []
        for row in range(min(SHOWN, len(window.inputs))):
            counted = window.full_mask[row]
            words = [self.encoder.words.entries[number] for number in window.inputs[row, :, 0][counted].tolist()]
            labels = [self.encoder.labels[number] for number in window.targets[row][counted].tolist()]
            lines.append(" ".join(f"{word}/{label}" for word, label in zip(words, labels, strict=True)))
        rows, steps = window.inputs.shape[:2]
        return "\n\n".join(
            [*lines, f"{len(self.train):,} batches of {rows} rows in an epoch; the first has {steps} steps."]
        )


class TaggedFiles(TaggedWords):
    """Files of the user's own, a word per line (see `lm.tagging.columns`).

    Args:
        train, valid, test: the files, or `hf:FOLDER` (see `lm.tagging.columns.lists_of`); without `valid`, the end of
            the training file is set aside.
        valid_fraction: the share of its sentences that is.
        encoding: of the files, as Python names it.
        words: as for `TaggedWords`.
    """

    @checked
    def __init__(
        self,
        *,
        train: FileName,
        valid: FileName | None = None,
        test: FileName | None = None,
        valid_fraction: Fraction = 0.1,
        encoding: str = UTF_8,
        **words: Unpack[TaggedSettings],
    ) -> None:
        super().__init__(**words)
        self.encoding = known_encoding(encoding)
        self.files = (train, valid, test)
        self.valid_fraction = valid_fraction
        self.notes: list[str] = []

    def read(self) -> Splits:
        train, *others = (
            None if path is None else self._read(path, split)
            for path, split in zip(self.files, ("train", "valid", "test"), strict=True)
        )
        assert train is not None
        self.named(train.names, "its first line names" if train.notes else "data.columns names")
        self.notes += [note for found in (train, *others) if found is not None for note in found.notes]
        labels = list(self.values(train.sentences, self.label))
        if labels.count(labels[0]) == 1 < len(set(labels)) < len(labels):
            self.notes.append(f"{self.files[0]}: the label of its first word, {labels[0]}, is that of no other word")
        for file, found in zip(self.files[1:], others, strict=True):
            if found is not None and found.names != train.names:
                raise UserError(f"{file}: has other columns than the training file: {', '.join(found.names)}")
        valid, test = ([] if found is None else found.sentences for found in others)
        if self.files[1] is None:
            return Splits(*in_two(train.sentences, self.valid_fraction), test)
        return Splits(train.sentences, valid, test)

    def label_names(self) -> list[str]:
        """Those of the training file, of which the end may be set aside."""
        known = self.splits.train if self.files[1] is not None else [*self.splits.train, *self.splits.valid]
        return sorted(set(self.values(known, self.label)))

    def _read(self, name: str, split: str) -> Columns:
        if name.startswith(DATASET):
            if hasattr(self, "columns") and split == "train":
                raise UserError(f"{name}: has names for its columns; leave data.columns out, and say data.label=…")
            lists = lists_of(name, split)
            self.named(lists.columns, f"data.word, data.label and data.extra choose from the lists of {name}:")
            return read_lists(lists.select(list(dict.fromkeys((self.word, self.label, *self.extra)))), name)
        path = Path(name).expanduser()
        return read_columns(read_text(path, self.encoding), getattr(self, "columns", None), path)

    def summary(self) -> str:
        return "; ".join([super().summary(), *self.notes])


class CoNLL2000(TaggedWords):
    """The chunking task of CoNLL-2000: sections of the Wall Street Journal.

    Args:
        url, sha256, cache: as for `unroll.training.cache.download`.
        path: a copy of the archive, or the folder that it unpacks to, instead.
        valid_fraction: the share at the end of the training part that is for validation.
        words: as for `TaggedWords`.
    """

    @checked
    def __init__(
        self,
        *,
        url: str,
        sha256: str,
        path: str | None,
        cache: str | None,
        valid_fraction: Fraction = 0.1,
        **words: Unpack[TaggedSettings],
    ) -> None:
        super().__init__(**words)
        self.source = (path, url, sha256, cache)
        self.valid_fraction = valid_fraction

    def read(self) -> Splits:
        path = given_or_downloaded(*self.source)
        names = ("train.txt", "test.txt")
        train, test = (read_columns(self._text(path, name), self.columns, name).sentences for name in names)
        return Splits(*in_two(train, self.valid_fraction), test)

    def label_names(self) -> list[str]:
        """The labels of the task: one of them occurs in the test part alone, and is an error of every model."""
        return sorted({*self.values(self.splits.train, self.label), *self.values(self.splits.test, self.label)})

    @staticmethod
    def _text(path: Path, name: str) -> str:
        try:
            if path.is_dir():
                return (path / name).read_text(encoding=UTF_8)
            (content,) = read_members(path, lambda _: [f"conll2000/{name}"]).values()
            return content.decode()
        except UnicodeDecodeError:
            raise UserError(f"{path}: {name} is not UTF-8 text") from None
        except (OSError, KeyError, zipfile.BadZipFile):
            raise UserError(f"{path}: has no {name}; give conll2000.zip or the folder that it unpacks to") from None


def in_two(sentences: list[Sentence], fraction: float) -> tuple[list[Sentence], list[Sentence]]:
    """The sentences to train on, and the share at their end, to validate on."""
    cut = set_aside_end(len(sentences), fraction, "sentences", "a file: data.valid=FILE")
    return sentences[:cut], sentences[cut:]
