"""Matrix products in float32, on AMD's processors by oneDNN: about twice as fast there as those of MKL, which PyTorch
calls on x86 and which has no AVX-512 kernels for them. Elsewhere and in other precisions PyTorch's own run; on an Intel
processor with AVX-512, MKL is as fast as oneDNN for large matrices and up to three times as fast for small ones.
"""

import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels import switch


def of_amd() -> bool:
    """Whether the processor is AMD's."""
    linux = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (linux.read_text() if linux.exists() else platform.processor())


ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what compiled models call: x wᵀ + b
FUSED: Any = ONEDNN if of_amd() else None


def uses_onednn(x: Tensor) -> bool:
    """Whether oneDNN computes this matrix's products."""
    return (
        switch.in_use() and FUSED is not None and x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    )


def dense(matrix: Tensor) -> Tensor:
    """The matrix, or a copy if its rows or columns have gaps between them: oneDNN's code for those is slow."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def transposed(matrix: Tensor) -> Tensor:
    """A copy with rows and columns exchanged, for many products with it: oneDNN's are slower with a view."""
    return matrix.t().contiguous()


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, tanh: bool = False) -> Tensor:
    """a b, for matrices, plus a bias for each column, or the tanh of it. It records no gradient.

    A product in lower precision is one whose `b` is in it; a bias is then added in its own.
    """
    if a.dtype == b.dtype and uses_onednn(a):
        bias = None if bias is None else bias.contiguous()
        return FUSED.default(dense(a), dense(b).t(), bias, "tanh" if tanh else "none", [], "")
    if a.dtype != b.dtype:
        product = torch.mm(a.to(b.dtype), b)
        product = product if bias is None else product + bias
    else:
        product = torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)
    return product.tanh_() if tanh else product


def add_matmul(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """c + a b, for matrices, the product in the precision of `b`. It records no gradient.

    `c` may be overwritten: PyTorch adds in place and returns it, oneDNN returns another tensor.
    """
    if a.dtype != b.dtype:
        return c.add_(torch.mm(a.to(b.dtype), b))
    return FUSED.binary(dense(a), c.contiguous(), dense(b).t(), None, "add") if uses_onednn(a) else c.addmm_(a, b)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`."""
    if not uses_onednn(x) or x.dim() < 2 or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    # flattened out here: the output of a custom function may be changed in place only if it isn't a view
    return Linear.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])


class Linear(torch.autograd.Function):
    """x Wᵀ + b, for inputs float32 `[rows, size]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return matmul(x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight, wanted_bias = ctx.needs_input_grad
        return (
            matmul(grad, weight) if wanted_x else None,
            matmul(x.t(), grad).t() if wanted_weight else None,
            grad.sum(0) if wanted_bias else None,
        )
