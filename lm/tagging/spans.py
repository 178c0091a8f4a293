"""Spans of labelled words, counted as the CoNLL shared tasks' program conlleval counts them, or strictly."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lm.tagging.schemes import OUTSIDE, Position, Scheme


class Span(NamedTuple):
    """A span of words: its type, the index of its first word and of the one after its last."""

    kind: str
    start: int
    stop: int


class Counts(NamedTuple):
    """How many spans there are, how many were predicted, and how many of these are exactly right."""

    true: float
    predicted: float
    correct: float

    @property
    def f1(self) -> float:
        return 2 * self.correct / (self.true + self.predicted) if self.true + self.predicted else 0.0


def spans(labels: Sequence[str], scheme: Scheme, strict: bool = False) -> list[Span]:
    """The spans of a sentence.

    B begins a span, I goes on with one, E ends one, S is one. A label that can't follow the one before it (I after O,
    or after another type) begins a span.

    Args:
        labels: of its words.
        scheme: how they spell spans.
        strict: only those that are spelt as the scheme spells them.
    """
    positions = [scheme.position(label) for label in labels]
    found, kind, start = [], "", 0
    before = OUTSIDE
    for at, (letter, following) in enumerate([*positions, Position(OUTSIDE, "")]):
        if kind and (letter in ("B", "S", OUTSIDE) or before in ("E", "S") or following != kind):
            found.append(Span(kind, start, at))
            kind = ""
        if not kind and letter != OUTSIDE:
            kind, start = following, at
        before = letter
    if not strict:
        return found
    spelt = spelling(found, scheme)
    return [span for span in found if all(positions[at].letter == spelt[at] for at in range(span.start, span.stop))]


def spelling(found: Sequence[Span], scheme: Scheme) -> dict[int, str]:
    """The letter of each word of some spans, which are in order, by its index."""
    letters = {at: "I" for span in found for at in range(span.start, span.stop)}
    for number, (kind, start, stop) in enumerate(found):
        last = stop - 1
        touches_before = number > 0 and found[number - 1][::2] == (kind, start)
        touches_next = number + 1 < len(found) and found[number + 1][:2] == (kind, stop)
        if scheme.name in ("iobes", "bilou"):
            letters |= {start: "S"} if start == last else {start: "B", last: "E"}
        elif scheme.name == "iob2" or (scheme.name == "iob1" and touches_before):
            letters[start] = "B"
        elif scheme.name == "ioe2" or (scheme.name == "ioe1" and touches_next):
            letters[last] = "E"
    return letters


def count(
    true: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]], scheme: Scheme, strict: bool = False
) -> Counts:
    """Counts over sentences, for `spans`."""
    totals = [0, 0, 0]
    for truth, guess in zip(true, predicted, strict=True):
        ours, theirs = set(spans(guess, scheme, strict)), set(spans(truth, scheme, strict))
        for number, found in enumerate((theirs, ours, ours & theirs)):
            totals[number] += len(found)
    return Counts(*totals)
