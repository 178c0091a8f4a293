"""The hand-written gradient of `unroll.nn.gru` is PyTorch's."""

import pytest
import torch
from torch import nn

import unroll.nn
from unroll import kernels
from unroll.kernels.gru import written_out


def results(layer, inputs, state, use_state):
    """What a layer gives, and the gradients of everything that goes in."""
    inputs, state = inputs.clone().requires_grad_(), state.clone().requires_grad_()
    layer.zero_grad()
    outputs, after = layer(inputs, state if use_state else None)
    loss = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum() + after.square().sum()
    loss.backward()
    gradients = [inputs.grad, *([state.grad] if use_state else []), *(weight.grad for weight in layer.parameters())]
    return [outputs.detach(), after.detach(), *gradients]


@pytest.mark.parametrize("use_state", [True, False])
@pytest.mark.parametrize(("layers", "time", "rows"), [(1, 1, 1), (1, 7, 3), (2, 7, 3), (3, 2, 5)])
def test_results_and_gradients_are_those_of_pytorch(layers, time, rows, use_state):
    torch.manual_seed(0)
    theirs = nn.GRU(4, 6, layers, batch_first=True, dtype=torch.float64)
    ours = unroll.nn.GRU(4, 6, layers).double()
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(rows, time, 4, dtype=torch.float64)
    state = torch.randn(layers, rows, 6, dtype=torch.float64)
    assert written_out(inputs)
    for expected, found in zip(
        results(theirs, inputs, state, use_state), results(ours, inputs, state, use_state), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_in_mixed_precision_it_is_nearer_to_float32_than_pytorchs():
    torch.manual_seed(0)
    theirs, ours = nn.GRU(32, 48, 2, batch_first=True), unroll.nn.GRU(32, 48, 2)
    ours.load_state_dict(theirs.state_dict())
    inputs, state = torch.randn(8, 30, 32), torch.randn(2, 8, 48)
    exact = results(theirs, inputs, state, True)
    with torch.autocast("cpu", torch.bfloat16):
        assert written_out(inputs)
        expected, found = results(theirs, inputs, state, True), results(ours, inputs, state, True)
    for wanted, near, nearer in zip(exact, expected, found, strict=True):
        assert nearer.dtype == torch.float32
        assert (nearer - wanted).norm() < min(0.01 * wanted.norm(), (near - wanted).norm())


def test_the_first_weights_are_those_of_pytorch():
    torch.manual_seed(0)
    theirs = nn.GRU(4, 6, 2).state_dict()
    torch.manual_seed(0)
    ours = unroll.nn.GRU(4, 6, 2).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_pytorch_does_what_is_not_written_here():
    torch.manual_seed(0)
    inputs = torch.randn(3, 5, 4)
    torch.manual_seed(1)
    expected, _ = nn.GRU(4, 6, 2, dropout=0.5, batch_first=True)(inputs)
    torch.manual_seed(1)
    found, _ = unroll.nn.GRU(4, 6, 2, dropout=0.5)(inputs)
    assert torch.equal(found, expected)


def test_one_switch_turns_the_kernels_off(monkeypatch):
    monkeypatch.setattr("unroll.nn.gru.GRUSteps.apply", pytest.fail)
    with kernels.plain():
        assert not kernels.in_use()
        unroll.nn.GRU(4, 6)(torch.randn(3, 5, 4))
    assert kernels.in_use()
