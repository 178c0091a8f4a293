"""The Mogrifier LSTM."""

from itertools import cycle, islice

import torch
from torch import Tensor, nn

from unroll.kernels import steps
from unroll.nn.layer import RecurrentLayer
from unroll.nn.lstm import LSTMCell, Pair


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

    def forward(self, inputs: Tensor, state: Pair) -> Pair:
        h, c = state
        for number, scale in enumerate(self.scales):
            if number % 2 == 0:
                inputs = 2 * torch.sigmoid(scale(h)) * inputs
            else:
                h = 2 * torch.sigmoid(scale(inputs)) * h
        return super().forward(inputs, (h, c))


def scale(size: int, other: int, rank: int | None) -> nn.Module:
    """The linear map Q or R, from the vector that scales to the one that is scaled."""
    if rank is None:
        return nn.Linear(size, other)
    return nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, other))


class Mogrifier(RecurrentLayer):
    """A `MogrifierCell` over all steps, on a CPU by `unroll.kernels.steps`. The state is the pair (h, c),
    `[1, rows, hidden]` each.

    Args:
        input_size, hidden_size, rounds, rank: as for `MogrifierCell`.
    """

    def __init__(self, input_size: int, hidden_size: int, rounds: int = 5, rank: int | None = None) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = MogrifierCell(input_size, hidden_size, rounds, rank)

    def read(self, x: Tensor, state: Pair | None) -> tuple[Tensor, Pair]:
        if state is None:
            h = c = x.new_zeros(x.size(0), self.hidden_size)
        else:
            h, c = state[0][0], state[1][0]
        cell = self.cell
        fits = h.shape == c.shape == (len(x), self.hidden_size) and x.size(2) == cell.weight_ih.size(1)
        if fits and steps.can_run(x) and not steps.single(x) and len(cell.scales) <= steps.MOST_ROUNDS:
            scales = [part for scale in cell.scales for part in multiplied(scale)]
            bias = cell.bias_ih + cell.bias_hh
            hs, h, c = steps.mogrifier(x.transpose(0, 1), h, c, cell.weight_ih, cell.weight_hh, bias, *scales)
            outputs = hs.transpose(0, 1)
        else:
            every = []
            for inputs in x.unbind(1):
                h, c = cell(inputs, (h, c))
                every.append(h)
            outputs = torch.stack(every, 1)
        return outputs, (h.unsqueeze(0), c.unsqueeze(0))


def multiplied(scale: nn.Module) -> tuple[Tensor, Tensor]:
    """The weight and the bias of a `scale`, two matrices of low rank multiplied."""
    if isinstance(scale, nn.Linear):
        return scale.weight, scale.bias
    first, second = scale.children()
    return second.weight @ first.weight, second.bias  # type: ignore[return-value, operator]
