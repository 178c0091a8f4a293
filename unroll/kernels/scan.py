"""Linear recurrences h_t = a_t h_{t−1} + b_t, element by element, of many steps at once.

Where a step has few numbers, time is cut into about √time chunks of about √time steps. All chunks are computed side by
side, each from zero; then the chunks are joined one after the other; then all are computed again, each from where the
one before it ends. That is three operations per number, in 3 √time instead of `time` sequential steps. Where a step has
many numbers, a CPU is faster with one operation per number, step after step.

Nothing is divided or subtracted, so no precision is lost, however long the time and however small the products: unlike
scans by cumulative sums, this one needs no logarithms (Heinsen 2023, arXiv 2311.06281; Feng et al. 2024, arXiv
2410.01201). The gradient is a recurrence of the same kind, from the last step to the first.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels.switch import in_use

MANY = 8192  # numbers in a step


def scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """All h_t = a_t h_{t−1} + b_t.

    Args:
        a, b: float `[batch, time, hidden]`.
        h0: float `[batch, hidden]`, what was before the first step.

    Returns:
        float `[batch, time, hidden]`.
    """
    return Scan.apply(a, b, h0) if in_use() else step_by_step(a, b, h0)


def step_by_step(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """The plain form."""
    steps = []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h0 = a_t * h0 + b_t
        steps.append(h0)
    return torch.stack(steps, dim=1)


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        h = recurrence(a, b, h0)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        a, h, h0 = ctx.saved_tensors
        d_b = recurrence(F.pad(a[:, 1:], (0, 0, 0, 1)), grad, torch.zeros_like(h0), from_the_end=True)
        d_a = torch.empty_like(d_b)
        torch.mul(d_b[:, 0], h0, out=d_a[:, 0])
        torch.mul(d_b[:, 1:], h[:, :-1], out=d_a[:, 1:])
        return d_a, d_b, d_b[:, 0] * a[:, 0]


def recurrence(a: Tensor, b: Tensor, start: Tensor, from_the_end: bool = False) -> Tensor:
    """All h_t = a_t h_{t−1} + b_t, or with `from_the_end` all h_t = a_t h_{t+1} + b_t, which begin from zeros."""
    rows, time, hidden = b.shape
    chunks = 1 if b.is_cpu and rows * hidden >= MANY else math.isqrt(time - 1) + 1
    steps = -(-time // chunks)
    if padding := chunks * steps - time:
        a, b = F.pad(a, (0, 0, 0, padding)), F.pad(b, (0, 0, 0, padding))
    in_turn = list(zip(*(x.unflatten(1, (chunks, steps)).unbind(2) for x in (a, b)), strict=True))
    if from_the_end:
        in_turn.reverse()
    last = start.unsqueeze(1) if chunks == 1 else starts(in_turn, start, from_the_end)
    hs = []
    for a_t, b_t in in_turn:
        last = torch.addcmul(b_t, a_t, last)
        hs.append(last)
    if from_the_end:
        hs.reverse()
    return torch.stack(hs, dim=2).flatten(1, 2)[:, :time]


def starts(in_turn: list[tuple[Tensor, ...]], start: Tensor, from_the_end: bool) -> Tensor:
    """What is before the first step of each chunk, `[batch, chunks, hidden]`."""
    factor, total = in_turn[0]
    for a_t, b_t in in_turn[1:]:
        total = torch.addcmul(b_t, a_t, total)
        factor = factor * a_t
    joined = list(zip(factor.unbind(1), total.unbind(1), strict=True))
    if from_the_end:
        joined.reverse()
    befores = []
    for product, sum_ in joined:
        befores.append(start)
        start = torch.addcmul(sum_, product, start)
    if from_the_end:
        befores.reverse()
    return torch.stack(befores, dim=1)
