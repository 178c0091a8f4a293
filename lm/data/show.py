"""Batches in words: do the rows join up?"""

from itertools import pairwise
from typing import Any

import torch

from lm.data.windows import WindowBatches

ROWS, BATCHES, WIDTH = 4, 3, 36


def show_batch(data: Any) -> str:
    """The first rows of the first batches in words, a column for each batch."""
    batches = [batch for batch, _ in zip(data.train, range(BATCHES), strict=False)]
    words = data.vocabulary.textify
    lines = [f"{'':6}" + "".join(f"batch {number}".ljust(WIDTH + 3) for number in range(len(batches))).rstrip()]
    for row in range(min(ROWS, len(batches[0][0]))):
        for name, part in (("reads", 0), ("guess", 1)):
            cells = [shorten(words(batch[part][row])) if row < len(batch[part]) else "" for batch in batches]
            lines.append(
                f"{name if part else f'row {row}':6}" + " | ".join(cell.ljust(WIDTH) for cell in cells).rstrip()
            )
    inputs, _ = batches[0]
    lines.append(f"\n{len(data.train):,} batches of {inputs.size(0)} rows and {inputs.size(1)} steps in an epoch.")
    if isinstance(data.train, WindowBatches):
        lines.append("Windows are drawn anew in each epoch; none continues another.")
    else:
        joined = all(
            torch.equal(targets[: following.size(0), -1], following[:, 0])
            for (_, targets), (following, _) in pairwise(batches)
        )
        lines.append(f"Each row goes on in the next batch: {'yes' if joined else 'no'} (the last guess is read next).")
    return "\n".join(lines)


def shorten(text: str) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= WIDTH else f"{text[: WIDTH // 2 - 1]} … {text[-WIDTH // 2 + 2 :]}"
