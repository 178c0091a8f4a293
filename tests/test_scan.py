"""The scan is the loop it stands for, however long the time, however many rows, and however extreme the gates."""

import pytest
import torch

from unroll.kernels.scan import MANY, scan
from unroll.nn import MinGRU, MinLSTM


def loop(a, b, h):
    steps = []
    for step in range(a.size(1)):
        h = a[:, step] * h + b[:, step]
        steps.append(h)
    return torch.stack(steps, dim=1)


def some(time, rows=3, dtype=torch.float32, requires_grad=False):
    generator = torch.Generator().manual_seed(time)
    a, b = torch.rand(2, rows, time, 5, dtype=dtype, generator=generator)
    b = b - 0.5  # of either sign
    h0 = torch.rand(rows, 5, dtype=dtype, generator=generator)
    return tuple(tensor.clone().requires_grad_(requires_grad) for tensor in (a, b, h0))


ROWS = [3, MANY // 5 + 1]  # in chunks, and step after step


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("time", [1, 2, 3, 5, 16, 17, 70, 256, 1000])
def test_a_scan_is_the_loop(time, rows):
    a, b, h0 = some(time, rows)
    torch.testing.assert_close(scan(a, b, h0), loop(a, b, h0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("time", [1, 2, 17, 70])
def test_gradients_are_the_loops(time, rows):
    inputs = some(time, rows, torch.float64, requires_grad=True)
    weights = torch.randn(rows, time, 5, dtype=torch.float64)
    expected = torch.autograd.grad((loop(*inputs) * weights).sum(), inputs)
    found = torch.autograd.grad((scan(*inputs) * weights).sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kept", [0.0, 1e-30, 1 - 1e-6, 1.0])
def test_gates_that_are_shut_or_wide_open_lose_nothing(kept):
    """Where a scan by cumulative products would divide by numbers close to zero."""
    _, b, h0 = some(560)
    a = torch.full_like(b, kept).requires_grad_()
    h = scan(a, b, h0)
    torch.testing.assert_close(h, loop(a.double(), b.double(), h0.double()).float(), atol=1e-5, rtol=1e-5)
    h.sum().backward()
    assert a.grad.isfinite().all()


def test_a_state_of_zeros_and_nothing_new_stays_zero():
    nothing = torch.zeros(1, 9, 1, requires_grad=True)
    h = scan(torch.full((1, 9, 1), 0.6), nothing, torch.zeros(1, 1))
    assert torch.equal(h, torch.zeros(1, 9, 1))
    h.sum().backward()
    assert nothing.grad.isfinite().all()


@pytest.mark.parametrize("layer", [MinGRU(1, 1), MinLSTM(1, 1)])
@pytest.mark.parametrize("score", [-1e4, 1e4])
def test_extreme_scores_of_minimal_layers_give_finite_gradients(layer, score):
    scores = torch.full((2, 9, 1), score).requires_grad_()
    h, _ = layer(scores, None)
    h.sum().backward()
    assert h.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in (scores, *layer.parameters()))
