"""What a step costs for the rows of an embedding that a window does not touch: dense and sparse gradients.

    python -m benchmarks.embeddings [--write FOLDER]

An embedding of 200 units alone, looked up by 20 rows of 35 tokens that are as frequent as Zipf's law has them: backward
pass, clipping and the optimizer's step; the fastest of ten. With sparse gradients only the rows that were looked up are
updated: SGD without momentum does the same as before; Adam does not, as its moments of the other rows stand still.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.process import Table

SIZE, TOKENS, TIMES = 200, 700, 10
VOCABULARIES = (10_000, 33_000, 100_000)
OPTIMIZERS = {
    "SGD": (
        lambda weights: torch.optim.SGD(weights, lr=1.0, fused=True),
        lambda weights: torch.optim.SGD(weights, lr=1.0),
    ),
    "AdamW and SparseAdam": (
        lambda weights: torch.optim.AdamW(weights, lr=1e-3, fused=True),
        lambda weights: torch.optim.SparseAdam(weights, lr=1e-3),
    ),
}


def milliseconds(vocab_size: int, sparse: bool, make) -> float:
    embed = nn.Embedding(vocab_size, SIZE, sparse=sparse)
    optimizer = make([embed.weight])
    likely = 1 / torch.arange(1, vocab_size + 1)
    seconds = []
    for _ in range(TIMES):
        tokens = likely.multinomial(TOKENS, replacement=True)
        gradient = torch.randn(TOKENS, SIZE)
        started = time.perf_counter()
        optimizer.zero_grad()
        embed(tokens).backward(gradient)
        if sparse:
            assert embed.weight.grad is not None
            embed.weight.grad = embed.weight.grad.coalesce()
            values = embed.weight.grad.values()
            values.mul_((0.25 / values.norm()).clamp(max=1))
        else:
            nn.utils.clip_grad_norm_(embed.parameters(), 0.25)
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    table = Table("embeddings", ("vocabulary", "optimizer", "dense, ms", "sparse, ms"), parser.parse_args().write)
    for vocab_size in VOCABULARIES:
        for name, (dense, sparse) in OPTIMIZERS.items():
            times = milliseconds(vocab_size, False, dense), milliseconds(vocab_size, True, sparse)
            table.add((vocab_size, ","), (name, ""), (times[0], ".1f"), (times[1], ".1f"))
    table.keep()


if __name__ == "__main__":
    main()
