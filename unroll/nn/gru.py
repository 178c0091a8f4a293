"""Gated recurrent units."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unroll.kernels import steps
from unroll.nn.cell import Cell
from unroll.nn.layer import CompiledLayer, read_by_steps


class GRUCell(Cell):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078; the reset gate after the matrix product, as in cuDNN).

    r = σ(W_ir x + b_ir + W_hr h + b_hr)            reset: how much of the state goes into the candidate
    z = σ(W_iz x + b_iz + W_hz h + b_hz)            update: how much of the state is kept
    n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))   the candidate
    h′ = (1 − z) ⊙ n + z ⊙ h                        a linear interpolation between the two
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=3)

    def forward(self, inputs: Tensor, h: Tensor) -> Tensor:
        input_r, input_z, input_n = linear(inputs, self.weight_ih, self.bias_ih).chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = linear(h, self.weight_hh, self.bias_hh).chunk(3, dim=1)
        r = torch.sigmoid(input_r + hidden_r)
        z = torch.sigmoid(input_z + hidden_z)
        n = torch.tanh(input_n + r * hidden_n)
        return (1 - z) * n + z * h


class GRU(CompiledLayer, nn.GRU):  # type: ignore[misc]
    """Layers of `GRUCell`s: `torch.nn.GRU`, on a CPU by `unroll.kernels.steps`.

    The state is `[layers, rows, hidden]`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        nn.GRU.__init__(self, input_size, hidden_size, num_layers, dropout=dropout, batch_first=True)

    def read(self, x: Tensor, state: Tensor | None, resets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.compiles(x):
            return nn.GRU.forward(self, x, state)
        if state is None:
            state = x.new_zeros(self.num_layers, x.size(0), self.hidden_size)
        self.check_forward_args(x, state, None)
        outputs, (state,) = read_by_steps(self, steps.gru, x, (state,), resets)
        return outputs, state
