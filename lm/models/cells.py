"""Recurrent cells written out from their equations, with the names, shapes and starting weights of PyTorch's.

Each computes one step: `forward(inputs [batch, input], state) -> state`. Weights `[gates × hidden, …]` have the gates
one below the other, so that a `state_dict` of `nn.RNNCell`, `nn.GRUCell` or `nn.LSTMCell` can be loaded.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class WrittenCell(nn.Module):
    """The weights of a cell, drawn as PyTorch draws them: uniform within ±1/√hidden."""

    def __init__(self, input_size: int, hidden_size: int, gates: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden_size)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.hidden_size = hidden_size
        self.weight_ih = weights(gates * hidden_size, input_size)
        self.weight_hh = weights(gates * hidden_size, hidden_size)
        self.bias_ih = weights(gates * hidden_size)
        self.bias_hh = weights(gates * hidden_size)


class RNNCell(WrittenCell):
    """h′ = tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=1)

    def forward(self, inputs: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(linear(inputs, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh))


class GRUCell(WrittenCell):
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


class LSTMCell(WrittenCell):
    """Long short-term memory with a forget gate (Gers et al. 2000); its state is the pair (h, c).

    i, f, o = σ(W x + b + W′ h + b′)    input, forget and output gates, each with weights of its own
    g = tanh(W_g x + b_g + W′_g h + b′_g)
    c′ = f ⊙ c + i ⊙ g                  the cell state
    h′ = o ⊙ tanh(c′)                   the hidden state, which is the output
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=4)

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        gates = linear(inputs, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c
