"""Small data that tests train on."""

import random
from pathlib import Path

WORDS = {"good": ("fine", "great", "lovely"), "bad": ("dull", "poor", "weak")}
COLOURS, THINGS = ("red", "blue", "green"), ("car", "house", "Tree", "42")


def review(label, draw):
    """A text of 5 to 90 words in which the class shows in a few."""
    words = draw.choices(("the", "film", "is", "a", "story", "of", "two", "people", "."), k=draw.randint(5, 90))
    for _ in range(3):
        words.insert(draw.randrange(len(words)), draw.choice(WORDS[label]))
    return " ".join(words)


def reviews(number, seed=0):
    draw = random.Random(seed)
    return [(review(label, draw), label) for label in ("good", "bad") for _ in range(number // 2)]


def sentences(number, seed=0):
    """Noun phrases of one to three words among verbs, with a part of speech for each word."""
    draw = random.Random(seed)
    text = []
    for _ in range(number):
        sentence = []
        for _ in range(draw.randint(1, 4)):
            phrase = [(draw.choice(COLOURS), "JJ") for _ in range(draw.randint(0, 2))] + [(draw.choice(THINGS), "NN")]
            sentence += [(word, pos, f"{'I' if at else 'B'}-NP") for at, (word, pos) in enumerate(phrase)]
            sentence.append((draw.choice(("runs", "stands")), "VB", draw.choice(("B-VP",))))
        text.append([*sentence, (".", ".", "O")])
    return text


def columns(text):
    """Those as a file has them, a word per line."""
    return "\n".join("".join(f"{' '.join(word)}\n" for word in sentence) for sentence in text)


def some_numbers() -> str:
    """Series of unequal length, as a CSV file."""
    draw = random.Random(0)
    rows = [
        f"{name},{draw.gauss(0, 1):.3f}" for name, length in (("a", 300), ("b", 170), ("c", 90)) for _ in range(length)
    ]
    return "\n".join(["name,value", *rows])


def some_text(length: int) -> str:
    """The beginning of a book that is in the public domain (Carroll 1865), again and again."""
    text = Path(__file__).with_name("alice.txt").read_text(encoding="utf-8")
    return (text * (length // len(text) + 1))[:length]
