"""The Lightning data modules of documents with a class: what `conf/data/` chooses from."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import torch
from torch import Tensor
from typing_extensions import Unpack

from lm.documents.files import Document, Missing, read_documents
from lm.language.show import show_batch
from lm.text.labelled import LabelledData, Splits
from lm.text.tokenizers import Tokenizer
from lm.text.tokens import NextTokenData, TokenData
from lm.text.vocabulary import Vocabulary
from reading.archives import read_members
from reading.tables import Form, Quotes
from reading.text import UTF_8, known_encoding
from unroll import checks
from unroll.checks import Count, FileName, Fraction, Size, checked
from unroll.errors import UserError
from unroll.streams import Stream, WholeSequences
from unroll.training.cache import given_or_downloaded
from unroll.training.split import set_aside

FOLDS = 10
SHOWN, WIDTH = 6, 300  # documents, and characters of each


class DocumentSettings(TypedDict, total=False):
    """The arguments of all data modules of documents (see `Documents`)."""

    tokenizer: Literal["words", "characters"]
    lower: bool
    min_freq: int
    backwards: bool
    batch_size: int
    crop: int | None
    split: Literal["valid", "test"]
    seed: int


class Documents(TokenData, LabelledData):
    """Documents, each of a class. A subclass says where they come from.

    Words and classes are those of the training split; a class that does not occur there is refused in the others.

    Args:
        tokenizer: "words" or "characters".
        lower: lower-case the text first.
        min_freq: tokens seen less often in training are unknown.
        backwards: read each document from its end to its start.
        batch_size: documents per batch, of like length.
        crop: of a longer training document, an epoch reads only so many tokens, from a random place; None: all.
        split: what is evaluated: "valid" or "test".
        seed: of the order of documents.
    """

    meaning: ClassVar[tuple[str, ...]] = ("vocabulary", "tokenizer", "classes", "backwards")

    @checked
    def __init__(
        self,
        *,
        tokenizer: Literal["words", "characters"] = "words",
        lower: bool = True,
        min_freq: Size = 2,
        backwards: bool = False,
        batch_size: Size = 32,
        crop: Size | None = None,
        split: Literal["valid", "test"] = "valid",
        seed: Count = 0,
    ) -> None:
        super().__init__(split, seed)
        self.tokenizer = Tokenizer(tokenizer, lower)
        self.min_freq = min_freq
        self.backwards = backwards
        self.batch_size = batch_size
        self.crop = crop
        self.notes: list[str] = []  # what was left out of the files

    @cached_property
    def vocabulary(self) -> Vocabulary:
        counts: Counter[str] = Counter()
        for document in self.splits.train:
            counts.update(self.tokenizer.count(document.text))
        return Vocabulary.of_counts(counts, self.tokenizer, self.min_freq, frequent_first=True)

    @cached_property
    def classes(self) -> list[str]:
        """Their names.

        Raises:
            UserError: there is only one.
        """
        found = sorted({document.label for document in self.splits.train})
        if len(found) < 2:
            raise UserError(f"training split: every document is of the class {found[0]}; there must be two or more")
        return found

    @cached_property
    def train(self) -> WholeSequences:
        return self._batches("train", self.splits.train)

    @cached_property
    def valid(self) -> WholeSequences:
        return self._batches(self.split, self.evaluated)

    def _batches(self, split: str, documents: Sequence[Document]) -> WholeSequences:
        numbers = {name: number for number, name in enumerate(self.classes)}
        ids, labels = [], []
        for document in documents:
            if document.label not in numbers:
                raise UserError(f"{split} split: the class {document.label} does not occur in the training split")
            ids.append(self.encoded(document.text))
            labels.append(numbers[document.label])
        whole = torch.cat(ids).to(torch.int32)
        batch_size = self.batch_size if split == "train" else min(self.batch_size, len(ids))
        try:
            parts = whole.split([len(part) for part in ids])
            targets, training = torch.tensor(labels), split == "train"
            crop = self.crop if training else None
            return WholeSequences(parts, targets, batch_size, shuffle=training, seed=self.seed, crop=crop)
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None

    def encoded(self, text: str) -> Tensor:
        """The ids of a document, int64 `[tokens]`.

        Raises:
            UserError: it has no tokens.
        """
        ids = self.vocabulary.encode(text)
        if not len(ids):
            raise UserError("a document is empty; leave it out")
        return ids.flip(0) if self.backwards else ids

    def model_arguments(self) -> dict[str, Any]:
        return {"vocab_size": len(self.vocabulary), "classes": len(self.classes)}

    def learner_arguments(self) -> dict[str, Any]:
        return {"classes": self.classes}

    def description(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.entries,
            "tokenizer": self.tokenizer.settings(),
            "classes": self.classes,
            "backwards": self.backwards,
        }

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The vocabulary and the classes, if texts are split into the same tokens."""
        if description.get("tokenizer") == self.tokenizer.settings() and "vocabulary" in description:
            self.vocabulary = Vocabulary(description["vocabulary"], self.tokenizer)
            self.classes = list(description.get("classes", ()))

    def summary(self) -> str:
        train, valid = self.train, self.valid
        name = self.evaluated_name
        counts = (
            f"{train.count:,} training and {valid.count:,} {name} documents of {len(self.classes)} classes, "
            f"{train.lengths.sum():,} and {valid.lengths.sum():,} tokens (the longest has {train.lengths.max():,}), "
            f"a vocabulary of {len(self.vocabulary):,}"
        )
        return "; ".join([counts, *self.notes])

    def show(self, folder: Path) -> str:
        window = next(self.train.batches(0))
        lines = []
        for tokens, counted, label in list(zip(window.inputs, window.full_mask, window.targets.tolist(), strict=True))[
            :SHOWN
        ]:
            text = self.vocabulary.textify(tokens[counted])
            shown = text if len(text) <= WIDTH else f"{text[: WIDTH // 2]} … {text[-WIDTH // 2 :]}"
            lines.append(f"{self.classes[label]}, {int(counted.sum()):,} tokens: {shown}")
        rows, steps = window.inputs.shape
        lines.append(f"{len(self.train):,} batches of {rows} documents in an epoch; the first has {steps:,} steps.")
        return "\n\n".join(lines)


class MovieReviews(Documents):
    """2,000 film reviews (Pang & Lee 2004), in the authors' ten folds.

    Args:
        url, sha256, cache: as for `unroll.training.cache.download`.
        path: a copy of the archive, or the folder that it unpacks to, instead.
        fold: the fold that is the test part, 0 to 9.
        hold_out: the fold after it is for validation; else all nine are for training, and the test part is validated.
        documents: as for `Documents`.
    """

    @checked
    def __init__(
        self,
        *,
        url: str,
        sha256: str,
        path: str | None,
        cache: str | None,
        fold: Annotated[int, checks.one_of(*range(FOLDS))] = 0,
        hold_out: bool = True,
        **documents: Unpack[DocumentSettings],
    ) -> None:
        super().__init__(**documents)
        self.source = (path, url, sha256, cache)
        self.fold = fold
        self.hold_out = hold_out

    def read(self) -> Splits:
        path = given_or_downloaded(*self.source)
        folds: list[list[Document]] = [[] for _ in range(FOLDS)]
        for name, text in reviews(path):
            number = int(name.partition("/cv")[2][:3])
            folds[number // 100].append(Document(text, name.partition("/")[0]))
        held = (self.fold + 1) % FOLDS if self.hold_out else None
        train = [one for number, fold in enumerate(folds) if number not in (self.fold, held) for one in fold]
        test = folds[self.fold]
        return Splits(train, test if held is None else folds[held], test)


def reviews(path: Path) -> Iterator[tuple[str, str]]:
    """The name (`neg/cv000_29416.txt`) and the text of each review, in order.

    Raises:
        UserError: there are none.
    """
    try:
        if path.is_dir():
            files = sorted(path.glob("*/cv*.txt"))
            found = [(f"{file.parent.name}/{file.name}", file.read_text(encoding=UTF_8)) for file in files]
        else:
            members = read_members(path, lambda names: sorted(n for n in names if "/cv" in n and n.endswith(".txt")))
            found = [(name.partition("/")[2], content.decode()) for name, content in members.items()]
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError):
        found = []
    if not found:
        raise UserError(f"{path}: has no reviews; give movie_reviews.zip or the folder that it unpacks to")
    yield from found


class DocumentFiles(Documents):
    """Documents of the user's own: a table, or a folder with a folder of text files per class.

    Args:
        train, valid, test: the files, folders or data sets, as for `lm.documents.files.read_documents`; without
            `valid`, some of the training documents are set aside.
        valid_fraction: the share of each class that is.
        text, label: the names of the columns.
        missing: where a row has no text or no class: "refuse" the file, or "leave_out" the row.
        encoding, separator, quotes, header: as for `reading.tables.read_table`.
        documents: as for `Documents`.
    """

    @checked
    def __init__(
        self,
        *,
        train: FileName,
        valid: FileName | None = None,
        test: FileName | None = None,
        valid_fraction: Fraction = 0.1,
        text: str | int = "text",
        label: str | int = "label",
        missing: Missing = "refuse",
        encoding: str = UTF_8,
        separator: str | None = None,
        quotes: Quotes | None = None,
        header: bool | None = None,
        **documents: Unpack[DocumentSettings],
    ) -> None:
        super().__init__(**documents)
        self.files = {"train": train, "valid": valid, "test": test}
        self.valid_fraction = valid_fraction
        self.columns = (str(text), str(label))
        self.missing = missing
        self.form: Form = {
            "encoding": known_encoding(encoding), "separator": separator, "quotes": quotes, "header": header
        }  # fmt: skip

    def read(self) -> Splits:
        train, valid, test = ([] if path is None else self._read(path, split) for split, path in self.files.items())
        if self.files["valid"] is None:
            numbers = {name: number for number, name in enumerate(sorted({document.label for document in train}))}
            labels = [numbers[document.label] for document in train]
            parts = set_aside(labels, self.valid_fraction, self.seed, "documents", "a file: data.valid=FILE")
            train, valid = ([train[number] for number in part] for part in parts)
        return Splits(train, valid, test)

    def _read(self, path: str, split: str) -> list[Document]:
        found = read_documents(path, *self.columns, self.missing, split, **self.form)
        self.notes += found.notes
        return found.documents


class AsText(NextTokenData, Documents):
    """Documents as text to predict the next token of, for the language model that a classifier begins with.

    Each is read from its start, with a state of zeros.

    Args:
        bptt: tokens per window.
        documents: as for `Documents`.
    """

    meaning: ClassVar[tuple[str, ...]] = ("vocabulary", "tokenizer", "backwards")

    @checked
    def __init__(self, *, bptt: Size = 70, **documents: Any) -> None:  # of the class of documents beside it
        super().__init__(**documents)
        if self.crop is not None:
            raise UserError(f"data.crop={self.crop}: is for classes; a language model reads documents whole")
        self.bptt = bptt

    @cached_property
    def train(self) -> Stream:  # type: ignore[override]
        return self._stream("training", self.splits.train, shuffle=True)

    @cached_property
    def valid(self) -> Stream:  # type: ignore[override]
        return self._stream(self.evaluated_name, self.evaluated, shuffle=False)

    def _stream(self, split: str, documents: Sequence[Document], shuffle: bool) -> Stream:
        ids = [part for part in (self.encoded(document.text) for document in documents) if len(part) > 1]
        try:
            parts = torch.cat(ids).to(torch.int32).split([len(part) for part in ids])
            return Stream(parts, self.batch_size, self.bptt, shuffle=shuffle, seed=self.seed)
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None

    def description(self) -> dict[str, Any]:
        return {**super().description(), "backwards": self.backwards}

    def start_of_validation(self, length: int = 1) -> Tensor:
        """The tokens of the first validation document, int64, at most 2,000 of them."""
        return self.encoded(self.evaluated[0].text)[:2000]

    def summary(self) -> str:
        counts = [sum(stream.layout.counts) for stream in (self.train, self.valid)]  # type: ignore[attr-defined]
        line = (
            f"{counts[0]:,} training and {counts[1]:,} validation tokens of {len(self.splits.train):,} and "
            f"{len(self.evaluated):,} documents, a vocabulary of {len(self.vocabulary):,}"
        )
        return "; ".join([line, *self.notes])

    def show(self, folder: Path) -> str:
        return show_batch(self.train, self.vocabulary)


class MovieReviewsText(AsText, MovieReviews):
    """The text of the film reviews; the test fold's is not in it."""


class DocumentFilesText(AsText, DocumentFiles):
    """The text of documents of the user's own."""
