"""Training on many documents beside one stream and beside padded documents; `CarriesState` beside a bare loop.

    python -m benchmarks.streams [--write FOLDER]

Tokens per second, medians over rounds in which the ways take turns, one thread. Only tokens that count are counted.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from benchmarks.process import Table
from unroll import CarriesState, Stream, Window
from unroll.cli.plan import MIB, with_peak_memory
from unroll.state import detach, keep_rows, start_rows

VOCABULARY, ROWS = 200, 32
IGNORED = -100  # the target of a step that is masked
DOCUMENTS, MEDIAN, SPREAD = 400, 700, 0.5  # lengths as of film reviews: log-normal


class Model(CarriesState, pl.LightningModule):
    """A GRU language model, as a user of `CarriesState` writes one."""

    def __init__(self, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.rnn = nn.Embedding(VOCABULARY, embedding), nn.GRU(embedding, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, VOCABULARY)

    def loss(self, window: Window, state: Any) -> tuple[Tensor, Any]:
        outputs, state = self.rnn(self.embed(window.inputs), state)
        targets = window.targets if window.mask is None else window.targets.masked_fill(~window.mask, IGNORED)
        logits = self.head(outputs).flatten(0, 1)
        return nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED), state

    def training_step(self, window: Window, index: int) -> Tensor:
        loss, state = self.loss(window, self.state(window))
        self.carry(state)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3, fused=True)


def documents() -> list[Tensor]:
    """Random tokens, int64 `[n]` each, parts of one tensor."""
    generator = torch.Generator().manual_seed(0)
    lengths = (torch.randn(DOCUMENTS, generator=generator) * SPREAD).exp().mul(MEDIAN).long().clamp(20, 3000)
    tokens = torch.randint(VOCABULARY, (int(lengths.sum()),), generator=generator)
    return list(tokens.split(lengths.tolist()))


def padded(texts: list[Tensor], by_length: bool) -> Iterator[Window]:
    """Whole documents, so many at a time, padded to the longest; in any order, or those of like length together."""
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
    if by_length:
        order.sort(key=lambda number: len(texts[number]))
    for first in range(0, len(order), ROWS):
        chosen = [texts[number] for number in order[first : first + ROWS]]
        inputs = pad_sequence([text[:-1] for text in chosen], batch_first=True)
        targets = pad_sequence([text[1:] for text in chosen], batch_first=True)
        mask = torch.arange(inputs.size(1)) < torch.tensor([[len(text) - 1] for text in chosen])
        yield Window(inputs, targets, torch.ones(len(chosen), dtype=torch.bool), mask)


def count(window: Window) -> tuple[int, int]:
    """The steps that count, and all steps."""
    steps = window.inputs.numel()
    return (steps if window.mask is None else int(window.mask.sum())), steps


def loop(model: Model, windows: Iterable[Window], carried_by: str) -> float:
    """The seconds of a plain training loop; its own lines or the methods of `CarriesState` carry the state."""
    started = time.perf_counter()
    optimizer = model.configure_optimizers()
    state = None
    for window in windows:
        if carried_by == "CarriesState":
            loss, state = model.loss(window, model.state(window, "train"))
            model.carry(state, "train")
        else:
            if state is not None:
                state = start_rows(keep_rows(detach(state), len(window.starts)), window.starts)
            loss, state = model.loss(window, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


def in_turn(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each way returns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            times[name].append(ways[name]())
    return {name: median(values) for name, values in times.items()}


def compare_streams(folder: Path | None, rounds: int) -> None:
    texts = documents()
    apart = [text.clone() for text in texts]
    whole = torch.cat(texts)
    for bptt in (35, 70):
        made: dict[str, Callable[[], Iterable[Window]]] = {
            "one stream": partial(Stream, whole, ROWS, bptt),
            "documents, parts of one tensor": partial(Stream, texts, ROWS, bptt, shuffle=True),
            "documents, tensors of their own": partial(Stream, apart, ROWS, bptt, shuffle=True),
            "whole documents, padded": partial(padded, texts, False),
            "whole documents, by length, padded": partial(padded, texts, True),
        }
        counts = {
            name: [sum(steps) for steps in zip(*map(count, windows()), strict=True)] for name, windows in made.items()
        }
        peaks = dict.fromkeys(made, 0)

        def train(name: str, windows: Callable[[], Iterable[Window]], peaks: dict[str, int] = peaks) -> float:
            model = Model(64, 128, 1)
            spent, peak = with_peak_memory(partial(loop, model, windows(), "the loop"), torch.device("cpu"))
            peaks[name] = max(peaks[name], peak or 0)
            return spent

        spent = in_turn({name: partial(train, name, windows) for name, windows in made.items()}, rounds)
        speeds = {name: counts[name][0] / spent[name] for name in made}
        columns = ("bptt", "read as", "tokens/s", "beside one stream", "steps that count", "peak MiB")
        table = Table(f"streams_{bptt}", columns, folder)
        for name, speed in speeds.items():
            share, memory = counts[name][0] / counts[name][1], peaks[name] / MIB
            ratio = speed / speeds["one stream"]
            shown = "–" if "padded" in name else str(bptt)
            table.add((shown, ""), (name, ""), (speed, ",.0f"), (ratio, ".2f"), (share, ".1%"), (memory, ",.0f"))
        table.keep()
        print()


class Clock(pl.Callback):
    """The seconds of the training batches of a fit."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.spent = time.perf_counter() - self.started


def looped(hidden: int, stream: Stream, carried_by: str) -> float:
    """The seconds of an epoch in a plain loop."""
    return loop(Model(64, hidden, 2), stream, carried_by)


def fit(hidden: int, stream: Stream) -> float:
    """The seconds of an epoch with Lightning's Trainer."""
    clock = Clock()
    quiet: Any = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    pl.Trainer(max_epochs=1, callbacks=[clock], accelerator="cpu", **quiet).fit(Model(64, hidden, 2), stream)
    return clock.spent


def compare_carry(folder: Path | None, rounds: int) -> None:
    tokens = torch.randint(VOCABULARY, (200_000,), generator=torch.Generator().manual_seed(0))
    table = Table("carry", ("units", "bptt", "way", "tokens/s", "beside the bare loop"), folder)
    for hidden, bptt in ((64, 20), (256, 70)):
        stream = Stream(tokens, ROWS, bptt)
        ways = {
            "bare loop": partial(looped, hidden, stream, "the loop"),
            "the loop with CarriesState": partial(looped, hidden, stream, "CarriesState"),
            "Lightning's Trainer with CarriesState": partial(fit, hidden, stream),
        }
        spent = in_turn(ways, rounds)
        for name, value in spent.items():
            speed, ratio = (len(tokens) - 1) / value, spent["bare loop"] / value
            table.add((hidden, ""), (bptt, ""), (name, ""), (speed, ",.0f"), (ratio, ".3f"))
    table.keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the tables and the metrics there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare_streams(arguments.write, arguments.rounds)
    compare_carry(arguments.write, arguments.rounds)


if __name__ == "__main__":
    main()
