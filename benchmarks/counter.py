"""The accuracy on the human numbers of a program that counts without a mistake: an upper bound for models.

    python -m benchmarks.counter

It keeps all positions in a stream of numbers that match what it has read of a row, and predicts the word that follows
most of them. It knows the numbers of the split, or all from 1 to 9999. Each of the 64 rows starts from nothing.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence

from benchmarks.process import Table
from lm.language.corpora import human_numbers
from lm.text import Tokenizer, Vocabulary

ROWS = 64
SPLITS = {"the search's, 7001 to 7999": (7001, 7999), "the lesson's, 8001 to 9999": (8001, 9999)}


def right(row: Sequence[int], known: Sequence[int]) -> int:
    """The number of words of a row that the program predicts."""
    places = defaultdict(list)
    for place, word in enumerate(known[:-1]):
        places[word].append(place)
    fitting, correct = places[row[0]], 0
    for word in row[1:]:
        said = Counter(known[place + 1] for place in fitting).most_common(1)
        correct += bool(said) and said[0][0] == word
        fitting = [place + 1 for place in fitting if known[place + 1] == word and place + 2 < len(known)]
        fitting = fitting or places[word]  # nothing fits: begin again from the last word
    return correct


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    words = Tokenizer("words")
    table = Table("counter", ("split", "it knows the split", "it knows 1 to 9999"), None)
    for name, numbers in SPLITS.items():
        everything, text = (words.split(part) for part in human_numbers(train=(1, 9999), valid=numbers))
        vocabulary = Vocabulary.build(everything, words)
        tokens = vocabulary.encode(text)
        rows = [row.tolist() for row in tokens.split(-(-len(tokens) // ROWS))]
        rows = [[*row, *following[:1]] for row, following in zip(rows, [*rows[1:], []], strict=True)]
        accuracies = [
            sum(right(row, known.tolist()) for row in rows) / (len(tokens) - 1)
            for known in (tokens, vocabulary.encode(everything))
        ]
        table.add((name, ""), *((accuracy, ".4f") for accuracy in accuracies))


if __name__ == "__main__":
    main()
