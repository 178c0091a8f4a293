"""The words of running text, split as the text that a tagger was trained on was split."""

from typing import NamedTuple

from lm.tagging.encoder import WordEncoder, lookup_form
from lm.tagging.model import UNKNOWN
from lm.text.words import WORD

PIECES = 8  # at most, of a word
APOSTROPHES = "'’"


class Place(NamedTuple):
    """Where a word is in a text."""

    start: int
    stop: int


def places(text: str, encoder: WordEncoder) -> list[Place]:
    """Where the words of a text are.

    Pieces that touch are one word if the training data had it (Mr., U.S., well-known), and a word with an apostrophe
    that they did not have is two if they had one of its parts (do n't, l' été). A full stop at the end of a text stays
    by itself.
    """

    def known(start: int, stop: int) -> bool:
        return encoder.words[lookup_form(text[start:stop], encoder.lower, encoder.zero_digits)] != UNKNOWN

    pieces: list[Place] = []
    for match in WORD.finditer(text):
        start, stop = match.span()
        cut = stop
        if any(mark in match.group() for mark in APOSTROPHES) and not known(start, stop):
            for at in range(start + 1, stop):
                behind = any(mark in text[at:stop] for mark in APOSTROPHES)
                if (behind and known(at, stop)) or (text[at - 1] in APOSTROPHES and known(start, at)):
                    cut = at
                    break
        pieces += [Place(start, cut), Place(cut, stop)] if cut < stop else [Place(start, stop)]
    end = len(text.rstrip())
    found: list[Place] = []
    at = 0
    while at < len(pieces):
        count = 1
        for number in range(2, min(PIECES, len(pieces) - at) + 1):
            before, last = pieces[at + number - 2], pieces[at + number - 1]
            if before.stop != last.start or (last.stop == end and text[last.start] == "."):
                break
            if known(pieces[at].start, last.stop):
                count = number
        found.append(Place(pieces[at].start, pieces[at + count - 1].stop))
        at += count
    return found
