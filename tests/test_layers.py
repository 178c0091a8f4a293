"""What every layer of `unroll.nn` promises: outputs, state, resets and dtype."""

import pytest
import torch
from torch import Tensor

import unroll.nn
from unroll import UserError, kernels
from unroll.streams import Window
from unroll.training.objectives import MeanSquaredError

LAYERS = {
    "gru": lambda: unroll.nn.GRU(3, 5, num_layers=2),
    "lstm": lambda: unroll.nn.LSTM(3, 5, num_layers=2),
    "rnn": lambda: unroll.nn.RNN(3, 5),
    "mogrifier": lambda: unroll.nn.Mogrifier(3, 5),
    "qrnn": lambda: unroll.nn.QRNN(3, 5),
    "qrnn of one step": lambda: unroll.nn.QRNN(3, 5, window=1, pooling="f"),
    "min_gru": lambda: unroll.nn.MinGRU(3, 5),
    "min_lstm": lambda: unroll.nn.MinLSTM(3, 5),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param]().double()


@pytest.mark.parametrize("plain", [False, True])
def test_resets_read_each_part_as_if_it_were_alone(layer, plain):
    """Rows that are reset at steps of their own, in two windows, are documents read from zeros."""
    x = torch.randn(3, 11, 3, dtype=torch.double)
    begins = [{4}, {2, 7, 8}, set()]
    resets = torch.tensor([[step in row for step in range(11)] for row in begins])

    kernels.use(not plain)
    try:
        first, state = layer(x[:, :6], None, resets[:, :6])
        second, _ = layer(x[:, 6:], state, resets[:, 6:])
        outputs = torch.cat([first, second], 1)
        for row, steps in enumerate(begins):
            for begin, end in zip(sorted({0, *steps}), [*sorted(steps - {0}), 11], strict=True):
                alone, _ = layer(x[row : row + 1, begin:end])
                torch.testing.assert_close(outputs[row, begin:end], alone[0])
    finally:
        kernels.use(True)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 4, dtype=torch.bool), torch.zeros(2), torch.zeros(2, 5).long()])
def test_resets_of_another_shape_or_dtype_are_refused(layer, wrong):
    with pytest.raises(UserError, match=r"resets must be bool \[2, 5\]"):
        layer(torch.randn(2, 5, 3, dtype=torch.double), None, wrong)


def test_outputs_have_the_dtype_of_the_inputs(layer):
    half = layer.bfloat16()
    y, state = half(torch.randn(2, 5, 3, dtype=torch.bfloat16))
    y, _ = half(torch.randn(2, 5, 3, dtype=torch.bfloat16), state)
    assert y.dtype == torch.bfloat16


def test_the_dropped_weights_of_a_qrnn_are_those_of_the_whole_window():
    qrnn = unroll.nn.QRNN(1, 4, window=1, pooling="f", weight_drop=0.5)
    resets = torch.zeros(1, 6, dtype=torch.bool)
    resets[0, 3] = True
    y, _ = qrnn(torch.ones(1, 6, 1), None, resets)
    assert torch.equal(y[0, 0], y[0, 3])


def test_the_switch_of_kernels_is_for_the_scan_too():
    """Only the plain form can be differentiated twice."""
    x = torch.randn(1, 5, 3, requires_grad=True)
    with kernels.plain():
        (gradient,) = torch.autograd.grad(unroll.nn.MinGRU(3, 4)(x)[0].square().sum(), x, create_graph=True)
        gradient.sum().backward()
    assert isinstance(x.grad, Tensor)


@pytest.mark.parametrize("returned", [(8, 1), (8, 6, 1), (7, 5, 1)])
def test_outputs_that_are_not_one_for_each_target_are_refused(returned):
    """Broadcast against the targets, they would train on a loss that means nothing."""
    window = Window.of(torch.randn(8, 5, 1), torch.randn(8, 5, 1), torch.ones(8, dtype=torch.bool))
    with pytest.raises(UserError, match="must"):
        MeanSquaredError()(torch.nn.Identity(), torch.zeros(returned), window)
