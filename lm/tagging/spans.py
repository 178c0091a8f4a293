"""Spans of labels such as B-NP I-NP O, counted as the CoNLL shared tasks' program conlleval counts them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"


class Span(NamedTuple):
    """A span of words: its type, the index of its first word and of the one after its last."""

    kind: str
    start: int
    stop: int


class Counts(NamedTuple):
    """How many spans there are, how many were predicted, and how many of these are exactly right."""

    true: int
    predicted: int
    correct: int


def spans(labels: Sequence[str]) -> list[Span]:
    """The spans of a sentence.

    A label is `O`, or a prefix and a type: B begins a span, I goes on with one, E ends one, S is one. A label that
    can't follow the one before it (I after O, or after another type) begins a span; labels without a prefix are spans
    of one type that go on for as long as it does not change.
    """
    found, kind, start = [], "", 0
    before = OUTSIDE
    for at, label in enumerate([*labels, OUTSIDE]):
        prefix, following = parts(label)
        if kind and (prefix in ("B", "S", OUTSIDE) or before in ("E", "S") or following != kind):
            found.append(Span(kind, start, at))
            kind = ""
        if not kind and prefix != OUTSIDE:
            kind, start = following, at
        before = prefix
    return found


def parts(label: str) -> tuple[str, str]:
    """The prefix and the type of a label; a label without a prefix is a type that goes on."""
    if label == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, kind = label.partition("-")
    return (prefix, kind) if dash and prefix in ("B", "I", "E", "S") else ("I", label)


def count(true: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> Counts:
    """Counts over sentences."""
    totals = [0, 0, 0]
    for truth, guess in zip(true, predicted, strict=True):
        ours, theirs = set(spans(guess)), set(spans(truth))
        for number, found in enumerate((theirs, ours, ours & theirs)):
            totals[number] += len(found)
    return Counts(*totals)
