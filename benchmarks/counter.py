"""What a program that counts without a mistake reaches on the human numbers: the most that a model can hope for.

    python -m benchmarks.counter

It keeps every place of a stream of numbers that fits what a row has said so far, and says the word that follows most of
them. It knows the numbers of the split that is read, or all from 1 to 9999. Each of the 64 rows starts from nothing.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence

from benchmarks.process import Table
from lm.data import Tokenizer, Vocabulary, human_numbers
from unroll import Stream

ROWS = 64
SPLITS = {"the search's, 7001 to 7999": (7001, 7999), "the lesson's, 8001 to 9999": (8001, 9999)}


def right(row: Sequence[int], known: Sequence[int]) -> int:
    """How many words of a row the program says before they come."""
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
        rows = [row.tolist() for row in tokens.split(Stream(tokens, ROWS, 20).row_length)]
        rows = [[*row, *following[:1]] for row, following in zip(rows, [*rows[1:], []], strict=True)]
        accuracies = [
            sum(right(row, known.tolist()) for row in rows) / (len(tokens) - 1)
            for known in (tokens, vocabulary.encode(everything))
        ]
        table.add((name, ""), *((accuracy, ".4f") for accuracy in accuracies))


if __name__ == "__main__":
    main()
