"""Sentences from files with a word per line and its labels beside it, as the CoNLL shared tasks have them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from unroll.errors import UserError

Sentence = list[list[str]]  # the columns of each word
DOCUMENT = "-DOCSTART-"  # the first column of a line that stands for no word


def read_sentences(text: str, columns: Sequence[str], name: str | Path) -> list[Sentence]:
    """The sentences of a text.

    Args:
        text: a word per line, its columns separated by blanks or tabs; an empty line ends a sentence.
        columns: their names.
        name: of the file, for messages.

    Raises:
        UserError: a line has another number of columns, or there is no sentence.
    """
    sentences: list[Sentence] = [[]]
    for number, line in enumerate(text.splitlines(), start=1):
        found = line.split()
        if not found or found[0] == DOCUMENT:
            if sentences[-1]:
                sentences.append([])
            continue
        if len(found) != len(columns):
            raise UserError(
                f"{name}, line {number}: has {len(found)} columns; "
                f"data.columns names {len(columns)}: {', '.join(columns)}"
            )
        sentences[-1].append(found)
    if not sentences[-1]:
        sentences.pop()
    if not sentences:
        raise UserError(f"{name}: has no sentences")
    return sentences


def words_of(sentences: Sequence[Sentence], column: int) -> Iterator[str]:
    """A column of all words, sentence after sentence."""
    return (word[column] for sentence in sentences for word in sentence)
