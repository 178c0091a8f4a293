"""Tagging schemes: how the labels of words spell spans, as in B-PER I-PER O."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from unroll.errors import UserError

SchemeName = Literal["iob1", "iob2", "ioe1", "ioe2", "iobes", "bilou", "none"]
OUTSIDE = "O"
UNNAMED = "_"  # the type of spans whose labels are letters alone
LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}  # in IOBES
LETTERS_OF = {"iob1": "BI", "iob2": "BI", "ioe1": "IE", "ioe2": "IE", "iobes": "BIMESW", "bilou": "BILU"}
SEPARATORS = "-_/:|."
QUOTES = "\"'"
SLIPS = ("0", "o")  # for O
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
        UserError: some labels are of a scheme and others are not, letters of two schemes are mixed, or are others than
            those of the scheme that the user names.
    """
    if name == "none":
        return Scheme("none")
    seen = {label for sentence in sentences for label in sentence}
    labels = sorted(seen - {OUTSIDE})
    refuse_signs(labels)
    for separator, suffix in ways():
        found = {label: parsed(label, separator, suffix) for label in labels}
        letters = {one.letter for one in found.values() if one}
        if all(found.values()) and (separator or "B" in letters):
            refuse_two_letters(letters)
            refuse_several(labels, separator, suffix)
            for label, one in found.items():
                if name and one and one.letter not in LETTERS_OF[name]:
                    known = ", ".join(LETTERS_OF[name])
                    raise UserError(f"data.scheme={name}: the label {label} is of another (its letters are {known})")
            positions = [[Scheme("iob2", separator, suffix).position(label) for label in one] for one in sentences]
            return Scheme(name or (name_of(positions, letters) if labels else "none"), separator, suffix)
    if attribute := next((label for label in labels if label.endswith(f"={OUTSIDE}")), None):
        raise UserError(f"the labels are attributes, such as {attribute}; give a column that has their values alone")
    refuse_slips(labels)
    refuse_others(labels, name is not None or OUTSIDE in seen)
    if name:
        raise UserError(f"data.scheme={name}: the label {labels[0]} has no letter of it; {OTHERWISE}")
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


def like_labels(words: Iterable[str]) -> str | None:
    """One of some words that are all labels of a scheme, such as B-PER and O, if they are."""
    seen = set(words) - {OUTSIDE}
    of_scheme = any(all(parsed(word, *way) for word in seen) for way in ways() if way[0])
    return min(seen) if seen and of_scheme else None


def refuse_signs(labels: Sequence[str]) -> None:
    """Checks that labels have no characters that are not seen, and no quotes around them."""
    if unseen := next((label for label in labels if not label.isprintable()), None):
        raise UserError(f"the label {unseen!a} has a character in it that is not seen; {OTHERWISE}")
    if labels and all(len(label) > 2 and label[0] == label[-1] and label[0] in QUOTES for label in labels):
        raise UserError(f"the labels are in quotes, such as {labels[0]}; write them without; {OTHERWISE}")


def refuse_several(labels: Sequence[str], separator: str, suffix: bool) -> None:
    """Checks that no label is several, such as B-PER|B-NP."""
    letter, between = f"[{''.join(LETTERS)}]", re.escape(separator)
    second = rf"{between}{letter}[|+,;&]" if suffix else rf"[|+,;&]{letter}{between}"
    if separator and (several := next((label for label in labels if re.search(second, label)), None)):
        raise UserError(f"the label {several} is several; give a column that has one of them; {OTHERWISE}")


def refuse_two_letters(letters: set[str]) -> None:
    """Checks that no two letters say the same."""
    counts = Counter(LETTERS[letter] for letter in letters)
    for letter, count in counts.items():
        if count > 1:
            same = sorted(one for one in letters if LETTERS[one] == letter)
            raise UserError(f"the labels mix the letters {' and '.join(same)}, of different schemes; {OTHERWISE}")


def refuse_slips(labels: Sequence[str]) -> None:
    """Checks that labels are not meant to be of a scheme: 0 for O, b-PER for B-PER, BPER."""

    def refuse(label: str, right: str) -> None:
        raise UserError(f"the label {label} must be {right} to be of a scheme; {OTHERWISE}")

    for slip in SLIPS:
        if slip in labels and not all(map(str.isdigit, labels)):
            refuse(slip, f"{OUTSIDE} (the capital letter)")
    for separator, suffix in ways():
        capitals = {label: in_capitals(label, separator, suffix) for label in labels}
        if all(parsed(label, separator, suffix) for label in capitals.values()) and (
            separator or "B" in capitals.values()
        ):
            small = next(label for label in labels if capitals[label] != label)
            refuse(small, capitals[small])
    parts = {label: (label[0], label[1:]) for label in labels}
    kinds = Counter(kind for _, kind in parts.values())
    if (
        all(letter in LETTERS and kind[:1].isalnum() for letter, kind in parts.values())
        and max(kinds.values(), default=0) > 1
    ):
        refuse(labels[0], "-".join(parts[labels[0]]))


def in_capitals(label: str, separator: str, suffix: bool) -> str:
    """A label with its letter in capitals."""
    if not separator:
        return label.upper()
    first, between, second = label.rpartition(separator) if suffix else label.partition(separator)
    return first + between + second.upper() if suffix else first.upper() + between + second


def refuse_others(labels: Sequence[str], has_outside: bool) -> None:
    """Checks that labels which are of no scheme do not look like one."""
    for separator, suffix in ways():
        found = {label: parsed(label, separator, suffix) for label in labels}
        of_scheme, others = [[label for label in labels if bool(found[label]) == is_of] for is_of in (True, False)]
        kinds = Counter(one.kind for one in found.values() if one)
        is_one = separator and (
            max(kinds.values(), default=0) > 1
            or (len(others) == 1 and (len(of_scheme) > 1 or not any(map(str.isalnum, others[0]))))
        )
        if of_scheme and (has_outside or is_one):
            raise UserError(f"the label {others[0]} is neither O nor of a scheme, as {of_scheme[0]} is; {OTHERWISE}")
        parts = [label.partition(separator) if separator else (label, "", "") for label in labels]
        kinds = Counter(part[0 if suffix else 2] for part in parts)
        if has_outside and labels and separator and all(part[1] for part in parts) and max(kinds.values()) > 1:
            raise UserError(
                f"the label {labels[0]} is of no scheme that is known here (its letter is none of "
                f"{', '.join(LETTERS)}); {OTHERWISE}"
            )
