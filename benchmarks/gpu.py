"""What a GPU gives: speed beside bare PyTorch and the card's limit, memory, exact resume, CUDA graphs, what waits.

    python -m benchmarks.gpu [--minutes MINUTES] [--keep FOLDER] [--dry-run]

`benchmarks/gpu.sh` runs the tests that wait for a GPU first. `--dry-run` does everything once on a CPU, in tiny sizes
and without CUDA graphs: its figures mean nothing.

Speeds are thousand tokens a second of a fit by Lightning without its first 50 steps; a bare loop has the same sizes,
cuDNN's LSTM, the same optimizer and clipping. A share of the limit counts six operations for each weight of a matrix
and token, against a product of two large matrices. What does not fit into the minutes is named at the end.
"""

import argparse
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import lm.language
import vision.models
from benchmarks.process import MIB, ROOT, Table
from lm.language import AWDLSTM, GRU, QRNN, MinGRU, Mogrifier
from lm.language.learner import LanguageModel
from series.learner import ForecastLearner
from series.model import Forecaster
from series.scale import Scale
from series.windows import ForecastWindows, Span
from unroll import LastCheckpoint, Stream
from unroll.precision import guard_lstms
from unroll.state import detach, map_tensors
from unroll.streams import IndependentWindows, Resumable
from unroll.training.learner import Learner, LearnerSettings
from vision.data.batches import ImageBatches, Images
from vision.learner import ImageClassifier

PRECISIONS = {"bf16": "bf16-mixed", "TF32": "32-true", "float32": "32-true"}
HOW: dict[str, Any] = {"eager": False, "graph": "graph", "compiled": True}
WAYS = (*product(PRECISIONS, ("eager", "graph")), ("bf16", "compiled"))  # minutes to compile
CLIP = 0.25


class Shape(NamedTuple):
    """The sizes of a model, and the length of its windows."""

    vocabulary: int
    embedding: int
    hidden: int
    layers: int
    last: int
    bptt: int

    def sizes(self) -> list[int]:
        """Of the layers' inputs and outputs."""
        return [self.embedding, *[self.hidden] * (self.layers - 1), self.last]


class Bench(NamedTuple):
    """How much is measured, and where."""

    device: torch.device
    cases: tuple[tuple[str, int, Shape], ...]  # a model, its rows and its sizes
    first: int  # steps that are not counted
    steps: int  # in all
    product: int  # rows and columns of the matrices of the limit
    layers: tuple[tuple[int, int, int, int], ...]  # units, layers, rows, steps
    windows: tuple[int, ...]  # in one graph
    small: tuple[str, ...]  # models that are tried with and without graphs

    @property
    def models(self) -> dict[str, tuple[int, Shape]]:
        """The first case of each model."""
        return {name: case for name, *case in reversed(self.cases)}  # type: ignore[misc]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


NUMBERS, CHARACTERS = Shape(30, 64, 64, 2, 64, 70), Shape(65, 128, 640, 2, 640, 64)
WORDS = Shape(10_000, 400, 1150, 3, 400, 70)  # AWD-LSTM's
MODELS = {"gru": GRU, "lstm": AWDLSTM, "awd_lstm": AWDLSTM, "mogrifier": Mogrifier, "qrnn": QRNN, "min_gru": MinGRU}
CASES = (
    ("gru", 64, NUMBERS),
    ("lstm", 64, CHARACTERS),
    ("lstm", 256, CHARACTERS._replace(bptt=256)),
    ("awd_lstm", 80, WORDS),
    *((name, 64, CHARACTERS) for name in ("mogrifier", "qrnn", "min_gru")),
    ("awd_lstm", 64, WORDS),
    ("gru", 256, NUMBERS),
    ("awd_lstm", 256, WORDS),
    *((name, 256, CHARACTERS) for name in ("mogrifier", "qrnn", "min_gru")),
)
LAYERS = ((768, 1, 16, 1024), (640, 2, 64, 64), (1024, 3, 80, 70), (1152, 3, 80, 70))
TINY = Shape(30, 8, 8, 2, 8, 5)


def on_gpu() -> Bench:
    return Bench(torch.device("cuda"), CASES, 50, 100, 8192, LAYERS, (1, 4, 16), tuple(SMALL))


def dry() -> Bench:
    cases = tuple((name, 2, TINY) for name in MODELS)
    one_of_a_kind = ("GRU", "CharThree", "ConvNet", "Forecaster")
    return Bench(torch.device("cpu"), cases, 1, 3, 16, ((8, 2, 2, 3),), (1, 2), one_of_a_kind)


def set_precision(name: str) -> None:
    """TF32 or not; bf16 is the trainer's, or autocast's."""
    torch.set_float32_matmul_precision("highest" if name == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = name != "float32"


def seconds(function: Callable[[], Any], bench: Bench, repeats: int = 10) -> float:
    """Of a call: the mean of some, after three that are not counted."""
    for _ in range(min(3, repeats)):
        function()
    bench.wait()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    bench.wait()
    return (time.perf_counter() - started) / repeats


# The library's fits


class Clock(pl.Callback):
    """The seconds of the steps from `first` on; `at(step)` is called at the start of each."""

    def __init__(self, bench: Bench, at: Callable[[int], None] = lambda step: None) -> None:
        self.bench, self.at = bench, at
        self.started = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.at(trainer.global_step)
        if trainer.global_step == self.bench.first:
            self.bench.wait()
            self.started = time.perf_counter()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.bench.wait()
        self.seconds = time.perf_counter() - self.started


def tokens(bench: Bench, shape: Shape, batch: int) -> Tensor:
    return torch.randint(shape.vocabulary, (batch * (bench.steps * shape.bptt + 1),))


def learner(name: str, shape: Shape, how: bool | str = False, **dropouts: float) -> LanguageModel:
    sizes: list[Any] = [shape.vocabulary, shape.embedding, shape.hidden, shape.layers]
    off = {"weight_drop": 0.0} if name in ("awd_lstm", "mogrifier") else {}
    more = {} if name == "gru" else {"last_size": shape.last, "tie": shape.last == shape.embedding, **off, **dropouts}
    model: Any = MODELS[name](*sizes, **more)
    return LanguageModel(model, **settings(how))


def settings(how: bool | str) -> LearnerSettings:
    return {"optimizer": partial(torch.optim.AdamW, lr=1e-3, fused=True), "compile": how}


def fit(bench: Bench, module: LanguageModel, shape: Shape, batch: int, *callbacks: Any, **settings: Any) -> None:
    """A fit on random tokens that lie on the device; `resume` is a checkpoint."""
    torch.manual_seed(1)
    stream = Stream(tokens(bench, shape, batch), batch, shape.bptt)
    stream.move(bench.device)
    resume = settings.pop("resume", None)
    trainer = pl.Trainer(
        max_steps=bench.steps, gradient_clip_val=CLIP, accelerator=bench.device.type, devices=1, logger=False,
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks),
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks), **settings,
    )  # fmt: skip
    trainer.fit(module, stream, ckpt_path=resume, weights_only=True)


def weights(module: nn.Module) -> int:
    """Of all matrices but the embedding's, which are not multiplied: a head that shares it counts."""
    matrices = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    embedding = next(layer for layer in module.modules() if isinstance(layer, nn.Embedding)).weight
    tied = any(isinstance(layer, nn.Linear) and layer.weight is embedding for layer in module.modules())
    return sum(matrix.numel() for matrix in matrices if matrix is not embedding) + tied * embedding.numel()


# Bare PyTorch


class Bare(nn.Module):
    """Embedding, PyTorch's layers, a linear head: tied where the sizes allow it."""

    def __init__(self, shape: Shape, kind: Any = nn.LSTM) -> None:
        super().__init__()
        sizes = shape.sizes()
        self.embed = nn.Embedding(shape.vocabulary, shape.embedding)
        if len(set(sizes)) == 1:
            self.layers = nn.ModuleList([kind(sizes[0], sizes[0], shape.layers, batch_first=True)])
        else:
            self.layers = nn.ModuleList(kind(*pair, batch_first=True) for pair in pairwise(sizes))
        self.head = nn.Linear(shape.last, shape.vocabulary)
        if shape.last == shape.embedding:
            self.head.weight = self.embed.weight

    def forward(self, inputs: Tensor, targets: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        x, after = self.embed(inputs), []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state)
            after.append(detach(state))
        return nn.functional.cross_entropy(self.head(x).flatten(0, 1), targets.flatten()), after


class BareLoop:
    """Training steps of a bare model, its states carried.

    Args:
        precision: "bf16" is autocast.
    """

    def __init__(self, bench: Bench, model: Bare, precision: str) -> None:
        self.bench, self.mixed = bench, precision == "bf16"
        self.model = model.to(bench.device)
        if bench.device.type == "cpu":  # of a dry run
            guard_lstms(model)
        capturable = bench.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=capturable)
        self.states: list[Any] = [None] * len(model.layers)

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        with torch.autocast(self.bench.device.type, torch.bfloat16, enabled=self.mixed, cache_enabled=False):
            loss, self.states = self.model(inputs, targets, self.states)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def windows(self, shape: Shape, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows = tokens(self.bench, shape, batch).view(batch, -1).to(self.bench.device)
        for start in range(0, rows.size(1) - 1, shape.bptt):
            window = rows[:, start : start + shape.bptt + 1]
            yield window[:, :-1], window[:, 1:]


def bare_speed(bench: Bench, shape: Shape, batch: int, precision: str, kind: Any = nn.LSTM) -> float:
    """Tokens a second."""
    loop = BareLoop(bench, Bare(shape, kind), precision)
    started = 0.0
    for number, window in enumerate(loop.windows(shape, batch)):
        if number == bench.first:
            bench.wait()
            started = time.perf_counter()
        loop.step(*window)
    bench.wait()
    return batch * shape.bptt * (bench.steps - bench.first) / (time.perf_counter() - started)


# The tables


def speeds(bench: Bench, folder: Path | None, ends: float) -> None:
    """The models beside bare loops; what is asked for most comes first."""
    columns = ("model", "batch", "bptt", "precision", "how", "thousand tokens/s", "× bare", "share of the limit", "MiB")
    table = Table("gpu_speed", columns, folder)
    left_out = []
    bare: dict[tuple[Any, ...], float] = {}
    for (precision, how), (name, batch, shape) in product(WAYS, bench.cases):
        if how != "eager" and bench.device.type != "cuda":
            continue
        if time.perf_counter() > ends:
            left_out.append(f"{name} {batch} {precision} {how}")
            continue
        set_precision(precision)
        kind = nn.GRU if name == "gru" else nn.LSTM
        described = ((name, ""), (batch, ""), (shape.bptt, ""), (precision, ""), (how, ""))
        case = (batch, precision, shape, kind)
        try:
            if case not in bare:
                bare[case] = bare_speed(bench, shape, batch, precision, kind)
            module, clock = learner(name, shape, HOW[how]), Clock(bench)
            counted = weights(module.model)
            if bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            fit(bench, module, shape, batch, clock, precision=PRECISIONS[precision])
        except Exception as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0][:100]
            table.add(*described, *((cell, "") for cell in (reason, "", "", "")))
            continue
        reached = batch * shape.bptt * (bench.steps - bench.first) / clock.seconds
        memory = torch.cuda.max_memory_allocated() / MIB if bench.device.type == "cuda" else 0.0
        share = 6 * counted * reached / limit(bench, precision)
        table.add(*described, (reached / 1e3, ",.0f"), (reached / bare[case], ".2f"), (share, ".3f"), (memory, ",.0f"))
    table.keep()
    if left_out:
        print(f"\nNo time was left for: {'; '.join(left_out)}")


LIMITS: dict[str, float] = {}


def limit(bench: Bench, precision: str) -> float:
    """Operations a second of a product of two large matrices."""
    if precision not in LIMITS:
        set_precision(precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(bench.product, bench.product, device=bench.device, dtype=dtype) for _ in range(2))
        LIMITS[precision] = 2 * bench.product**3 / seconds(lambda: torch.mm(a, b), bench)
    return LIMITS[precision]


def layer_times(bench: Bench, folder: Path | None) -> None:
    """cuDNN's LSTM, forward and backward: its layers in one call, and one by one, which lets PyTorch choose persistent
    kernels in float16 (up to 1,024 units, divisible by 128). The input is bfloat16, as in a mixed step.
    """
    columns = ("units", "layers", "rows", "steps", "call", "precision", "ms", "µs per layer and step")
    table = Table("gpu_layers", columns, folder)
    for units, layers, rows, steps in bench.layers:
        calls = [("whole", torch.bfloat16), ("one by one", torch.bfloat16), ("one by one", torch.float16)]
        for call, dtype in [*calls, ("whole", torch.float32)]:
            number = layers if call == "whole" else 1
            stack = [nn.LSTM(units, units, number, batch_first=True) for _ in range(layers // number)]
            stack = [layer.to(bench.device, dtype) for layer in stack]
            x = torch.randn(rows, steps, units, device=bench.device, dtype=torch.bfloat16, requires_grad=True)
            set_precision("TF32")
            taken = seconds(partial(read_and_return, stack, x, dtype), bench)
            described = (units, layers, rows, steps, call, str(dtype).removeprefix("torch."))
            table.add(*((cell, "") for cell in described), (1e3 * taken, ".2f"), (1e6 * taken / layers / steps, ".1f"))
    table.keep()


def read_and_return(stack: list[nn.LSTM], x: Tensor, dtype: torch.dtype) -> None:
    y = x.to(dtype)
    for layer in stack:
        y, _ = layer(y)
    y.to(x.dtype).float().square().mean().backward()


def several_windows(bench: Bench, folder: Path | None) -> None:
    """Whole bare training steps of so many windows in one CUDA graph, beside the loop without one."""
    columns = ("sizes", "batch", "windows in a graph", "thousand tokens/s", "× without a graph")
    table = Table("gpu_windows", columns, folder)
    precision = "bf16"
    for name, kind in (("gru", nn.GRU), ("lstm", nn.LSTM)):
        batch, shape = bench.models[name]
        plain = bare_speed(bench, shape, batch, precision, kind)
        for windows in bench.windows:
            loop = BareLoop(bench, Bare(shape, kind), precision)
            taken = seconds(graphed(loop, shape, batch, windows), bench)
            reached = windows * batch * shape.bptt / taken
            sizes = f"{kind.__name__}, {shape.layers} × {shape.hidden}"
            table.add((sizes, ""), (batch, ""), (windows, ""), (reached / 1e3, ",.0f"), (reached / plain, ".2f"))
    table.keep()


def graphed(loop: BareLoop, shape: Shape, batch: int, windows: int) -> Callable[[], None]:
    """A call that trains on so many windows; on a GPU by one graph."""
    given = list(loop.windows(shape, batch))[:windows]
    loop.step(*given[0])
    kept = map_tensors(loop.states, Tensor.clone)  # what the graph begins with, and leaves behind

    def train() -> None:
        loop.states = kept
        for window in given:
            loop.step(*window)
        for before, after in zip(flat(kept), flat(loop.states), strict=True):
            before.copy_(after)

    if loop.bench.device.type != "cuda":
        return train
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            train()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        train()
    return graph.replay


def flat(states: Any) -> list[Tensor]:
    return [states] if isinstance(states, Tensor) else [tensor for state in states for tensor in flat(state)]


# Exact resume, and what waits


class Stop(pl.Callback):
    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == trainer.max_steps - 1:
            raise ConnectionError


def resumes(bench: Bench) -> None:
    """Prints whether a fit that is stopped and resumed ends bit for bit like one that is not."""
    for name, how in product(("gru", "awd_lstm", "min_gru"), ("eager", "graph")):
        if how == "graph" and bench.device.type != "cuda":
            continue
        batch, shape = bench.models[name]
        dropouts: dict[str, float] = {} if name == "gru" else {"hidden_dropout": 0.2}
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for part, stop in (("whole", False), ("half", True), ("half", False)):
                torch.manual_seed(0)
                module = learner(name, shape, HOW[how], **dropouts)
                last = LastCheckpoint(f"{folder}/{part}", every_n_steps=max(1, bench.steps // 2))
                callbacks = [last, Stop()] if stop else [last]
                resume = last.path if last.path.exists() else None
                try:
                    fit(bench, module, shape, batch, *callbacks, resume=resume, precision="bf16-mixed")
                except ConnectionError:
                    continue
                found.append([parameter.detach().cpu() for parameter in module.parameters()])
        exact = all(map(torch.equal, *found))
        print(f"{name}, {how}: a resumed fit ends {'exactly the same' if exact else 'DIFFERENTLY'}", flush=True)


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *arguments: Any) -> None:
        self.losses.append(outputs["loss"].clone())


def language_model(name: str, how: bool | str, count: int) -> tuple[Learner, Resumable]:
    model = getattr(lm.language, name)(30)
    random = torch.randint(30, (4 * 3 * count + 1,))
    batches = IndependentWindows(random, 4, 3) if hasattr(model, "only_window") else Stream(random, 4, 3)
    return LanguageModel(model, **settings(how)), batches


def image_classifier(name: str, how: bool | str, count: int) -> tuple[Learner, Resumable]:
    images = Images(torch.randint(256, (4 * count, 3, 32, 32), dtype=torch.uint8), torch.arange(4 * count) % 10)
    model = getattr(vision.models, name)(10)
    return ImageClassifier(model, [0.5] * 3, [0.2] * 3, **settings(how)), ImageBatches(images, 4, False)


def forecaster(how: bool | str, count: int) -> tuple[Learner, Resumable]:
    steps = 4 * 8 * count
    span = Span("", torch.randn(steps + 4, 2), 0, steps, Scale.unscaled(2), [1.0, 1.0])
    model = Forecaster(2, 4, [0], context=8, segment=2)
    return ForecastLearner(model, **settings(how)), ForecastWindows([span], [0], 4, 4, 8, parts=4)


SMALL: dict[str, Callable[[bool | str, int], tuple[Learner, Resumable]]] = {  # with so many batches in an epoch
    **{name: partial(language_model, name) for name in lm.language.__all__},
    **{name: partial(image_classifier, name) for name in vision.models.__all__},
    "Forecaster": forecaster,
}


def small_fit(
    bench: Bench, name: str, how: bool | str, count: int, *callbacks: pl.Callback, **settings: Any
) -> Learner:
    """A fit of a small model of the project's, on random data that lie on the device."""
    torch.manual_seed(0)
    module, batches = SMALL[name](how, count)
    module.setup = lambda stage: None  # type: ignore[method-assign]  # it asks for a data module
    batches.move(bench.device)
    pl.Trainer(
        accelerator=bench.device.type, devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), log_every_n_steps=10**6, **settings,
    ).fit(module, batches)  # fmt: skip
    return module


def captures(bench: Bench) -> None:
    """Prints which models' steps are captured, and how far the losses are from those without graphs. Gradients of two
    batches are accumulated."""
    ways: tuple[bool | str, ...] = (False, "graph" if bench.device.type == "cuda" else False)
    for name in bench.small:
        found, captured = [], False
        try:
            for how in ways:
                losses, steps = Losses(), max(1, bench.steps // 4)
                module = small_fit(bench, name, how, 16, losses, max_steps=steps, accumulate_grad_batches=2)
                found.append(torch.stack(losses.losses).cpu())
                captured = module.fast_model.how == "graph" and module.fast_model.fast is not None
        except Exception as error:
            print(f"{name}: {(str(error).strip() or repr(error)).splitlines()[0][:100]}", flush=True)
            continue
        apart = float((found[0] - found[1]).abs().max())
        print(f"{name}: {'' if captured else 'not '}captured; losses differ by {apart:.1e} at most", flush=True)


def waits(bench: Bench) -> None:
    """Prints where ten steps between two logged ones wait for the device."""
    places: Counter[str] = Counter()

    def note(message: Any, category: Any, filename: str, *others: Any) -> None:
        if "synchroniz" in str(message):
            frames = [frame for frame in traceback.extract_stack()[:-1] if str(ROOT) in frame.filename]
            ours = frames[-1] if frames else traceback.extract_stack()[-2]
            places[f"{ours.filename.removeprefix(f'{ROOT}/')}:{ours.lineno}"] += 1

    def watch(step: int) -> None:
        if bench.device.type == "cuda" and step in (5, 15):
            torch.cuda.set_sync_debug_mode("warn" if step == 5 else "default")

    for name in bench.small:
        places.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note  # type: ignore[assignment]
            small_fit(bench, name, False, 20, Clock(bench, watch), max_steps=min(18, bench.steps))
        found = ", ".join(f"{place} ({times})" for place, times in places.most_common())
        print(f"{name}: ten steps wait for the device at {found or 'no place'}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0, help="after which no further speed is measured")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the tables here")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, in tiny sizes, without CUDA graphs")
    options = parser.parse_args(arguments)
    ends = time.perf_counter() + 60 * options.minutes
    bench = dry() if options.dry_run else on_gpu()
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "a CPU: the figures mean nothing"
    print(f"{name}; torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    parts = (
        ("Exact resume", lambda: resumes(bench)),
        ("CUDA graphs", lambda: captures(bench)),
        ("Waiting for the device", lambda: waits(bench)),
        ("Layers one by one", lambda: layer_times(bench, options.keep)),
        ("Several windows in a graph", lambda: several_windows(bench, options.keep)),
        ("Speed", lambda: speeds(bench, options.keep, ends)),
    )
    for title, part in parts:
        print(f"\n## {title}\n", flush=True)
        try:
            part()
        except Exception:  # the other tables are worth having all the same
            if options.dry_run:
                raise
            traceback.print_exc()
    print(f"\n{60 * options.minutes + time.perf_counter() - ends:.0f} seconds in all")


if __name__ == "__main__":
    main()
