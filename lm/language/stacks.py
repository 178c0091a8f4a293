"""Beyond the lesson: stacks of recurrent layers with every kind of regularisation to choose from.

`AWDLSTM`, `AWDGRU` and `Mogrifier` read step by step. `QRNN`, `MinGRU` and `MinLSTM` compute all steps of a window at
once: their gates depend on the input alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypedDict

from torch import Tensor, nn
from typing_extensions import Unpack

from lm.language.heads import HeadName, make_head
from lm.language.model import NextTokenModel
from unroll import nn as layers
from unroll.checks import Count, NonNegative, Positive, Share, Size, checked
from unroll.nn.layer import by_layer, together
from unroll.nn.regularisation import activation_penalty, change_penalty

MakeLayer = Callable[[int, int, int], nn.Module]  # from the number of the layer, its input size and its hidden size


class CommonSettings(TypedDict, total=False):
    """The arguments of every stack beside its sizes (see `Stack`)."""

    embed_dropout: float
    input_dropout: float
    hidden_dropout: float
    output_dropout: float
    tie: bool
    head: HeadName
    cutoffs: Sequence[int] | None
    init_range: float | None
    ar: float
    tar: float


class StackSettings(CommonSettings, total=False):
    """Those, and the arguments of stacks that end as they like."""

    last_size: int | None
    norm: bool


class Stack(NextTokenModel):
    """Tokens → vectors → recurrent layers → scores, with dropout in between (Merity et al. 2017, arXiv 1708.02182).

    The states of the layers are stacked on axis 0; where layers differ in their sizes, the state is a tuple of the
    layers' states (see `unroll.nn.layer.together`).

    Args:
        make_layer: makes a recurrent layer, as `unroll.nn` has them.
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
        head, cutoffs: as for `lm.language.heads.make_head`.
        init_range: the embedding's and the head's weights begin uniform within ± this, the head's biases as zeros.
            None: as PyTorch draws them, but ±0.1 where they are shared.
        ar, tar: the factors of activation and temporal activation regularisation, the penalty of `penalised`.
    """

    @checked
    def __init__(
        self,
        make_layer: MakeLayer,
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
        self.embed = layers.EmbeddingDropout(vocab_size, embedding_size, embed_dropout)
        self.drop_input = layers.LockedDropout(input_dropout)
        self.layers = nn.ModuleList(make_layer(number, *pair) for number, pair in enumerate(pairwise(sizes)))
        self.drop_hidden = layers.LockedDropout(hidden_dropout)
        self.norm: nn.Module = layers.BatchNorm(last_size) if norm else nn.Identity()
        self.drop_output = layers.LockedDropout(output_dropout)
        shared = self.embed if tie else None
        self.head: nn.Module = make_head(head, last_size, vocab_size, cutoffs, shared)
        self.ar, self.tar = ar, tar
        if init_range is not None:
            for weight in [*self.embed.parameters(), *self.head.parameters()]:
                nn.init.uniform_(weight, -init_range, init_range) if weight.dim() > 1 else nn.init.zeros_(weight)
        elif tie:
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def features(self, tokens: Tensor, state: Any = None, resets: Tensor | None = None) -> tuple[Tensor, Any]:
        _, features, state = self.read(self.embed(tokens), state, resets)
        return features, state

    def penalised(
        self, tokens: Tensor, state: Any = None, resets: Tensor | None = None
    ) -> tuple[Tensor, Any, Tensor | None]:
        """As `features`, and the penalty that training adds to the loss, or None."""
        outputs, features, state = self.read(self.embed(tokens), state, resets)
        penalty = None
        if self.training and (self.ar or self.tar):
            penalty = self.ar * activation_penalty(features) + self.tar * change_penalty(outputs)
        return features, state, penalty

    def read(self, vectors: Tensor, state: Any, resets: Tensor | None = None) -> tuple[Tensor, Tensor, Any]:
        """
        Args:
            vectors: of the tokens, `[rows, time, embedding]`.
            state, resets: as for `unroll.nn`'s layers.

        Returns:
            What the last layer returns and what the head is given, both `[rows, time, hidden]`, and the state.
        """
        x = self.drop_input(vectors)
        states = []
        for number, (layer, before) in enumerate(zip(self.layers, by_layer(state, len(self.layers)), strict=True)):
            if number > 0:
                x = self.drop_hidden(x)
            x, after = layer(x, before) if resets is None else layer(x, before, resets)
            states.append(after)
        return x, self.drop_output(self.norm(x)), together(states)

    @property
    def layer_groups(self) -> list[str]:
        """The layers below the head, from the top down."""
        return [*(f"layers.{number}" for number in reversed(range(len(self.layers)))), "embed"]


class WeightDropped(Stack):
    """Recurrent layers with dropped hidden-to-hidden weights (Merity et al. 2017, arXiv 1708.02182).

    Args:
        vocab_size, embedding_size, hidden_size, num_layers: as for `Stack`.
        weight_drop: the share of hidden-to-hidden weights dropped for a window.
        stack: as for `Stack`.
    """

    recurrent: ClassVar[type[nn.Module]]  # made from an input size and a hidden size

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        *,
        weight_drop: Share = 0.0,
        **stack: Unpack[StackSettings],
    ) -> None:
        def make_layer(number: int, size: int, hidden: int) -> nn.Module:
            return layers.WeightDrop(self.recurrent(size, hidden), weight_drop)

        super().__init__(make_layer, vocab_size, embedding_size, hidden_size, num_layers, **stack)


class AWDLSTM(WeightDropped):
    """Long short-term memory (AWD-LSTM); the arguments are those of `WeightDropped`."""

    recurrent = layers.LSTM


class AWDGRU(WeightDropped):
    """The same with gated recurrent units."""

    recurrent = layers.GRU


class Mogrifier(Stack):
    """The same with an LSTM whose input and state scale each other before they meet (Melis et al. 2020, arXiv
    1909.01792).

    Args:
        vocab_size, embedding_size, hidden_size, num_layers: as for `Stack`.
        rounds, rank: as for `unroll.nn.MogrifierCell`.
        weight_drop: as for `WeightDropped`.
        stack: as for `Stack`.
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
        weight_drop: Share = 0.0,
        **stack: Unpack[StackSettings],
    ) -> None:
        def make_layer(number: int, size: int, hidden: int) -> nn.Module:
            return layers.WeightDrop(layers.Mogrifier(size, hidden, rounds, rank), weight_drop)

        super().__init__(make_layer, vocab_size, embedding_size, hidden_size, num_layers, **stack)


class QRNN(Stack):
    """Quasi-recurrent: convolutions over time, and a pooling with memory (Bradbury et al. 2016, arXiv 1611.01576).

    Args:
        vocab_size, embedding_size, hidden_size, num_layers: as for `Stack`.
        window: the number of tokens in a convolution, 1 or 2.
        later_window: in the layers after the first; None: `window`.
        pooling, weight_drop: as for `unroll.nn.QRNN`.
        stack: as for `Stack`.
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
        **stack: Unpack[StackSettings],
    ) -> None:
        def make_layer(number: int, size: int, hidden: int) -> nn.Module:
            of_layer = (later_window or window) if number else window
            return layers.QRNN(size, hidden, of_layer, pooling, weight_drop)

        super().__init__(make_layer, vocab_size, embedding_size, hidden_size, num_layers, **stack)


class Minimal(Stack):
    """Minimal recurrent layers: their gates do not depend on the state (Feng et al. 2024, arXiv 2410.01201).

    Args:
        vocab_size, embedding_size, hidden_size, num_layers: as for `Stack`.
        stack: as for `Stack`.
    """

    recurrent: ClassVar[type[nn.Module]]  # made from an input size and a hidden size

    @checked
    def __init__(
        self,
        vocab_size: int,
        embedding_size: Size = 64,
        hidden_size: Size = 64,
        num_layers: Size = 2,
        **stack: Unpack[StackSettings],
    ) -> None:
        def make_layer(number: int, size: int, hidden: int) -> nn.Module:
            return self.recurrent(size, hidden)

        super().__init__(make_layer, vocab_size, embedding_size, hidden_size, num_layers, **stack)


class MinGRU(Minimal):
    """Minimal gated recurrent units; the arguments are those of `Minimal`."""

    recurrent = layers.MinGRU


class MinLSTM(Minimal):
    """Minimal LSTMs, with a forget and an input gate that add up to 1."""

    recurrent = layers.MinLSTM
