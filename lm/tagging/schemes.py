"""Tagging schemes: how the labels of words spell spans, as in B-PER I-PER O."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from unroll.errors import UserError

SchemeName = Literal["iob1", "iob2", "ioe1", "ioe2", "iobes", "bilou", "none"]
OUTSIDE = "O"
UNNAMED = "_"  # the type of spans whose labels are letters alone
LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}  # in IOBES
SEPARATORS = "-_/:|."
OTHERWISE = "data.scheme=none takes each label for a type of its own"


class Position(NamedTuple):
    """What a label says of its word: where it is in a span, and the type of the span.

    B begins a span, I goes on with one, E ends one, S is one alone, O is outside; the type is empty then.
    """

    letter: str
    kind: str


class Scheme(NamedTuple):
    """How labels spell spans.

    Attributes:
        name: iob2 and ioe2 mark each span by B at its beginning or E at its end; iob1 and ioe1 those alone that touch
            another of their type. iobes (or BMES, with M for I) and bilou (with L for E, U for S) mark both ends. none:
            a label is a type, and a run of equal ones a span.
        separator: between the letter and the type; empty where labels are letters alone.
        suffix: the letter is behind the type, as in PER-B.
    """

    name: SchemeName = "iob2"
    separator: str = "-"
    suffix: bool = False

    def position(self, label: str) -> Position:
        """
        Raises:
            UserError: the label is not one of the scheme.
        """
        if label == OUTSIDE:
            return Position(OUTSIDE, "")
        if self.name == "none":
            return Position("I", label)
        if (found := parsed(label, self.separator, self.suffix)) is None:
            raise UserError(f"the label {label} has no letter of {self.name}; {OTHERWISE}")
        return Position(LETTERS[found.letter], found.kind)

    def kinds(self, labels: Iterable[str]) -> list[str]:
        """The types of the spans that these labels spell, in alphabetical order."""
        return sorted({self.position(label).kind for label in labels} - {""})


def recognised(sentences: Sequence[Sequence[str]], name: SchemeName | None = None) -> Scheme:
    """The scheme of the labels of some sentences.

    Args:
        sentences: the labels of each.
        name: what the user calls it; its separator is found then.

    Raises:
        UserError: some labels are of a scheme and others are not, or letters of two schemes are mixed.
    """
    if name == "none":
        return Scheme("none")
    seen = {label for sentence in sentences for label in sentence}
    labels = sorted(seen - {OUTSIDE})
    for separator, suffix in ways():
        letters = {found.letter for found in (parsed(label, separator, suffix) for label in labels) if found}
        if labels and all(parsed(label, separator, suffix) for label in labels) and (separator or "B" in letters):
            refuse_two_letters(letters)
            positions = [[Scheme("iob2", separator, suffix).position(label) for label in one] for one in sentences]
            return Scheme(name or name_of(positions, letters), separator, suffix)
    if attribute := next((label for label in labels if label.endswith(f"={OUTSIDE}")), None):
        raise UserError(f"the labels are attributes, such as {attribute}; give a column that has their values alone")
    refuse_others(labels, name is not None or OUTSIDE in seen)
    return Scheme("none")


def ways() -> Iterator[tuple[str, bool]]:
    """Where labels may have their letters: before or behind one of the separators, or alone."""
    yield from ((separator, suffix) for separator in SEPARATORS for suffix in (False, True))
    yield "", False


def parsed(label: str, separator: str, suffix: bool) -> Position | None:
    """The letter, as it is in the label, and the type; None for another label."""
    if not separator:
        letter, kind = label, UNNAMED
    elif suffix:
        kind, _, letter = label.rpartition(separator)
    else:
        letter, _, kind = label.partition(separator)
    return Position(letter, kind) if letter in LETTERS and kind else None


def name_of(sentences: Sequence[Sequence[Position]], letters: set[str]) -> SchemeName:
    """The scheme whose letters these are; whether touching spans alone are marked, the sentences show."""
    if letters & {"L", "U"}:
        return "bilou"
    if not letters <= {"B", "I"} and not letters <= {"E", "I"}:
        return "iobes"
    if "E" in letters:
        return "ioe1" if marks_touching("E", [sentence[::-1] for sentence in sentences]) else "ioe2"
    return "iob1" if marks_touching("B", sentences) else "iob2"


def marks_touching(letter: str, sentences: Iterable[Sequence[Position]]) -> bool:
    """Whether more spans begin without the letter than have one that iob1 would leave out."""
    without = needless = 0
    for sentence in sentences:
        for before, now in pairwise([Position(OUTSIDE, ""), *sentence]):
            apart = now.letter != OUTSIDE and before.kind != now.kind
            without += apart and now.letter != letter
            needless += apart and now.letter == letter
    return without > needless


def refuse_two_letters(letters: set[str]) -> None:
    """Checks that no two letters say the same."""
    counts = Counter(LETTERS[letter] for letter in letters)
    for letter, count in counts.items():
        if count > 1:
            same = sorted(one for one in letters if LETTERS[one] == letter)
            raise UserError(f"the labels mix the letters {' and '.join(same)}, of different schemes; {OTHERWISE}")


def refuse_others(labels: Sequence[str], has_outside: bool) -> None:
    """Checks that labels which are of no scheme do not look like one."""
    if not has_outside:
        return
    for separator, suffix in ways():
        others = [label for label in labels if not parsed(label, separator, suffix)]
        if len(others) < len(labels):
            like = next(label for label in labels if label not in others)
            raise UserError(f"the label {others[0]} is neither O nor of a scheme, as {like} is; {OTHERWISE}")
        parts = [label.partition(separator) if separator else (label, "", "") for label in labels]
        kinds = Counter(part[0 if suffix else 2] for part in parts)
        if labels and separator and all(part[1] for part in parts) and max(kinds.values()) > 1:
            raise UserError(
                f"the label {labels[0]} is of no scheme that is known here (its letter is none of "
                f"{', '.join(LETTERS)}); {OTHERWISE}"
            )
