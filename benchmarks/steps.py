"""The parts of a training step's time, with one and two threads, with Lightning, and with torch.compile.

    python -m benchmarks.steps [--nietzsche FILE] [--compile | --limit | --layers | --inference | --resets | --kernels]

Milliseconds, medians over the steps of an epoch (at most 200); the whole of a table in one process, on an idle machine.

`--limit` shows how near the machine's limit the larger models are: GFLOP/s of training steps (two layers, 32 rows,
bptt 64, two threads), six for each weight of a matrix and character, beside those of a product of two large matrices.

`--layers` compares `unroll.nn`'s layers with PyTorch's, and a Mogrifier with its cell in a loop: thousands of steps a
second (rows × steps), forward and backward, each measured in turn, the best of at least six; and what share ours have
of the speed of a product of two large matrices. As on a processor with AVX2 alone: ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2.

`--inference` compares one step without gradients of `unroll.nn.LSTM` with `torch.nn.LSTM`'s, with oneDNN and without:
microseconds, each layer called in turn, the best of 300. `--resets` has milliseconds of 70 steps of 64 rows and units,
forward and backward, where a share of all places are resets, in one call and read in parts: the best of ten.

`--kernels` compares a training step of each model with `unroll.kernels` on and off, in turn: the best of three medians
of ten steps, with the model's own threads and sizes.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

import unroll.nn
from benchmarks.configuration import compose_config
from benchmarks.process import Laps, Table
from unroll import Stream, kernels
from unroll.cli import build
from unroll.nn.layer import read_with_resets
from unroll.streams.resumable import Resumable
from unroll.training.learner import WindowLearner
from unroll.training.optimizers import parameter_groups

onednn: Any = torch.backends.mkldnn
STEPS = 200
PARTS = ("window", "forward", "backward", "optimizer")
CASES = {
    "gru": ["model=gru"],
    "char_gru, bptt 8": ["model=char_gru"],
    "char_gru, bptt 64": ["model=char_gru", "data.bptt=64"],
}
RECURRENT = ("awd_lstm", "awd_gru", "mogrifier")
LARGE = (*RECURRENT, "qrnn", "min_gru", "min_lstm")
COUNTING = ("unrolled", "loop", "multi_output", "stateful", "rnn", "gru")
NIETZSCHE = (
    *("char_three", "char_loop", "char_concat", "char_rnn", "char_seq", "char_stateful", "char_stateful_cell"),
    *("char_gru", "char_lstm", *RECURRENT),
)
UNITS = (256, 384, 512)
SHARES = ("GRU, share of the limit", "LSTM, share of the limit")
COMPILED = {
    "stateful": ["model=stateful"],
    "gru": ["model=gru"],
    "char_stateful_cell": ["model=char_stateful_cell"],
}


def prepared(overrides: list[str], compile: bool = False) -> tuple[Resumable, WindowLearner]:
    config = compose_config([*overrides, f"model.compile={compile}"])
    data = build.data(config)
    torch.set_flush_denormal(True)  # as train.py does
    torch.manual_seed(0)
    module = build.learner(config, data)
    module.schedule = None
    assert isinstance(module, WindowLearner)
    return data.train, module


def parts(stream: Resumable, module: WindowLearner, steps: int = STEPS) -> dict[str, float]:
    """Milliseconds of each part of a plain step: the same module, without Lightning; medians over so many steps."""
    assert module.optimizer is not None
    optimizer = module.optimizer(parameter_groups(module.model, {}))
    module.train().start("train")
    laps, batches = Laps(), iter(stream)
    for _ in range(min(steps, len(stream))):
        laps.start()
        batch = next(batches)
        laps.lap("window")
        loss = module.step("train", batch).minimised
        laps.lap("forward")
        optimizer.zero_grad()
        loss.backward()
        laps.lap("backward")
        optimizer.step()
        laps.lap("optimizer")
    return laps.medians()


def speed(dtype: torch.dtype, rows: int, inner: int, columns: int) -> float:
    """GFLOP/s of a product of two matrices: the fastest of many."""
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    fastest = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * rows * inner * columns / fastest / 1e9


def shares_of_the_limit(own: list[str], folder: Path | None) -> None:
    torch.set_num_threads(2)
    by_units = [f"{what}, {units} units" for what in ("GFLOP/s", "share") for units in UNITS]
    table = Table("steps_limit", ("model", "weights dropped", "precision", *by_units), folder)
    for dtype in (torch.float32, torch.bfloat16):
        highest = speed(dtype, 2048, 2048, 2048)
        rows: list[tuple[str, float | str, list[float]]] = [
            ("a product of 2048 × 2048", "–", [highest] * len(UNITS)),
            ("a GRU's product of one step", "–", [speed(dtype, 32, units, 3 * units) for units in UNITS]),
        ]
        for name in LARGE:
            for dropped in (0, 0.3) if name in RECURRENT else ("–",):
                rows.append((name, dropped, [training(name, units, dropped, dtype, own) for units in UNITS]))
        for name, dropped, reached in rows:
            shares = [(of_units / highest, ".2f") for of_units in reached]
            described = (name, ""), (dropped, ""), (str(dtype).removeprefix("torch."), "")
            table.add(*described, *((of_units, ".0f") for of_units in reached), *shares)
    table.keep()


def training(name: str, units: int, dropped: float | str, dtype: torch.dtype, own: list[str]) -> float:
    """GFLOP/s of a training step: six operations for each weight of a matrix and token."""
    sizes = [f"model.{size}_size={units}" for size in ("embedding", "hidden")]
    drop = [f"model.weight_drop={dropped}"] if name in RECURRENT else []
    stream, module = prepared(
        [f"model={name}", "data=nietzsche", *own, *sizes, "data.bptt=64", "data.batch_size=32", *drop]
    )
    matrices = sum(weight.numel() for weight in module.model.parameters() if weight.dim() == 2)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        milliseconds = sum(parts(stream, module, steps=20).values())
    return 6 * matrices * 32 * 64 / milliseconds / 1e6


class Plain(unroll.nn.Mogrifier):
    """As it is without compiled steps: PyTorch has none."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:  # type: ignore[override]
        with kernels.plain():
            return super().forward(x)


def layers(folder: Path | None) -> None:
    kinds = ("GRU", "LSTM", "Mogrifier")
    columns = ("threads", "units", "rows", *kinds, *(f"{kind}, times PyTorch's" for kind in kinds), *SHARES)
    table = Table("steps_layers", columns, folder)
    torch.set_flush_denormal(True)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        highest = speed(torch.float32, 2048, 2048, 2048)
        for units, rows in product((64, 128, 512), (1, 4, 16, 64)):
            x = torch.randn(rows, 32 if rows * units > 8192 else 128, units)
            ours = [getattr(unroll.nn, kind)(units, units) for kind in kinds]
            theirs = (
                nn.GRU(units, units, batch_first=True),
                nn.LSTM(units, units, batch_first=True),
                Plain(units, units),
            )
            speeds = best(x, *ours, *theirs)
            # a step has six products with each weight
            shares = [
                12 * gates * units**2 * steps / 1e6 / highest for gates, steps in zip((3, 4), speeds, strict=False)
            ]
            ratios = (own / plain for own, plain in zip(speeds[:3], speeds[3:], strict=True))
            given = ((size, "") for size in (threads, units, rows))
            table.add(*given, *((steps, ".1f") for steps in speeds[:3]), *((x, ".2f") for x in (*ratios, *shares)))
    table.keep()


def best(x: Tensor, *layers: nn.Module) -> list[float]:
    """Thousands of steps a second of each layer."""
    fastest = [float("inf")] * len(layers)
    started, laps = time.perf_counter(), 0
    while laps < 3 or time.perf_counter() < started + 0.7:
        for number, layer in enumerate(layers):
            for _ in range(2):  # the first finds the caches full of another layer's numbers
                start = time.perf_counter()
                outputs, state = layer(x)
                outputs.square().mean().backward()
                layer.zero_grad()
                del outputs, state  # else the next layer's time has the end of this one's graph
                fastest[number] = min(fastest[number], time.perf_counter() - start)
        laps += 1
    return [x.size(0) * x.size(1) / seconds / 1e3 for seconds in fastest]


@torch.inference_mode()
def inference(folder: Path | None) -> None:
    torch.set_num_threads(1)
    columns = ("units", "rows", "ours, µs", "PyTorch, µs", "without oneDNN, µs")
    table = Table("steps_inference", columns, folder)
    for units, rows in product((64, 256, 512), (1, 4, 16, 64)):
        layers = unroll.nn.LSTM(units, units), *(nn.LSTM(units, units, batch_first=True) for _ in range(2))
        x, state = torch.randn(rows, 1, units), 2 * (torch.randn(1, rows, units),)
        fastest = [float("inf")] * 3
        for _ in range(300):
            for number, layer in enumerate(layers):
                onednn.enabled = number < 2
                fastest[number] = min(fastest[number], seconds_of(partial(layer, x, state)))
        onednn.enabled = True
        table.add((units, ""), (rows, ""), *((1e6 * seconds, ".0f") for seconds in fastest))
    table.keep()


def resets(folder: Path | None) -> None:
    torch.set_num_threads(1)
    table = Table("steps_resets", ("layer", "share", "in one call, ms", "in parts, ms"), folder)
    for kind, share in product(("GRU", "LSTM"), (0.002, 0.05)):
        layer, x, places = getattr(unroll.nn, kind)(64, 64), torch.randn(64, 70, 64), torch.rand(64, 70) < share
        ways = partial(layer, x, None, places), partial(read_with_resets, layer.read, x, None, places)
        fastest = (min(seconds_of(partial(forward_and_back, way)) for _ in range(10)) for way in ways)
        table.add((kind, ""), (share, ""), *((1e3 * seconds, ".1f") for seconds in fastest))
    table.keep()


def forward_and_back(read: Callable[[], tuple[Tensor, Any]]) -> None:
    read()[0].square().mean().backward()


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def switched(own: list[str], folder: Path | None) -> None:
    table = Table("steps_kernels", ("model", "threads", "a step, ms", "kernels off, ms", "ratio"), folder)
    for name in (*COUNTING, *NIETZSCHE):
        data = ["data=nietzsche"] if name in RECURRENT else []  # the others' recipes have it
        overrides = [f"model={name}", *data, *(own if name in NIETZSCHE else [])]
        threads = compose_config(overrides).threads
        torch.set_num_threads(threads)
        stream, module = prepared(overrides)
        fastest = {True: float("inf"), False: float("inf")}
        for on in (True, False) * 3:
            kernels.use(on)
            fastest[on] = min(fastest[on], sum(parts(stream, module, steps=10).values()))
        kernels.use(True)
        times = ((fastest[on], ".2f") for on in (True, False))
        table.add((name, ""), (threads, ""), *times, (fastest[False] / fastest[True], ".2f"))
    table.keep()


class Clock(pl.Callback):
    """Milliseconds from the end of a step to the end of the next."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.times.append(1000 * time.perf_counter())


def with_lightning(stream: Resumable, module: WindowLearner) -> float:
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=min(STEPS, len(stream)),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(module, stream)
    return median(after - before for before, after in zip(clock.times, clock.times[1:], strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nietzsche", metavar="FILE", help="a copy of the text, instead of the download")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile instead (minutes)")
    parser.add_argument("--limit", action="store_true", help="larger models beside the machine's limit instead")
    parser.add_argument("--layers", action="store_true", help="recurrent layers beside PyTorch's instead")
    parser.add_argument("--inference", action="store_true", help="a step of inference beside PyTorch's instead")
    parser.add_argument("--resets", action="store_true", help="windows with resets instead")
    parser.add_argument("--kernels", action="store_true", help="each model with kernels on and off instead")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments = parser.parse_args()
    own = [f"data.path={Path(arguments.nietzsche).resolve()}"] if arguments.nietzsche else []

    if arguments.layers:
        layers(arguments.write)
        return
    if arguments.inference:
        inference(arguments.write)
        return
    if arguments.resets:
        resets(arguments.write)
        return
    if arguments.kernels:
        switched(own, arguments.write)
        return
    if arguments.limit:
        shares_of_the_limit(own, arguments.write)
        return

    def overrides_of(overrides: list[str]) -> list[str]:
        return [*overrides, *(own if "model=char" in overrides[0] else [])]

    if arguments.compile:
        inductor.force_disable_caches = True  # a second call would find what the first has compiled
        torch.set_num_threads(1)
        columns = ("model", "a step, ms", "compiled, ms", "ratio", "compiling, s")
        table = Table("steps_compiled", columns, arguments.write)
        for name, case in COMPILED.items():
            plain = sum(parts(*prepared(overrides_of(case))).values())
            stream, module = prepared(overrides_of(case), compile=True)
            started = time.perf_counter()
            parts(stream, module)  # compiles
            seconds = time.perf_counter() - started
            compiled = sum(parts(stream, module).values())
            table.add((name, ""), (plain, ".2f"), (compiled, ".2f"), (plain / compiled, ".2f"), (seconds, ".0f"))
        table.keep()
        return
    table = Table("steps", ("case", "threads", *PARTS, "together", "with Lightning", "tokens/s"), arguments.write)
    for name, case in CASES.items():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            stream, module = prepared(overrides_of(case))
            of_parts = parts(stream, module)
            together = sum(of_parts.values())
            whole = with_lightning(*prepared(overrides_of(case)))
            assert isinstance(stream, Stream)
            speed = stream.batch_size * stream.bptt / whole * 1000
            times = [(milliseconds, ".2f") for milliseconds in (*of_parts.values(), together, whole)]
            table.add((name, ""), (threads, ""), *times, (speed, ",.0f"))
    table.keep()


if __name__ == "__main__":
    main()
