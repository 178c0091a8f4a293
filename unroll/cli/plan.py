"""`task=plan`: memory and throughput of training steps, over lengths of the window and batch sizes."""

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins import Precision
from pytorch_lightning.utilities import move_data_to_device

from unroll.errors import UserError
from unroll.resume import random_state
from unroll.streams import Window
from unroll.training.data import Data
from unroll.training.learner import Learner
from unroll.training.optimizers import parameter_groups

STEPS = 3
LENGTHS = (8, 16, 32, 70, 140, 280, 560)  # of windows
ONE_SIZE = 1  # the length of samples that have no steps, such as images
LONGEST_STEP = 2.0  # seconds; longer steps are not tried
MEMORY_SHARE = 0.8  # of the free memory; the rest is for validation and other programs
MIB = 2**20
NOT_READ, TOO_LARGE, SLOW = "–", "too large", "slow"  # the first: the model reads windows of one length only


class Trial(NamedTuple):
    """The fastest of some training steps.

    Attributes:
        speed: units (`Learner.unit`) per second.
        memory: the peak of the process (on a GPU: of its tensors) in bytes; None where it can't be read.
        seconds: of the step.
    """

    speed: float
    memory: int | None
    seconds: float = 0.0


class TrialRun:
    """Trains a copy of a module, with an optimizer made as the module's would be.

    Args:
        learner: what is to be trained later.
        device: where the copy trains.
        precision: Lightning's plugin, which knows what is computed in which.
    """

    def __init__(self, learner: Learner, device: torch.device, precision: Precision) -> None:
        assert learner.optimizer is not None
        self.precision = precision
        self.learner = deepcopy(learner).train().to(device)
        precision.convert_module(self.learner)
        self.learner.fast_model.how = False
        self.optimizer = learner.optimizer(parameter_groups(self.learner.model, learner.groups))
        self.learner.start("train")

    def train_on(self, batch: Any) -> None:
        """One training step."""
        with self.precision.forward_context():
            step = self.learner.step("train", self.precision.convert_input(batch))
        self.optimizer.zero_grad()
        step.minimised.backward()
        self.optimizer.step()


def plan(
    learner: Learner,
    data: Data,
    batch_sizes: Sequence[int],
    device: torch.device,
    lengths: Sequence[int] = LENGTHS,
    precision: Precision | None = None,
) -> dict[tuple[int, int], Trial | str]:
    """Trains a copy of the module for some steps on batches of each length and size, cut from the first training batch.

    The state of the random generators is restored. `precision` is the plugin of the Trainer that is to train the
    module, by default of float32.

    Returns:
        By (length, batch size): the trial, or why there is none.
    """
    before = random_state.get()
    precision = precision or Precision()
    trials: dict[tuple[int, int], Trial | str] = {}
    limit = MEMORY_SHARE * free_memory(device)
    batch = next(data.train.batches(0))
    if isinstance(batch, Window):
        runs = [[(length, rows) for length in lengths] for rows in batch_sizes]
    else:
        runs = [[(ONE_SIZE, rows) for rows in batch_sizes]]
    for run in runs:  # each about twice as much as the one before
        reason: str | None = None
        for length, rows in run:
            trial = trials[length, rows] = reason or measure(learner, resized(batch, rows, length), device, precision)
            reason = reason_to_stop(trial, limit)
    random_state.restore(before)
    return trials


def resized(batch: Any, rows: int, length: int) -> Any:
    """A batch of another size: rows and steps of this one, again and again. Every step counts."""

    def of_rows(part: torch.Tensor) -> torch.Tensor:
        return part[torch.arange(rows) % len(part)]

    if not isinstance(batch, Window):
        return tuple(map(of_rows, batch))
    steps = torch.arange(length) % batch.inputs.size(1)
    targets = of_rows(batch.targets)
    return Window(
        of_rows(batch.inputs)[:, steps], targets if targets.dim() == 1 else targets[:, steps], of_rows(batch.starts)
    )


def measure(learner: Learner, batch: Any, device: torch.device, precision: Precision) -> Trial | str:
    """The fastest of some steps on a batch, or why there is none."""
    trial_run = TrialRun(learner, device, precision)
    size = learner.size(batch)
    batch = move_data_to_device(batch, device)

    def step() -> float:
        started = time.perf_counter()
        trial_run.train_on(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    try:
        seconds, memory = with_peak_memory(lambda: min(step() for _ in range(STEPS)), device)
    except UserError:
        return NOT_READ
    except torch.OutOfMemoryError:
        return TOO_LARGE
    return Trial(size / seconds, memory, seconds)


def reason_to_stop(trial: Trial | str, limit: float) -> str | None:
    """Why the next batch, about twice as large, is not tried; None if it is."""
    if isinstance(trial, str):
        return None if trial == NOT_READ else trial
    if trial.memory is not None and 2 * trial.memory > limit:
        return TOO_LARGE
    return SLOW if 2 * trial.seconds > LONGEST_STEP else None


def with_peak_memory(function: Callable[[], float], device: torch.device) -> tuple[float, int | None]:
    """What the function returns, and the peak of memory while it ran, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return function(), torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return function(), None
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # returns memory that earlier trials have freed
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    result = function()
    return result, 1024 * in_kib("/proc/self/status", "VmHWM")


def free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return 1024 * in_kib("/proc/meminfo", "MemAvailable") if sys.platform == "linux" else sys.maxsize


def in_kib(path: str, name: str) -> int:
    line = next(line for line in Path(path).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def lengths(trials: dict[tuple[int, int], Trial | str]) -> list[int]:
    """The lengths of windows that were tried; none where all samples have one size, like images."""
    found = sorted({length for length, _ in trials})
    return [] if found == [ONE_SIZE] else found


def table(trials: dict[tuple[int, int], Trial | str]) -> str:
    """A column for each batch size, a line for each length of the window: units per second and MiB."""
    batch_sizes = sorted({rows for _, rows in trials})
    windows = lengths(trials)
    lines = [("data.bptt " if windows else "").rjust(10)]
    lines[0] += "".join(f"batch_size={rows}".rjust(24) for rows in batch_sizes)
    for length in windows or [ONE_SIZE]:
        label = f"{length:>9} " if windows else " " * 10
        lines.append(label + "".join(trial_text(trials[length, rows]).rjust(24) for rows in batch_sizes))
    return "\n".join(lines)


def trial_text(trial: Trial | str) -> str:
    if isinstance(trial, str):
        return trial
    memory = "" if trial.memory is None else f", {trial.memory / MIB:,.0f} MiB"
    return f"{trial.speed:,.0f}/s{memory}"


def advice(trials: dict[tuple[int, int], Trial | str], batch_size: int, device: torch.device) -> str:
    """The longest window that fits, and the fastest choice."""
    measured = {key: trial for key, trial in trials.items() if isinstance(trial, Trial)}
    if not measured:
        return "The model reads windows of one length only."
    fitting = {
        key: trial for key, trial in measured.items() if (trial.memory or 0) < MEMORY_SHARE * free_memory(device)
    }
    bptt, rows = max(fitting, key=lambda key: fitting[key].speed)
    windows = lengths(trials)
    if not windows:
        return f"The fastest is data.batch_size={rows}; more rows mean fewer steps per epoch."
    lines = []
    if here := [length for length, chosen in fitting if chosen == batch_size]:
        largest = max(here)
        why = {TOO_LARGE: "longer ones do not fit in memory", SLOW: "a step of longer ones takes seconds"}
        following = next((length for length in windows if length > largest), None)
        reason = why.get(str(trials.get((following or 0, batch_size))), "longer ones were not tried")
        lines.append(f"At data.batch_size={batch_size} the longest window is data.bptt={largest}: {reason}.")
    lines.append(f"The fastest is data.bptt={bptt} data.batch_size={rows}.")
    tried = ",".join(map(str, sorted({length for length, _ in fitting})))
    lines.append(
        "Gradients reach further back in longer windows; longer windows and more rows mean fewer steps per epoch.\n"
        f"So compare by loss: python train.py -m data.bptt={tried}"
    )
    return "\n".join(lines)
