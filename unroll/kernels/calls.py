"""Calls of what steps.c has."""

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from unroll.kernels import switch
from unroll.kernels.build import library

TEAM = ("GOMP_parallel", "GOMP_barrier", "omp_get_num_threads")  # of PyTorch's threads
WORTH = 2**17  # multiplications for each thread of a call, so many take about ten microseconds
WORTH_WAITING = 2**18  # and for each thread of a step, where all wait for each other before the next one


def openmp() -> Any:
    """What steps.c calls of the OpenMP that PyTorch has loaded; None if that is another one, as on macOS."""
    loaded = None if sys.platform == "win32" else ctypes.CDLL(None)
    if not all(hasattr(loaded, name) for name in TEAM):
        return None
    return (ctypes.c_void_p * len(TEAM))(*(ctypes.cast(getattr(loaded, name), ctypes.c_void_p) for name in TEAM))


OPENMP = openmp()


def readable(x: Tensor, anything: bool = False) -> bool:
    """Whether a function of steps.c may read a tensor's numbers.

    Args:
        anything: of another dtype it is made float32.
    """
    return (
        switch.in_use()
        and type(x) in (Tensor, Parameter)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()  # what records or counts PyTorch's operations would see none
        and x.is_cpu
        and torch._C._has_storage(x)
        and not x.is_neg()
        and not x._is_zerotensor()
        and (anything or x.dtype in (torch.float32, torch.float64))
    )


def has_library(dtype: torch.dtype) -> bool:
    """Whether steps.c can be compiled here for this dtype, or float32 in the place of others."""
    return library(torch.float64 if dtype == torch.float64 else torch.float32) is not None


def run(name: str, sizes: tuple[int, ...], work: int, *tensors: Tensor | None, resets: Tensor | None = None) -> None:
    """Calls a function of steps.c.

    Args:
        sizes: steps, rows, units, inputs, rounds, relu, and the strides of a gradient along time and rows; of a
            product, the last four are the strides of its matrices.
        work: the multiplications in it.
        tensors: contiguous, but for that gradient.
        resets: bool `[steps, rows]`, contiguous: where a row's state is taken as zeros before a step.
    """
    (dtype, device), *others = {(tensor.dtype, tensor.device) for tensor in tensors if tensor is not None}
    for other in others:
        raise TypeError(
            f"the inputs, the state and the weights differ in dtype or device: {dtype} on {device}, "
            f"{other[0]} on {other[1]}"
        )
    built = library(dtype)
    assert built is not None
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    threads, by_units = division(sizes[0], sizes[1], work)
    done = getattr(built.functions, name)(
        (ctypes.c_long * 8)(*sizes),
        (ctypes.c_void_p * len(pointers))(*pointers),
        None if resets is None else ctypes.c_void_p(resets.data_ptr()),
        threads,
        by_units,
        OPENMP,
    )
    if not done:
        raise MemoryError(f"no memory for the weights of {name}")


def division(steps: int, rows: int, work: int) -> tuple[int, bool]:
    """How many threads to use, and whether they share the units of each step (a Mogrifier's never) or the rows."""
    threads = torch.get_num_threads()
    by_rows, by_units = min(threads, rows, work // WORTH), min(threads, work // steps // WORTH_WAITING)
    if OPENMP is not None and rows <= 8 * threads and by_units >= max(2, by_rows):
        return by_units, True
    return max(1, by_rows), False
