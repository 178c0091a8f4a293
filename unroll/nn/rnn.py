"""The simple recurrent network."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unroll.kernels import steps
from unroll.nn.cell import Cell
from unroll.nn.layer import CompiledLayer, read_by_steps


class RNNCell(Cell):
    """h′ = tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=1)

    def forward(self, inputs: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(linear(inputs, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh))


class RNN(CompiledLayer, nn.RNN):  # type: ignore[misc]
    """Layers of `RNNCell`s: `torch.nn.RNN`, on a CPU by `unroll.kernels.steps`.

    The state is `[layers, rows, hidden]`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        nn.RNN.__init__(self, input_size, hidden_size, num_layers, dropout=dropout, batch_first=True)

    def read(self, x: Tensor, state: Tensor | None, resets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.compiles(x):
            return nn.RNN.forward(self, x, state)
        if state is None:
            state = x.new_zeros(self.num_layers, x.size(0), self.hidden_size)
        self.check_forward_args(x, state, None)
        outputs, (state,) = read_by_steps(self, steps.rnn, x, (state,), resets)
        return outputs, state
