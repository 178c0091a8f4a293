"""What the softmax over a vocabulary costs: the heads of `lm.language.heads` beside plain scores, and their memory.

    python -m benchmarks.heads [--write FOLDER]

Forward and backward for a batch of 20 rows of 35 tokens, 200 units, the tokens as frequent as Zipf's law has them; the
fastest of ten. The memory is the peak beyond that of the same step on a single token.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.process import Table
from lm.language.heads import LinearHead, make_head
from unroll.cli.plan import MIB, with_peak_memory

HIDDEN, TARGETS, TIMES = 200, 700, 10
VOCABULARIES = (10_000, 33_000)
Loss = Callable[[Tensor, Tensor], Tensor]


def plain(head: LinearHead, x: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(head(x), targets)


def mixed(loss: Loss, x: Tensor, targets: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return loss(x, targets)


def ways(vocab_size: int) -> dict[str, Loss]:
    """The loss of activations and targets, by the name of how it is computed."""
    linear, adaptive = LinearHead(HIDDEN, vocab_size), make_head("adaptive", HIDDEN, vocab_size)

    def exact(x: Tensor, targets: Tensor) -> Tensor:
        return linear.measured(x, targets).minimised

    def quick(x: Tensor, targets: Tensor) -> Tensor:
        return adaptive.measured(x, targets).minimised

    return {
        "all scores at once": partial(plain, linear),
        "linear": exact,
        "linear, bf16-mixed": partial(mixed, exact),
        "adaptive": quick,
        "adaptive, bf16-mixed": partial(mixed, quick),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    table = Table("heads", ("vocabulary", "head", "ms", "times as fast", "peak MiB more"), parser.parse_args().write)
    for vocab_size in VOCABULARIES:
        likely = 1 / torch.arange(1, vocab_size + 1)
        targets = likely.multinomial(TARGETS, replacement=True)
        first = None
        for name, loss in ways(vocab_size).items():

            def step(count: int, loss: Loss = loss, targets: Tensor = targets) -> float:
                started = time.perf_counter()
                loss(torch.randn(count, HIDDEN, requires_grad=True), targets[:count]).backward()
                return time.perf_counter() - started

            seconds = min(step(TARGETS) for _ in range(TIMES))
            first = first or seconds
            _, least = with_peak_memory(partial(step, 1), torch.device("cpu"))
            _, most = with_peak_memory(partial(step, TARGETS), torch.device("cpu"))
            memory = ((most or 0) - (least or 0)) / MIB
            table.add((vocab_size, ","), (name, ""), (1000 * seconds, ".0f"), (first / seconds, ".1f"), (memory, ".0f"))
    table.keep()


if __name__ == "__main__":
    main()
