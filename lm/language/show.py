"""The first training batches as text, to see whether the rows of a stream continue from batch to batch."""

from itertools import islice, pairwise

import torch

from lm.text.vocabulary import Vocabulary
from unroll.streams import IndependentWindows, Stream

ROWS, BATCHES, WIDTH = 4, 3, 36


def show_batch(batches: Stream | IndependentWindows, vocabulary: Vocabulary) -> str:
    """The first rows of the first batches, inputs above targets, a column for each batch."""
    first = list(islice(batches.batches(0), BATCHES))
    lines = [f"{'':7}" + "".join(f"batch {number}".ljust(WIDTH + 3) for number in range(len(first))).rstrip()]
    for row in range(min(ROWS, len(first[0].inputs))):
        for label, part in ((f"row {row}", 0), ("target", 1)):
            rows = [(batch.inputs, batch.targets)[part] for batch in first]
            cells = [shorten(vocabulary.textify(ids[row])) if row < len(ids) else "" for ids in rows]
            lines.append(f"{label:7}" + " | ".join(cell.ljust(WIDTH) for cell in cells).rstrip())
    height, steps = first[0].inputs.shape
    lines.append(f"\n{len(batches):,} batches of {height} rows and {steps} steps in an epoch.")
    if all(batch.starts.all() for batch in first):
        lines.append("The windows are independent: every row starts from zeros in every batch.")
    else:
        continued = all(
            torch.equal(before.targets[: len(after.inputs), -1], after.inputs[:, 0]) and not after.starts.any()
            for before, after in pairwise(first)
        )
        lines.append(f"Each row continues in the next batch: {'yes' if continued else 'no'}.")
    return "\n".join(lines)


def shorten(text: str) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= WIDTH else f"{text[: WIDTH // 2 - 1]} … {text[-WIDTH // 2 + 2 :]}"
