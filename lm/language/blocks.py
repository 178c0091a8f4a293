"""Minimal recurrent layers in residual blocks, as in the language models of their authors (Feng et al. 2024, arXiv
2410.01201; the order of the parts is that of their repository, BorealisAI/minRNNs).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from lm.language.stacks import CommonSettings, Stack
from unroll import nn as layers
from unroll.checks import Positive, Share, Size, checked
from unroll.nn.layer import RecurrentLayer

Pair = tuple[Tensor, Tensor]


class CausalConv(nn.Module):
    """A convolution over time for each channel, then a linear layer over the channels.

    The state is the last `width` − 1 inputs, `[1, batch, width − 1, size]`.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.past = width - 1
        self.over_time = nn.Conv1d(size, size, width, groups=size)
        self.over_channels = nn.Linear(size, size)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        before = x.new_zeros(x.size(0), self.past, x.size(2)) if state is None else state[0].to(x.dtype)
        padded = torch.cat([before, x], dim=1)
        mixed = self.over_time(padded.transpose(1, 2)).transpose(1, 2)
        mixed = self.over_channels(mixed)
        return mixed, padded[:, x.size(1) :].unsqueeze(0)


class Block(RecurrentLayer):
    """x + convolution, + recurrent layer and projection, + two-layer perceptron; RMS norm before the last two.

    Args:
        layer: the recurrent layer, from `size` to `units`.
        width: the number of inputs in the convolution.
        mlp: the units of the perceptron, in multiples of `size`.
        dropout: of what each of the three adds.
    """

    def __init__(self, layer: nn.Module, size: int, units: int, width: int, mlp: float, dropout: float) -> None:
        super().__init__()
        self.conv = CausalConv(size, width)
        self.norm = nn.RMSNorm(size)
        self.layer = layer
        self.project = nn.Linear(units, size)
        self.mlp_norm = nn.RMSNorm(size)
        self.mlp_in = nn.Linear(size, round(mlp * size))
        self.mlp_out = nn.Linear(round(mlp * size), size)
        self.dropout = nn.Dropout(dropout)

    def read(self, x: Tensor, state: Pair | None) -> tuple[Tensor, Pair]:
        h0, inputs = (None, None) if state is None else state
        mixed, inputs = self.conv(x, inputs)
        x = x + self.dropout(mixed)
        h, last = self.layer(self.norm(x), h0)
        x = x + self.dropout(self.project(h))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)))
        x = x + self.dropout(self.mlp_out(hidden))
        return x, (last, inputs)


class BlockSettings(CommonSettings, total=False):
    """The arguments of stacks of blocks beside their sizes (see `Blocks`)."""

    width: int
    expansion: float
    mlp: float
    dropout: float


class Blocks(Stack):
    """Residual blocks around recurrent layers.

    Args:
        recurrent: makes the recurrent layer of a block from its input size and its units.
        vocab_size: the number of tokens.
        hidden_size: the size of a token's vector, and of what the blocks add to.
        num_layers: the number of blocks.
        width: of the convolution over time, in tokens.
        expansion: the units of a recurrent layer, in multiples of `hidden_size`.
        mlp: the units of a perceptron, in multiples of `hidden_size`.
        dropout: of what each part of a block adds.
        stack: as for `Stack`; the norm before the head is an RMS norm.
    """

    @checked
    def __init__(
        self,
        recurrent: Callable[[int, int], nn.Module],
        vocab_size: int,
        hidden_size: Size = 64,
        num_layers: Size = 3,
        *,
        width: Size = 4,
        expansion: Positive = 2.0,
        mlp: Positive = 4.0,
        dropout: Share = 0.0,
        **stack: Unpack[CommonSettings],
    ) -> None:
        def make_layer(number: int, size: int, hidden: int) -> nn.Module:
            units = max(1, round(expansion * hidden))
            return Block(recurrent(size, units), hidden, units, width, mlp, dropout)

        super().__init__(
            make_layer, vocab_size, hidden_size, hidden_size, num_layers, last_size=None, norm=False, **stack
        )
        self.norm = nn.RMSNorm(hidden_size)


class MinGRUBlocks(Blocks):
    """Residual blocks around minimal gated recurrent units.

    Args:
        vocab_size, hidden_size, num_layers, blocks: as for `Blocks`.
    """

    def __init__(
        self, vocab_size: int, hidden_size: Size = 64, num_layers: Size = 3, **blocks: Unpack[BlockSettings]
    ) -> None:
        super().__init__(layers.MinGRU, vocab_size, hidden_size, num_layers, **blocks)


class MinLSTMBlocks(Blocks):
    """The same around minimal LSTMs.

    Args:
        vocab_size, hidden_size, num_layers, blocks: as for `Blocks`.
    """

    def __init__(
        self, vocab_size: int, hidden_size: Size = 64, num_layers: Size = 3, **blocks: Unpack[BlockSettings]
    ) -> None:
        super().__init__(layers.MinLSTM, vocab_size, hidden_size, num_layers, **blocks)
