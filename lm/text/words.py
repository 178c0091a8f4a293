"""Words and punctuation marks of a text, by Unicode's word boundaries (UAX 29) but for what the lessons split further.

Marks stay with the letter before them: vowel signs of Hindi and Arabic, accents written apart, joiners. An emoji with
its modifiers is one token, and so is a flag. Characters of scripts that put no blanks between words are a token each.
As in the lessons, numbers and addresses are split at their points.
"""

import re
import unicodedata

# Han, Hiragana, and the scripts of South East Asia whose words UAX 29 leaves to dictionaries, without their digits
WITHOUT_BLANKS = (
    r"\u0e00-\u0e4f\u0e80-\u0ecf\u0edc-\u0edf\u1000-\u103f\u104a-\u108f\u109a-\u109f\u1780-\u17df\u1950-\u19cf"
    r"\u19de-\u19df\u1a20-\u1a7f\u1aa0-\u1aaf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u309f\u3400-\u4dbf"
    r"\u4e00-\u9fff\ua9e0-\ua9ef\ua9fa-\ua9ff\uaa60-\uaadf\uf900-\ufaff\U00011700-\U0001172f"
    r"\U0001b001-\U0001b11f\U00020000-\U0003fffd"
)
JOINERS = r"\u200c\u200d"  # zero-width, in Persian and Indian scripts
FORMATS = r"\u00ad\u200e\u200f\u2060-\u2064\u202a-\u202e\u2066-\u2069\ufeff"  # soft hyphens and directions
INSIDE = r"'\u2019\u00b7\u0387\u055f\u05f3\u05f4\u2027"  # punctuation that is part of a word between letters
MODIFIERS = r"\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"  # skin tones, and the tags of flags
SYMBOLS = 0x1F000  # the first code point behind all marks but
SELECTORS = r"\U000e0100-\U000e01ef"  # of variants of a character


def marks() -> str:
    """The combining characters, as ranges of a class of a regular expression."""
    points = [point for point in range(0x300, SYMBOLS) if unicodedata.category(chr(point))[0] == "M"]
    starts = [point for before, point in zip([0, *points], points, strict=False) if point != before + 1]
    stops = [point for point, after in zip(points, [*points[1:], 0], strict=True) if after != point + 1]
    ranges = (f"{escaped(start)}-{escaped(stop)}" for start, stop in zip(starts, stops, strict=True))
    return "".join(ranges) + SELECTORS


def escaped(point: int) -> str:
    return rf"\u{point:04x}" if point < 0x10000 else rf"\U{point:08x}"


def word_pattern() -> str:
    """A regular expression for one word or punctuation mark, in ASCII, as the module `re` reads it."""
    mark, letter = marks(), rf"[^\W{WITHOUT_BLANKS}]"
    attached = rf"[{mark}{JOINERS}]+|(?:[{INSIDE}]|[{FORMATS}]+)(?={letter})"
    word = rf"{letter}+(?:(?:{attached}){letter}*)*"
    flag = r"[\U0001f1e6-\U0001f1ff]{2}"
    return rf"<\w+>|{word}|{flag}|\S(?:\u200d[^\w\s]|[{mark}{MODIFIERS}])*"


WORD = re.compile(word_pattern())
ALONE = re.compile(rf"[{WITHOUT_BLANKS}]")
