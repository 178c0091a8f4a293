"""Large matrix products in float32 on a CPU, computed by oneDNN where it is faster than what PyTorch calls.

PyTorch calls MKL on x86, which runs code for AVX2 on some processors that have AVX-512. oneDNN, which comes with
PyTorch, takes less than half the time there; on the other processors seen the two are about as fast. Which is faster is
measured with one product, once for a machine, and kept beside the compiled steps, so that all runs on a machine have
the same digits; where nothing can be kept, each process measures for itself. `UNROLL_PRODUCTS=onednn` or
`UNROLL_PRODUCTS=pytorch` chooses.
"""

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from unroll.errors import UserError
from unroll.files import locked, write_text
from unroll.kernels import switch
from unroll.kernels.build import cache_folder, digest, processor

LARGE = 2**22  # multiplications; for fewer, calling oneDNN costs what it saves
WORTH = 0.75  # of PyTorch's time: on an AMD EPYC oneDNN took 0.45 with AVX-512, and 0.87 with AVX2 alone
MOST, LEAST = 512, 16  # positions (rows × steps) in a block; fewer are PyTorch's
CACHED = 2**17  # numbers of a block's product that stay in the processor's cache while it is copied
LARGEST_AT_LEAST = 64  # positions in the largest of several blocks, each of which reads all of the weights
CHOICES = ("pytorch", "onednn")
CHOICE = "UNROLL_PRODUCTS"
RESTRICTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")  # of instructions
ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what compiled models call: x wᵀ + b


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b for matrices of one dtype, plus a bias for each column. It records no gradient."""
    return by_onednn(a, b, bias) if uses_onednn(a, b) else by_pytorch(a, b, bias)


def uses_onednn(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN computes a b."""
    return (
        a.dtype == b.dtype == torch.float32
        and a.device.type == "cpu"
        and a.numel() * b.size(1) >= LARGE
        and type(a) in (Tensor, Parameter)  # a tensor without numbers, as a FakeTensor, takes no time
        and switch.in_use()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and chosen() == "onednn"
    )


def by_pytorch(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)


def by_onednn(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """oneDNN keeps megabytes for each number of positions (rows × steps) that it meets, so it gets blocks of few sizes.
    Positions are the rows of `a`, or its columns, which are summed over, if it is transposed."""
    if a.stride(1) == 1:
        sizes = blocks(len(a), MOST)
        if len(sizes) == 1:
            return block(a, b, bias, len(a))
        product = a.new_empty(len(a), b.size(1))
        sizes = blocks(len(a), max(LARGEST_AT_LEAST, min(MOST, CACHED >> (b.size(1) - 1).bit_length())))
        for given, made in zip(a.split(sizes), product.split(sizes), strict=True):
            made.copy_(block(given, b, bias, len(given)))
        return product
    sizes = blocks(len(b), MOST)
    first, *others = zip(a.split(sizes, 1), b.split(sizes), strict=True)
    product = block(*first, bias, len(first[1]))
    for left, right in others:
        product += block(left, right, None, len(right))
    return product


def blocks(positions: int, most: int) -> list[int]:
    """The sizes of blocks: as many of the greatest as there can be, then half as many, and so on; the last is the rest.

    Args:
        most: in a block, a power of two.
    """
    sizes = []
    while most >= LEAST:
        sizes += [most] * (positions // most)
        positions, most = positions % most, most // 2
    return [*sizes, positions] if positions else sizes


def block(a: Tensor, b: Tensor, bias: Tensor | None, positions: int) -> Tensor:
    if positions < LEAST:
        return by_pytorch(a, b, bias)
    return ONEDNN.default(dense(a), dense(b).t(), None if bias is None else bias.contiguous(), "none", [], "")


def dense(matrix: Tensor) -> Tensor:
    """The matrix, or a copy if its rows or columns have gaps between them: oneDNN's code for those is slow."""
    if matrix.is_contiguous() or matrix.t().is_contiguous():
        return matrix
    return matrix.t().contiguous().t() if matrix.stride(0) == 1 else matrix.contiguous()


_repeated: str | None = None


def repeat(choice: str | None) -> None:
    """Chooses what a run that is resumed has computed with, if it is there; None ends that."""
    global _repeated
    _repeated = choice
    chosen.cache_clear()


@cache
def chosen() -> str:
    """Who computes large products: "onednn" or "pytorch".

    Raises:
        UserError: the environment names another, or one that is not there.
    """
    there = CHOICES if ONEDNN is not None and torch.backends.mkldnn.is_available() else CHOICES[:1]
    if given := os.environ.get(CHOICE):
        if given not in there:
            raise UserError(f"{CHOICE}={given}: choose from: {', '.join(there)}")
        return given
    if _repeated is not None and _repeated in there:
        return _repeated
    if len(there) == 1:
        return there[0]
    try:
        return kept()
    except (OSError, RuntimeError):  # the cache can't be written to; RuntimeError: there is no home
        return measured()


def kept() -> str:
    """What was measured on this machine before, or else now.

    Raises:
        OSError, RuntimeError: there is no place to keep it.
    """
    settings = torch.get_float32_matmul_precision(), *map(os.environ.get, RESTRICTIONS)
    key = repr((torch.__version__, processor(), *settings))
    path = cache_folder() / f"products-{digest(key.encode())}.txt"
    if (known := written(path)) is None:
        with locked(path.with_suffix(".lock")):  # the processes of a run come at once, and shall choose the same
            if (known := written(path)) is None:
                known = measured()
                write_text(path, f"{known}\n")
    return known


def written(path: Path) -> str | None:
    """The choice in the file; None if it has none."""
    known = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None
    return known if known in CHOICES else None


@torch.autocast("cpu", enabled=False)
def measured() -> str:
    a, b = (torch.ones(512, columns, dtype=torch.float32, device="cpu") for columns in (512, 1024))
    best = {by_pytorch: float("inf"), by_onednn: float("inf")}
    for _ in range(8):
        for multiply in best:
            best[multiply] = min(best[multiply], seconds(multiply, a, b))
    return "onednn" if best[by_onednn] < WORTH * best[by_pytorch] else "pytorch"


@torch.no_grad()
def seconds(multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    start = time.perf_counter()
    multiply(a, b)
    return time.perf_counter() - start
