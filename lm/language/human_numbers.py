"""The six models of the human numbers lesson, in its order: each is the one before it, one idea further.

They share three layers: `embed` maps a word to hidden units (the lesson's `i_h`), `hidden` maps hidden units to hidden
units (`h_h`), `head` maps hidden units to a score for each word (`h_o`). `forward` is the head of `features`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.language.heads import HeadName, make_head
from lm.language.model import NextTokenModel
from unroll import nn as layers
from unroll.checks import Size, checked
from unroll.errors import UserError


class Unrolled(NextTokenModel):
    """Three words in, the fourth out, written out by hand (the lesson's Model0)."""

    @checked
    def __init__(self, vocab_size: int, hidden_size: Size = 64, head: HeadName = "linear") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.norm = layers.BatchNorm(hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        time = tokens.size(1)
        if time > 3:
            raise UserError(f"this model reads at most 3 words and got {time}; use data.bptt=3, or model=loop")
        h = self.norm(F.relu(self.embed(tokens[:, 0])))
        if time > 1:  # the end of the stream can be shorter than three words
            h = h + self.embed(tokens[:, 1])
            h = self.norm(F.relu(self.hidden(h)))
        if time > 2:
            h = h + self.embed(tokens[:, 2])
            h = self.norm(F.relu(self.hidden(h)))
        return h.unsqueeze(1), None


class Loop(NextTokenModel):
    """The same as a loop, for any number of words: a recurrent network (Model1)."""

    @checked
    def __init__(self, vocab_size: int, hidden_size: Size = 64, head: HeadName = "linear") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.norm = layers.BatchNorm(hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        h = torch.zeros_like(self.embed(tokens[:, 0]))
        for word in tokens.unbind(1):
            h = h + self.embed(word)
            h = self.norm(F.relu(self.hidden(h)))
        return h.unsqueeze(1), None


class MultiOutput(NextTokenModel):
    """A prediction after every word instead of only after the last (Model2)."""

    @checked
    def __init__(self, vocab_size: int, hidden_size: Size = 64, head: HeadName = "linear") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.norm = layers.BatchNorm(hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: None = None) -> tuple[Tensor, None]:
        h = torch.zeros_like(self.embed(tokens[:, 0]))
        outputs = []
        for word in tokens.unbind(1):
            h = h + self.embed(word)
            h = F.relu(self.hidden(h))
            outputs.append(self.norm(h))
        return torch.stack(outputs, dim=1), None


class Stateful(NextTokenModel):
    """The same, but it starts from the state of the window before (Model3)."""

    @checked
    def __init__(self, vocab_size: int, hidden_size: Size = 64, head: HeadName = "linear") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.norm = layers.BatchNorm(hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = torch.zeros_like(self.embed(tokens[:, 0])) if state is None else state[0]
        outputs = []
        for word in tokens.unbind(1):
            h = h + self.embed(word)
            h = F.relu(self.hidden(h))
            outputs.append(self.norm(h))
        return torch.stack(outputs, dim=1), h.unsqueeze(0)


class RNN(NextTokenModel):
    """A layer instead of the loop (Model4, nn.RNN); batch norm is over all steps of a window at once."""

    @checked
    def __init__(
        self, vocab_size: int, embedding_size: Size = 64, hidden_size: Size = 64, head: HeadName = "linear"
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.RNN(embedding_size, hidden_size)
        self.norm = layers.BatchNorm(hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, state = self.rnn(self.embed(tokens), state)
        return self.norm(outputs), state


class GRU(NextTokenModel):
    """Two layers of gated recurrent units (Model5)."""

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        head: HeadName = "linear",
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = layers.GRU(embedding_size, hidden_size, num_layers)
        self.norm = layers.BatchNorm(hidden_size)
        self.head = make_head(head, hidden_size, vocab_size)

    def features(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, state = self.rnn(self.embed(tokens), state)
        return self.norm(outputs), state
