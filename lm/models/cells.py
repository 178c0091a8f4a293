"""Recurrent cells written out from their equations, with the names, shapes and starting weights of PyTorch's.

Each computes one step: `forward(inputs [batch, input], state) -> state`. Weights `[gates × hidden, …]` have the gates
one below the other, so that a `state_dict` of `nn.RNNCell`, `nn.GRUCell` or `nn.LSTMCell` can be loaded.
"""

import math
from itertools import cycle, islice

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


class MogrifierCell(LSTMCell):
    """An LSTM whose input and hidden state scale each other before they meet (Melis et al. 2020, arXiv 1909.01792).

    With x⁻¹ the input and h⁰ the hidden state, for i from 1 to `rounds`:

    xⁱ = 2σ(Qⁱ hⁱ⁻¹) ⊙ xⁱ⁻²    for odd i
    hⁱ = 2σ(Rⁱ xⁱ⁻¹) ⊙ hⁱ⁻²    for even i

    Then the LSTM's equations, with the last x and h.

    Args:
        input_size, hidden_size: of the LSTM.
        rounds: how often the two scale each other; 0 is the LSTM.
        rank: Q and R are products of two matrices of this rank; None: matrices of full rank.
    """

    def __init__(self, input_size: int, hidden_size: int, rounds: int = 5, rank: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        directions = cycle([(hidden_size, input_size), (input_size, hidden_size)])
        self.scales = nn.ModuleList(scale(*sizes, rank) for sizes in islice(directions, rounds))

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        for number, scale in enumerate(self.scales):
            if number % 2 == 0:
                inputs = 2 * torch.sigmoid(scale(h)) * inputs
            else:
                h = 2 * torch.sigmoid(scale(inputs)) * h
        return super().forward(inputs, (h, c))


def scale(size: int, other: int, rank: int | None) -> nn.Module:
    """What turns one of the two into a scale for the other, before the sigmoid."""
    if rank is None:
        return nn.Linear(size, other)
    return nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, other))
