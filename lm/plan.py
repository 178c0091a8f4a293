"""Which window, how many rows? `task=plan` measures memory and speed of training steps over bptt and batch size."""

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from lm import rng
from lm.errors import UserError
from lm.module import LanguageModel
from lm.rehearsal import Rehearsal

WINDOWS = (8, 16, 32, 70, 140, 280, 560)
STEPS = 3
LONGEST_STEP = 2.0  # seconds; what takes longer is not tried
MEMORY_SHARE = 0.8  # of what is free; the rest is for validation and for everybody else
MIB = 2**20
NOT_READ, TOO_LARGE, SLOW = "–", "too large", "slow"  # the first: by a model that reads windows of one length


class Trial(NamedTuple):
    """`memory` is the peak of the process (on a GPU: of its tensors) in bytes, or None where it can't be read."""

    tokens_per_second: float
    memory: int | None


def plan(
    module: LanguageModel, vocab_size: int, batch_sizes: Sequence[int], device: torch.device
) -> dict[tuple[int, int], Trial | str]:
    """Trains a copy of the model for some steps on random tokens, for each window and batch size.

    The random generators are afterwards as they were.

    Returns:
        By (bptt, batch size): the trial, or why there is none.
    """
    before = rng.state()
    trials: dict[tuple[int, int], Trial | str] = {}
    limit = MEMORY_SHARE * free_memory(device)
    for rows in batch_sizes:
        beyond: str | None = None
        for bptt in WINDOWS:
            trial = trials[bptt, rows] = beyond or tried(module, vocab_size, rows, bptt, device)
            beyond = why_no_longer(trial, rows * bptt, limit)
    rng.restore(before)
    return trials


def tried(module: LanguageModel, vocab_size: int, rows: int, bptt: int, device: torch.device) -> Trial | str:
    """The fastest of some steps, or why there is none."""
    rehearsal = Rehearsal(module, device)
    tokens = torch.randint(vocab_size, (rows, bptt + 1), device=device)

    def step() -> float:
        started = time.perf_counter()
        rehearsal.train_on((tokens[:, :-1], tokens[:, 1:]))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    try:
        seconds, memory = with_peak_memory(lambda: min(step() for _ in range(STEPS)), device)
    except UserError:
        return NOT_READ
    except torch.OutOfMemoryError:
        return TOO_LARGE
    return Trial(rows * bptt / seconds, memory)


def why_no_longer(trial: Trial | str, tokens: int, limit: float) -> str | None:
    """Why the next window, about twice as long, is not tried; None if it is."""
    if isinstance(trial, str):
        return None if trial == NOT_READ else trial
    if trial.memory is not None and 2 * trial.memory > limit:
        return TOO_LARGE
    return SLOW if 2 * tokens / trial.tokens_per_second > LONGEST_STEP else None


def with_peak_memory(function: Callable[[], float], device: torch.device) -> tuple[float, int | None]:
    """What the function gives, and the most memory while it ran, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return function(), torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return function(), None
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what earlier trials have freed
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is forgotten
    result = function()
    return result, 1024 * in_kib("/proc/self/status", "VmHWM")


def free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return 1024 * in_kib("/proc/meminfo", "MemAvailable") if sys.platform == "linux" else sys.maxsize


def in_kib(path: str, name: str) -> int:
    line = next(line for line in Path(path).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def table(trials: dict[tuple[int, int], Trial | str]) -> str:
    """A line for each window, a column for each batch size: thousands of tokens per second and MiB."""
    windows, batch_sizes = (sorted({key[axis] for key in trials}) for axis in (0, 1))
    lines = ["data.bptt ".rjust(10) + "".join(f"batch_size={rows}".rjust(24) for rows in batch_sizes)]
    for bptt in windows:
        lines.append(f"{bptt:>9} " + "".join(shown(trials[bptt, rows]).rjust(24) for rows in batch_sizes))
    return "\n".join(lines)


def shown(trial: Trial | str) -> str:
    if isinstance(trial, str):
        return trial
    memory = "" if trial.memory is None else f", {trial.memory / MIB:,.0f} MiB"
    return f"{trial.tokens_per_second:,.0f}/s{memory}"


def advice(trials: dict[tuple[int, int], Trial | str], batch_size: int, device: torch.device) -> str:
    """The longest window that fits, and the fastest choice."""
    measured = {key: trial for key, trial in trials.items() if isinstance(trial, Trial)}
    if not measured:
        return "The model reads windows of one length only."
    fitting = {
        key: trial for key, trial in measured.items() if (trial.memory or 0) < MEMORY_SHARE * free_memory(device)
    }
    lines = []
    if here := [bptt for bptt, rows in fitting if rows == batch_size]:
        largest = max(here)
        why = {TOO_LARGE: "longer ones do not fit in memory", SLOW: "a step of longer ones takes seconds"}
        following = next((bptt for bptt in WINDOWS if bptt > largest), None)
        reason = why.get(str(trials.get((following or 0, batch_size))), "longer ones were not tried")
        lines.append(f"At data.batch_size={batch_size} the longest window is data.bptt={largest}: {reason}.")
    bptt, rows = max(fitting, key=lambda key: fitting[key].tokens_per_second)
    lines.append(f"The fastest is data.bptt={bptt} data.batch_size={rows}.")
    lines.append(
        "The lesson's rule is the longest window that memory, stability and speed allow; longer windows and more rows\n"
        "mean fewer steps per epoch, so compare by loss: python train.py -m experiment=choose_bptt"
    )
    return "\n".join(lines)
