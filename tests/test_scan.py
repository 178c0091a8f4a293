"""The parallel scans are the loops they stand for, however long the time and however extreme the gates."""

import pytest
import torch

from lm.models.scan import log_scan, scan


def loop(a, b, h):
    steps = []
    for step in range(a.size(1)):
        h = a[:, step] * h + b[:, step]
        steps.append(h)
    return torch.stack(steps, dim=1)


def some(time, dtype=torch.float32, requires_grad=False):
    generator = torch.Generator().manual_seed(time)
    a, b = torch.rand(2, 3, time, 5, dtype=dtype, generator=generator)
    h0 = torch.rand(3, 5, dtype=dtype, generator=generator)
    return tuple(tensor.clone().requires_grad_(requires_grad) for tensor in (a, b, h0))


TIMES = [1, 2, 3, 5, 16, 17, 70, 256, 1000]


@pytest.mark.parametrize("time", TIMES)
def test_a_scan_is_the_loop(time):
    a, b, h0 = some(time)
    b = b - 0.5  # of either sign
    torch.testing.assert_close(scan(a, b, h0), loop(a, b, h0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("time", TIMES)
def test_a_scan_of_logarithms_is_the_loop(time):
    a, b, h0 = some(time)
    torch.testing.assert_close(log_scan(a.log(), b.log(), h0), loop(a, b, h0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("time", [1, 2, 17, 70])
def test_gradients_are_the_loops(time):
    inputs = some(time, torch.float64, requires_grad=True)
    weights = torch.randn(3, time, 5, dtype=torch.float64)
    expected = torch.autograd.grad((loop(*inputs) * weights).sum(), inputs)
    a, b, h0 = inputs
    for result in (scan(a, b, h0), log_scan(a.log(), b.log(), h0)):
        for ours, theirs in zip(torch.autograd.grad((result * weights).sum(), inputs), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("log_a", [-1000.0, -50.0, -1e-6, 0.0])
def test_gates_that_are_shut_or_wide_open_lose_nothing(log_a):
    """Where a scan by cumulative sums would subtract numbers in the thousands from each other."""
    _, b, h0 = some(560)
    log_a = torch.full_like(b, log_a).requires_grad_()
    h = log_scan(log_a, b.log(), h0)
    exact = loop(log_a.double().exp(), b.double(), h0.double())
    torch.testing.assert_close(h, exact.float(), atol=1e-5, rtol=1e-5)
    h.sum().backward()
    assert log_a.grad.isfinite().all()


def test_a_state_of_zeros_and_nothing_new_stays_zero():
    nothing = torch.full((1, 9, 1), -torch.inf, requires_grad=True)
    h = log_scan(torch.full((1, 9, 1), -0.5), nothing, torch.zeros(1, 1))
    assert torch.equal(h, torch.zeros(1, 9, 1))
    h.sum().backward()
    assert nothing.grad.isfinite().all()
