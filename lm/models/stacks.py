"""Beyond the lesson: stacks of recurrent layers with every kind of regularisation to choose from.

`AWDLSTM` and `AWDGRU` read step by step. `QRNN`, `MinGRU` and `MinLSTM` compute all steps of a window at once: their
gates depend on the input alone, and the rest of the recurrence is done by `lm.models.scan`. `forward` is described in
`lm.models`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.models import recurrent
from lm.models.heads import HeadName, make_head
from lm.models.layers import BatchNorm
from lm.models.mogrifier import MogrifierLayer
from lm.models.products import linear
from lm.models.regularisation import (
    Embedding,
    LockedDropout,
    WeightDrop,
    activation_penalty,
    change_penalty,
    dropped,
)
from lm.models.scan import scan
from unroll.checks import Count, NonNegative, Positive, Share, Size, checked
from unroll.state import tensors

Parts = tuple[Tensor, ...]


class Stack(nn.Module):
    """Tokens → vectors → recurrent layers → scores, with dropout in between (Merity et al. 2017, arXiv 1708.02182).

    A layer is a module `(inputs [batch, time, size], state) -> (outputs [batch, time, hidden], state)`; its state is
    None or a tuple of tensors `[1, batch, …]`. The states of the layers are stacked on axis 0; where layers differ in
    their sizes, the state is a tuple of the layers' states.

    Args:
        vocab_size: the number of tokens.
        embedding_size: the size of a token's vector.
        hidden_size: the number of units in each layer.
        num_layers: the number of layers.
        last_size: the number of units in the last layer; None: `hidden_size`.
        embed_dropout: the share of the vocabulary dropped for a window.
        input_dropout: locked dropout of the vectors.
        hidden_dropout: locked dropout between layers.
        output_dropout: locked dropout before the head.
        norm: batch norm before the head, as in the lesson's models.
        tie: the head shares the embedding's weights.
        head, cutoffs: as for `lm.models.heads.make_head`.
        init_range: the embedding's and the head's weights begin uniform within ± this, the head's biases as zeros.
            None: as PyTorch draws them, but ±0.1 where they are shared.
        ar, tar: the factors of activation and temporal activation regularisation, the penalty of `penalised`.
    """

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        *,
        last_size: Size | None = None,
        embed_dropout: Share = 0.0,
        input_dropout: Share = 0.0,
        hidden_dropout: Share = 0.0,
        output_dropout: Share = 0.0,
        norm: bool = False,
        tie: bool = False,
        head: HeadName = "linear",
        cutoffs: Sequence[int] | None = None,
        init_range: Positive | None = None,
        ar: NonNegative = 0.0,
        tar: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.output_size = last_size = last_size or hidden_size
        sizes = [embedding_size, *[hidden_size] * (num_layers - 1), last_size]
        self.embed = Embedding(vocab_size, embedding_size, embed_dropout)
        self.drop_input = LockedDropout(input_dropout)
        self.layers = nn.ModuleList(self.layer(*pair) for pair in pairwise(sizes))
        self.drop_hidden = LockedDropout(hidden_dropout)
        self.norm: nn.Module = BatchNorm(last_size) if norm else nn.Identity()
        self.drop_output = LockedDropout(output_dropout)
        shared = self.embed if tie else None
        self.head: nn.Module = make_head(head, last_size, vocab_size, cutoffs, shared)
        self.ar, self.tar = ar, tar
        if init_range is not None:
            for weight in [*self.embed.parameters(), *self.head.parameters()]:
                nn.init.uniform_(weight, -init_range, init_range) if weight.dim() > 1 else nn.init.zeros_(weight)
        elif tie:
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        raise NotImplementedError

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        logits, state, _ = self.penalised(tokens, state)
        return logits, state

    def penalised(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any, Tensor | None]:
        """As `forward`, and the penalty that training adds to the loss, or None."""
        x, outputs, state = self.read(tokens, state)
        penalty = None
        if self.training and (self.ar or self.tar):
            penalty = self.ar * activation_penalty(outputs) + self.tar * change_penalty(x)
        return self.head(outputs), state, penalty

    def read(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Tensor, Any]:
        """What the last layer returns and what the head is given, both `[rows, time, hidden]`, and the state."""
        return self.read_vectors(self.embed(tokens), state)

    def read_vectors(self, vectors: Tensor, state: Any = None) -> tuple[Tensor, Tensor, Any]:
        """As `read`, for the vectors of the tokens, `[rows, time, embedding]`."""
        x = self.drop_input(vectors)
        states = []
        for number, (layer, before) in enumerate(zip(self.layers, self.by_layer(state), strict=True)):
            if number > 0:
                x = self.drop_hidden(x)
            x, after = layer(x, before)
            states.append(after)
        return x, self.drop_output(self.norm(x)), together(states)

    @property
    def layer_groups(self) -> list[str]:
        """The layers below the head, from the top down."""
        return [*(f"layers.{number}" for number in reversed(range(len(self.layers)))), "embed"]

    def by_layer(self, state: Any) -> Iterator[Parts | None]:
        """Each layer's part of the state."""
        for number in range(len(self.layers)):
            if state is None:
                yield None
            elif isinstance(state[0], Tensor):
                yield tuple(part[number : number + 1].contiguous() for part in tensors(state))
            else:
                yield tuple(part.contiguous() for part in state[number])


def together(states: Sequence[Parts]) -> Any:
    """The layers' states as one: stacked, if all have parts of the same sizes."""
    if len({tuple(part.size(-1) for part in state) for state in states}) > 1:
        return tuple(states)
    stacked = tuple(torch.cat(layers) for layers in zip(*states, strict=True))
    return stacked if len(stacked) > 1 else stacked[0]


class AWDLSTM(Stack):
    """Long short-term memory with dropped hidden-to-hidden weights (AWD-LSTM, Merity et al. 2017, arXiv 1708.02182).

    Args:
        weight_drop: the share of hidden-to-hidden weights dropped for a window.
        settings: as for `Stack`.
    """

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        *,
        weight_drop: Share = 0.0,
        **settings: Any,
    ) -> None:
        self.weight_drop = weight_drop
        super().__init__(vocab_size, embedding_size, hidden_size, num_layers, **settings)

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        return WeightDrop(nn.LSTM(input_size, hidden_size, batch_first=True), self.weight_drop)


class AWDGRU(AWDLSTM):
    """The same with gated recurrent units."""

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        return OneState(WeightDrop(recurrent.GRU(input_size, hidden_size, batch_first=True), self.weight_drop))


class Mogrifier(AWDLSTM):
    """The same with an LSTM whose input and state scale each other before they meet (Melis et al. 2020, arXiv
    1909.01792).

    Args:
        rounds, rank: as for `lm.models.cells.MogrifierCell`.
        settings: as for `AWDLSTM`.
    """

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        *,
        rounds: Count = 5,
        rank: Size | None = None,
        **settings: Any,
    ) -> None:
        self.rounds = rounds
        self.rank = rank
        super().__init__(vocab_size, embedding_size, hidden_size, num_layers, **settings)

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        return WeightDrop(MogrifierLayer(input_size, hidden_size, self.rounds, self.rank), self.weight_drop)


class OneState(nn.Module):
    """Wraps a layer whose state is a tensor as one whose state is a tuple."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, inputs: Tensor, state: Parts | None) -> tuple[Tensor, Parts]:
        outputs, last = self.rnn(inputs, None if state is None else state[0])
        return outputs, (last,)


class QRNN(Stack):
    """Quasi-recurrent: convolutions over time, and a pooling with memory (Bradbury et al. 2016, arXiv 1611.01576).

    Args:
        window: the number of tokens in a convolution, 1 or 2.
        later_window: in the layers after the first; None: `window`.
        pooling: "f" (forget gate) or "fo" (and an output gate).
        weight_drop: the share of the convolutions' weights dropped for a window (Merity et al. 2018, arXiv 1803.08240).
        settings: as for `Stack`.
    """

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        *,
        window: Literal[1, 2] = 2,
        later_window: Literal[1, 2] | None = None,
        pooling: Literal["f", "fo"] = "fo",
        weight_drop: Share = 0.0,
        **settings: Any,
    ) -> None:
        self.windows = chain([window], repeat(later_window or window))  # of the layers to be made
        self.pooling = pooling
        self.weight_drop = weight_drop
        super().__init__(vocab_size, embedding_size, hidden_size, num_layers, **settings)

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        return QRNNLayer(input_size, hidden_size, next(self.windows), self.pooling, self.weight_drop)


class QRNNLayer(nn.Module):
    """z, f, o from the inputs x_t (and x_{t−1}, if the window is 2); then, step by step,

    c_t = f_t c_{t−1} + (1 − f_t) z_t      f-pooling, whose output is c_t
    h_t = o_t c_t                          fo-pooling, whose output is h_t

    The state is c and, for a window of 2, what the last input contributes to the gates of the next step.
    """

    def __init__(self, input_size: int, hidden_size: int, window: int, pooling: str, weight_drop: float = 0.0) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_drop = weight_drop
        gates = (len(pooling) + 1) * hidden_size
        self.now = nn.Linear(input_size, gates)
        self.earlier = nn.Linear(input_size, gates, bias=False) if window == 2 else None

    def forward(self, x: Tensor, state: Parts | None) -> tuple[Tensor, Parts]:
        gates = linear(x, self.dropped(self.now.weight), self.now.bias)
        c0 = x.new_zeros(x.size(0), self.hidden_size) if state is None else state[0][0]
        rest: Parts = ()
        if self.earlier is not None:
            given = linear(x, self.dropped(self.earlier.weight))
            first = torch.zeros_like(given[:, :1]) if state is None else state[1][0].unsqueeze(1).to(given.dtype)
            gates = gates + torch.cat([first, given[:, :-1]], dim=1)
            rest = (given[:, -1].unsqueeze(0),)
        z, f, *o = gates.float().chunk(gates.size(-1) // self.hidden_size, dim=-1)
        f = torch.sigmoid(f)
        c = scan(f, (1 - f) * torch.tanh(z), c0.float())
        return torch.sigmoid(o[0]) * c if o else c, (c[:, -1].unsqueeze(0), *rest)

    def dropped(self, weight: Tensor) -> Tensor:
        return dropped(weight, self.weight_drop) if self.training and self.weight_drop else weight


class MinGRU(Stack):
    """A minimal gated recurrent unit: its gate does not depend on the state (Feng et al. 2024, arXiv 2410.01201)."""

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        return MinGRULayer(input_size, hidden_size)


class MinGRULayer(nn.Module):
    """h_t = (1 − z_t) h_{t−1} + z_t g(W_h x_t), with z_t = σ(W_z x_t); g keeps h above 0."""

    parts = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_size, self.parts * hidden_size)

    def forward(self, x: Tensor, state: Parts | None) -> tuple[Tensor, Parts]:
        *scores, candidate = linear(x, self.gates.weight, self.gates.bias).float().chunk(self.parts, dim=-1)
        z = torch.sigmoid(self.update(*scores))
        h0 = torch.zeros_like(z[:, 0]) if state is None else state[0][0].float()
        h = scan(1 - z, z * positive(candidate), h0)
        return h, (h[:, -1].unsqueeze(0),)

    def update(self, *scores: Tensor) -> Tensor:
        """What z is the sigmoid of."""
        return scores[0]


class MinLSTM(Stack):
    """A minimal LSTM, with a forget and an input gate that add up to 1 (Feng et al. 2024, arXiv 2410.01201)."""

    def layer(self, input_size: int, hidden_size: int) -> nn.Module:
        return MinLSTMLayer(input_size, hidden_size)


class MinLSTMLayer(MinGRULayer):
    """The same with z = i / (f + i), where f_t = σ(W_f x_t) and i_t = σ(W_i x_t)."""

    parts = 3

    def update(self, *scores: Tensor) -> Tensor:
        f, i = scores
        return F.logsigmoid(i) - F.logsigmoid(f)


def positive(x: Tensor) -> Tensor:
    """The authors' g: x + ½ for x ≥ 0, σ(x) below."""
    return F.relu(x) + torch.sigmoid(x.clamp(max=0))
