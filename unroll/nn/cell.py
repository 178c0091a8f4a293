"""Recurrent cells written out from their equations, with the names, shapes and starting weights of PyTorch's.

Each computes one step: `cell(inputs [rows, size], state) -> state`. Weights `[gates × hidden, …]` have the gates one
below the other, so that a `state_dict` of `nn.RNNCell`, `nn.GRUCell` or `nn.LSTMCell` can be loaded.
"""

import math

import torch
from torch import nn


class Cell(nn.Module):
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
