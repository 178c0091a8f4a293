"""Sentences from files with a word per line and its labels beside it: those of the CoNLL shared tasks, and CoNLL-U."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reading.datasets import read_dataset
from unroll.errors import UserError

Sentence = list[list[str]]  # the columns of each word

WORD_AND_LABEL = ["word", "tag"]
CONLLU = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
DOCUMENT = "-DOCSTART-"  # the first column of a line that stands for no word
BLANKS = " \t"  # what separates columns; others, such as the no-break space, are part of a word
BYTE_ORDER_MARK = "\ufeff"
DECLARED = re.compile(r"# *global\.columns *= *(.*)")  # of CoNLL-U Plus
COMMENT = re.compile(r"# *[\w.:-]+ *=|# *new(doc|par)\b|#(begin|end) document\b")
HEADINGS = {  # names of columns that a first line may have
    *(
        "id",
        "word",
        "words",
        "token",
        "tokens",
        "form",
        "text",
        "lemma",
        "tag",
        "tags",
        "label",
        "labels",
        "ner",
        "bio",
    ),
    *("pos", "upos", "xpos", "chunk", "entity", "entities", "type", "ner_tag", "ner_tags", "pos_tag", "pos_tags"),
}
NO_WORD = re.compile(r"\d+[-.]\d+")  # the ids of CoNLL-U's multi-word tokens and empty words, which have no label


class Columns(NamedTuple):
    """What is in a file: the names of its columns, its sentences, and what was left out, for the user."""

    names: list[str]
    sentences: list[Sentence]
    notes: list[str]


def read_columns(text: str, names: Sequence[str] | None, name: str | Path) -> Columns:
    """The sentences of a text.

    A word per line; an empty line ends a sentence. Columns are separated by tabs, or where a line has none by blanks.
    Comments in front of a sentence, `-DOCSTART-`, and in a file with a column `id` the ranges (`1-2`) and empty words
    (`8.1`) of CoNLL-U are no words, and neither is a first line of names of columns, such as `token tag`.

    Args:
        text: the text.
        names: of the columns. None: those that the file declares (`# global.columns = …`, or a first line of three or
            more), those of CoNLL-U where lines have ten columns of which the first is a number, or else word and tag.
        name: of the file, for messages.

    Raises:
        UserError: a line has another number of columns or no word, or there is no sentence.
    """
    line_ends = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.removeprefix(BYTE_ORDER_MARK).strip(BLANKS) for line in line_ends.split("\n")]
    typed, names = names is not None, list(names or declared(lines))
    cells = by_tabs_alone if has_blanks_in_words(lines) else by_tabs_or_blanks
    id_column = next((at for at, column in enumerate(names) if column.lower() == "id"), None)
    sentences: list[Sentence] = [[]]
    for number, line in enumerate(lines, start=1):
        found = cells(line, len(names))
        if not line or found[0] == DOCUMENT:
            if sentences[-1]:
                sentences.append([])
            continue
        if not sentences[-1] and line[0] == "#" and (len(found) != len(names) or COMMENT.match(line)):
            continue
        where = f"{name}, line {number}"
        if len(found) != len(names):
            named = f"data.columns names {len(names)}: {', '.join(names)}" if typed else "name them: data.columns=[…]"
            separated = " (tabs or blanks separate them)" if len(found) == 1 else ""
            raise UserError(f"{where}: has {len(found)} columns{separated}; {named}")
        if id_column is not None and NO_WORD.fullmatch(found[id_column]):
            continue
        if not all(found):
            raise UserError(f"{where}: has nothing in the column {names[found.index('')]}")
        sentences[-1].append(found)
    if not sentences[-1]:
        sentences.pop()
    notes = []
    if sentences and has_headings(sentences, names):
        notes.append(f"{name}: the first line left out, as it has the names of columns ({' '.join(sentences[0][0])})")
        sentences[0].pop(0)
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise UserError(f"{name}: has no sentences")
    return Columns(names, sentences, notes)


def has_headings(sentences: Sequence[Sentence], names: Sequence[str]) -> bool:
    """Whether the first word of a text is a line of names of columns: the last of them is no label of another word."""
    first = sentences[0][0]
    known = HEADINGS.union(map(str.lower, names))
    if len(first) == 1 or not known.issuperset(map(str.lower, first)):
        return False
    return sum(word[-1] == first[-1] for sentence in sentences for word in sentence) == 1


def lists_of(path: str, split: str) -> Any:
    """The columns of a data set of Hugging Face that hold lists of words or labels, as a polars DataFrame.

    Args:
        path, split: as for `reading.datasets.load`.

    Raises:
        UserError: it can't be read, or has no such column.
    """
    import polars

    frame = read_dataset(path, split)
    kinds = {name: getattr(kind, "inner", None) for name, kind in frame.schema.items()}
    names = [name for name, kind in kinds.items() if kind is not None and (kind == polars.String or kind.is_integer())]
    if not names:
        raise UserError(f"{path}: has no column of lists, of the words of a sentence and of their labels")
    return frame.select(polars.col(names).cast(polars.List(polars.String)))


def read_lists(frame: Any, name: str) -> Columns:
    """The sentences of some columns of lists: a row is one, and has a value for each word. Empty rows are none.

    Args:
        frame: a polars DataFrame, as `lists_of` gives.
        name: of the data set, for messages.

    Raises:
        UserError: the lists of a row are of several lengths or have gaps, or there is no sentence.
    """
    sentences: list[Sentence] = []
    for number, row in enumerate(frame.iter_rows()):
        lists = [values or [] for values in row]
        if len({len(values) for values in lists}) > 1:
            counts = ", ".join(f"{len(values)} {column}" for column, values in zip(frame.columns, lists, strict=True))
            raise UserError(f"{name}, row {number}: has {counts}; each word needs a value in each column")
        if any(not value for values in lists for value in values):
            raise UserError(f"{name}, row {number}: a word or label is missing")
        if lists[0]:
            sentences.append([list(word) for word in zip(*lists, strict=True)])
    if not sentences:
        raise UserError(f"{name}: has no sentences")
    return Columns(list(frame.columns), sentences, [])


def declared(lines: Sequence[str]) -> list[str]:
    """The names of the columns that a file declares or shows, or else word and tag."""
    for line in lines:
        if found := DECLARED.fullmatch(line):
            return found[1].lower().split()
        if line and line[0] != "#":
            cells = line.split("\t")
            if len(cells) == len(CONLLU) and cells[0][:1].isdigit():
                return CONLLU
            cells = line.lower().split()
            return cells if len(cells) > len(WORD_AND_LABEL) and HEADINGS.issuperset(cells) else WORD_AND_LABEL
    return WORD_AND_LABEL


def has_blanks_in_words(lines: Sequence[str]) -> bool:
    """Whether there are blanks between the tabs, which then are no separators anywhere in the file."""
    separated = (line.split("\t") for line in lines if "\t" in line and line[0] != "#")
    return any(" " in cell.strip(BLANKS) for cells in separated for cell in cells)


def by_tabs_alone(line: str, count: int) -> list[str]:
    """The columns of a line; further tabs, as they align columns or end a line, count where they make too many."""
    found = [cell.strip(BLANKS) for cell in line.split("\t")]
    filled = [cell for cell in found if cell]
    return filled if len(filled) == count else found


def by_tabs_or_blanks(line: str, count: int) -> list[str]:
    return by_tabs_alone(line, count) if "\t" in line else line.split(" ") if "  " not in line else re.split(" +", line)


def words_of(sentences: Sequence[Sentence], column: int) -> Iterator[str]:
    """A column of all words, sentence after sentence."""
    return (word[column] for sentence in sentences for word in sentence)
