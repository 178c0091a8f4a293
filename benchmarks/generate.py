"""Throughput of generation: `lm.generate` and a bare loop with carried state, tokens per second.

    python -m benchmarks.generate

Untrained models, on one thread; the two in turn, medians of three.
"""

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.process import Table
from lm.language import GRU, CharGRU, CharLSTM
from lm.language.generation import generate

LENGTHS = (100, 1_000, 10_000, 100_000)
REPEATS = 3
TEMPERATURE = 0.8
MODELS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: GRU(33),
    "char_gru": lambda: CharGRU(56),
    "char_lstm": lambda: CharLSTM(56),
}


def ours(model: nn.Module, prompt: Tensor, length: int) -> None:
    for _ in islice(generate(model, prompt, temperature=TEMPERATURE, seed=0, never=(0, 1)), length):
        pass


@torch.no_grad()
def bare(model: nn.Module, prompt: Tensor, length: int) -> None:
    window, state, written = prompt[None], None, []
    for _ in range(length):
        logits, state = model(window, state)
        probabilities = (logits[0, -1] / TEMPERATURE).softmax(0)
        window = torch.multinomial(probabilities, 1)[None]
        written.append(window.item())


def speed(write: Callable[[nn.Module, Tensor, int], None], model: nn.Module, prompt: Tensor, length: int) -> float:
    started = time.perf_counter()
    write(model, prompt, length)
    return length / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(
        "generate", ("model", "tokens", "bare loop, tokens/s", "lm.generate, tokens/s", "ratio"), arguments.write
    )
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model, prompt = make().eval(), torch.randint(33, (8,))
        for length in LENGTHS:
            if name == "char_lstm" and length > 1_000:  # the bare loop takes minutes
                continue
            speeds: dict[Callable, list[float]] = {bare: [], ours: []}
            for _ in range(REPEATS):
                for write, of_write in speeds.items():
                    of_write.append(speed(write, model, prompt, length))
            loop, own = median(speeds[bare]), median(speeds[ours])
            table.add((name, ""), (length, ","), (loop, ",.0f"), (own, ",.0f"), (own / loop, ".2f"))
    table.keep()


if __name__ == "__main__":
    main()
