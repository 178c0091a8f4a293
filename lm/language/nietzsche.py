"""The models of the Nietzsche lesson, character by character, in its order.

The first six read independent windows and start each from zeros; the last four carry their state from window to window.
`embed` maps a character to 42 numbers, `head` maps hidden units to a score for each character. `forward` is the head of
`features`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.language.heads import HeadName, make_head
from lm.language.model import NextTokenModel
from unroll import nn as layers
from unroll.checks import Share, Size, checked
from unroll.errors import UserError


class CharThree(NextTokenModel):
    """Three characters in, the fourth out: three matrices, each used for every character (Char3Model)."""

    only_window = 3

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 42, hidden_size: Size = 256, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.input = nn.Linear(embedding_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        if tokens.size(1) != self.only_window:
            raise UserError(f"this model reads windows of 3 characters and got {tokens.size(1)}; see model=char_loop")
        first, second, third = F.relu(self.input(self.embed(tokens))).unbind(1)
        h = torch.tanh(self.hidden(first))  # the lesson adds a state of zeros, as in the two below
        h = torch.tanh(self.hidden(h + second))
        h = torch.tanh(self.hidden(h + third))
        return h.unsqueeze(1), None


class CharLoop(NextTokenModel):
    """The same as a loop over any number of characters (CharLoopModel)."""

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 42, hidden_size: Size = 256, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.input = nn.Linear(embedding_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        inputs = F.relu(self.input(self.embed(tokens)))
        h = torch.zeros_like(inputs[:, 0])
        for x in inputs.unbind(1):
            h = torch.tanh(self.hidden(h + x))
        return h.unsqueeze(1), None


class CharConcat(NextTokenModel):
    """Input and state are different things: concatenate them instead of adding (CharLoopConcatModel)."""

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 42, hidden_size: Size = 256, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.input = nn.Linear(hidden_size + embedding_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        inputs = self.embed(tokens)
        h = inputs.new_zeros(inputs.size(0), self.hidden.out_features)
        for x in inputs.unbind(1):
            x = F.relu(self.input(torch.cat([h, x], dim=1)))
            h = torch.tanh(self.hidden(x))
        return h.unsqueeze(1), None


class CharRNN(NextTokenModel):
    """A layer instead of the loop (nn.RNN); only its last output is used (CharRnn)."""

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 42, hidden_size: Size = 256, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.RNN(embedding_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        outputs, _ = self.rnn(self.embed(tokens))
        return outputs[:, -1:], None


class CharSeq(NextTokenModel):
    """Every output is used (CharSeqRnn). With `identity`, the state is at first passed on unchanged.

    A hidden-to-hidden matrix that starts as the identity is due to Le, Jaitly & Hinton 2015, arXiv 1504.00941.
    """

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 42,
        hidden_size: Size = 256,
        identity: bool = False,
        head: HeadName = "linear",
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.RNN(embedding_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)
        if identity:
            nn.init.eye_(self.rnn.get_parameter("weight_hh_l0"))

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        outputs, _ = self.rnn(self.embed(tokens))
        return outputs, None


class CharStateful(NextTokenModel):
    """The state is carried from window to window (CharSeqStatefulRnn)."""

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 42, hidden_size: Size = 256, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.RNN(embedding_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, state = self.rnn(self.embed(tokens), state)
        return outputs, state


class CharStatefulCell(NextTokenModel):
    """The same from a cell in a loop (CharSeqStatefulRnn2): PyTorch's cell, or that of `unroll.nn.rnn`."""

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 42,
        hidden_size: Size = 256,
        cell: Literal["torch", "written"] = "torch",
        head: HeadName = "linear",
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.cell = (nn.RNNCell if cell == "torch" else layers.RNNCell)(embedding_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inputs = self.embed(tokens)
        h = inputs.new_zeros(inputs.size(0), self.cell.hidden_size) if state is None else state[0]
        outputs = []
        for x in inputs.unbind(1):
            h = self.cell(x, h)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h.unsqueeze(0)


class CharGRU(NextTokenModel):
    """nn.GRU: gates determine how much of the state is kept (CharSeqStatefulGRU)."""

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 42, hidden_size: Size = 256, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.GRU(embedding_size, hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, state = self.rnn(self.embed(tokens), state)
        return outputs, state


class CharLSTM(NextTokenModel):
    """Two layers, dropout between them, and a state that is a pair: hidden and cell (CharSeqStatefulLSTM)."""

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 42,
        hidden_size: Size = 512,
        num_layers: Size = 2,
        dropout: Share = 0.5,
        head: HeadName = "linear",
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.LSTM(embedding_size, hidden_size, num_layers, dropout)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(
        self, tokens: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs, state = self.rnn(self.embed(tokens), state)
        return outputs, state
