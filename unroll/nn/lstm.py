"""Long short-term memory."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unroll.kernels import steps
from unroll.nn.cell import Cell
from unroll.nn.layer import CompiledLayer, read_by_steps
from unroll.precision import cpu_has_bfloat16

Pair = tuple[Tensor, Tensor]


class LSTMCell(Cell):
    """Long short-term memory with a forget gate (Gers et al. 2000); its state is the pair (h, c).

    i, f, o = σ(W x + b + W′ h + b′)    input, forget and output gates, each with weights of its own
    g = tanh(W_g x + b_g + W′_g h + b′_g)
    c′ = f ⊙ c + i ⊙ g                  the cell state
    h′ = o ⊙ tanh(c′)                   the hidden state, which is the output
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=4)

    def forward(self, inputs: Tensor, state: Pair) -> Pair:
        h, c = state
        gates = linear(inputs, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class LSTM(CompiledLayer, nn.LSTM):  # type: ignore[misc]
    """Layers of `LSTMCell`s: `torch.nn.LSTM`, on a CPU by `unroll.kernels.steps`. The state is the pair (h, c),
    `[layers, rows, hidden]` each.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        nn.LSTM.__init__(self, input_size, hidden_size, num_layers, dropout=dropout, batch_first=True)

    def compiles(self, x: Tensor) -> bool:
        return steps.can_run(x) and not (mixed_on_cpu(x) and cpu_has_bfloat16())

    def read(self, x: Tensor, state: Pair | None, resets: Tensor | None = None) -> tuple[Tensor, Pair]:
        if mixed_on_cpu(x) and not cpu_has_bfloat16():
            with torch.autocast("cpu", enabled=False):
                return self.read(x.float(), None if state is None else (state[0].float(), state[1].float()), resets)
        if not self.compiles(x):
            return nn.LSTM.forward(self, x, state)
        if state is None:
            state = 2 * (x.new_zeros(self.num_layers, x.size(0), self.hidden_size),)
        self.check_forward_args(x, state, None)
        return read_by_steps(self, steps.lstm, x, state, resets)  # type: ignore[return-value]


def mixed_on_cpu(x: Tensor) -> bool:
    return x.is_cpu and torch.is_autocast_enabled("cpu")
