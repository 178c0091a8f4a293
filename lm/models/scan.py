"""Linear recurrences h_t = a_t h_{t−1} + b_t, element by element, without a loop over every step.

Time is cut into about √time chunks of about √time steps. All chunks are computed side by side, each from zero; then the
chunks are joined one after the other; then what came before its chunk is added to every step. That is two operations
per number, in 2 √time instead of `time` sequential steps. Nothing is divided or subtracted, so no precision is lost,
however long the time and however small the products (unlike in scans by cumulative sums).

`scan` is for numbers of either sign; `log_scan` takes logarithms, as proposed by Feng et al. 2024 (arXiv 2410.01201) on
Heinsen 2023 (arXiv 2311.06281). Gradients are recurrences of the same kind, backwards in time.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Operation = Callable[[Tensor, Tensor], Tensor]


def scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """All h_t = a_t h_{t−1} + b_t.

    Args:
        a, b: float `[batch, time, hidden]`.
        h0: float `[batch, hidden]`, what was before the first step.

    Returns:
        float `[batch, time, hidden]`.
    """
    return Scan.apply(a, b, h0)


def log_scan(log_a: Tensor, log_b: Tensor, h0: Tensor) -> Tensor:
    """The same from the logarithms of `a` and `b`, which are 0 or more; so is `h0`, given as it is.

    Returns:
        h (not its logarithm), float `[batch, time, hidden]`.
    """
    return LogScan.apply(log_a, log_b, h0)


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        h = in_chunks(a, b, h0, torch.mul, torch.add, nothing=0.0)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        a, h, h0 = ctx.saved_tensors
        d_b = backwards(a, grad)
        return d_b * before(h, h0), d_b, d_b[:, 0] * a[:, 0]


class LogScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_a: Tensor, log_b: Tensor, h0: Tensor) -> Tensor:
        h = in_chunks(log_a, log_b, h0.log(), torch.add, torch.logaddexp, nothing=-math.inf).exp()
        ctx.save_for_backward(log_a, log_b, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        log_a, log_b, h, h0 = ctx.saved_tensors
        a = log_a.exp()
        d_b = backwards(a, grad)
        return d_b * before(h, h0) * a, d_b * log_b.exp(), d_b[:, 0] * a[:, 0]


def backwards(a: Tensor, grad: Tensor) -> Tensor:
    """The gradient of b: what reaches h_t itself, and through h_{t+1}."""
    reversed_a = torch.cat([torch.zeros_like(a[:, :1]), a[:, 1:].flip(1)], dim=1)
    return in_chunks(reversed_a, grad.flip(1), torch.zeros_like(a[:, 0]), torch.mul, torch.add, nothing=0.0).flip(1)


def before(h: Tensor, h0: Tensor) -> Tensor:
    """At each step, the h of the step before."""
    return torch.cat([h0.unsqueeze(1), h[:, :-1]], dim=1)


def in_chunks(a: Tensor, b: Tensor, h0: Tensor, times: Operation, plus: Operation, nothing: float) -> Tensor:
    """The recurrence, with `times` and `plus` as its two operations and `nothing` as the zero of `plus`.

    What is padded at the end is never read.
    """
    _, time, _ = a.shape
    steps = math.isqrt(time - 1) + 1
    chunks = -(-time // steps)
    padding = (0, 0, 0, chunks * steps - time)
    a = torch.nn.functional.pad(a, padding, value=nothing).unflatten(1, (chunks, steps))
    b = torch.nn.functional.pad(b, padding, value=nothing).unflatten(1, (chunks, steps))

    factors, sums = [a[:, :, 0]], [b[:, :, 0]]
    for step in range(1, steps):
        factors.append(times(a[:, :, step], factors[-1]))
        sums.append(plus(times(a[:, :, step], sums[-1]), b[:, :, step]))
    starts = [h0]
    for chunk in range(chunks - 1):
        starts.append(plus(times(factors[-1][:, chunk], starts[-1]), sums[-1][:, chunk]))
    factor, start = torch.stack(factors, dim=2), torch.stack(starts, dim=1).unsqueeze(2)
    return plus(times(factor, start), torch.stack(sums, dim=2)).flatten(1, 2)[:, :time]
