"""Products of large matrices on a CPU, compiled (steps.c), in float32 and float64.

PyTorch's are those of MKL on x86, which runs code for AVX2 on some processors that have AVX-512. These take half of the
time there, and elsewhere about as long, or less where a matrix is narrow. The number of rows and of threads changes no
digit of a result.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels.calls import has_library, readable, run

# The least multiplications for which they are as fast as PyTorch's, by the processor's instructions; elsewhere PyTorch
# may use what no C can, as on Apple's processors. And the least rows.
LARGE = {"AVX512": 2**20, "AVX2": 2**22}.get(torch.backends.cpu.get_cpu_capability(), math.inf)
ROWS = 128


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b for matrices of one dtype, plus a bias for each column. It records no gradient."""
    if not compiled(a, b, bias):
        return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)
    product = a.new_empty(len(a), b.size(1))
    sizes = 1, *product.shape, a.size(1), *a.stride(), *b.stride()
    run("matmul", sizes, a.numel() * b.size(1), a, b, None if bias is None else bias.contiguous(), product)
    return product


def compiled(a: Tensor, b: Tensor, bias: Tensor | None) -> bool:
    """Whether a product is compiled. PyTorch computes small ones, or refuses what doesn't fit."""
    given = (a, b) if bias is None else (a, b, bias)
    if not all(map(readable, given)) or len({x.dtype for x in given}) > 1:
        return False
    fits = a.size(1) == len(b) and (bias is None or bias.shape == b.shape[1:])
    return fits and len(a) >= ROWS and a.numel() * b.size(1) >= LARGE and has_library(a.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`. Where its product is compiled, its double gradient is refused, and so is
    forward-mode differentiation outside of `torch.func`."""
    if readable(x) and x.dim() > 1 and weight.dim() == 2 and x.numel() * len(weight) >= LARGE:
        flat = x.flatten(0, -2)
        if not torch.is_autocast_enabled("cpu") and compiled(flat, weight.t(), bias):
            outputs: Tensor = Linear.apply(flat, weight, bias)
            return outputs.unflatten(0, x.shape[:-1])
    return F.linear(x, weight, bias)


class Linear(torch.autograd.Function):
    """x wᵀ + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return matmul(x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            matmul(grad, weight) if of_x else None,
            matmul(grad.t(), x) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )
