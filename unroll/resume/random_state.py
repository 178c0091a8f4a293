"""The state of every random generator that training may draw from, as tensors and numbers."""

import random
from typing import Any

import numpy
import torch


def get() -> dict[str, Any]:
    """Of this process: Python's, NumPy's, torch's on the CPU and on the device in use."""
    legacy: Any = numpy.random.get_state(legacy=True)
    kind, keys, *position = legacy
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype("int64")), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def branch(saved: dict[str, Any], number: int) -> None:
    """Further draws are those of a process that there was none of when another process called `get`.

    Args:
        saved: what it returned.
        number: of the new process; each has draws of its own.
    """
    restore(saved)
    seed = int(torch.randint(2**31, ())) + number
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def restore(saved: dict[str, Any]) -> None:
    """Further draws are those that followed `get`."""
    random.setstate(saved["python"])
    kind, keys, *position = saved["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), *position))
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])
    if saved["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(saved["mps"])
