"""A label for every word: vectors of words and their characters, recurrent layers in one direction or both, a head."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lm.tagging.crf import CRF
from unroll import nn as layers
from unroll.checks import Count, Share, Size, checked
from unroll.nn.layer import by_layer, together
from unroll.state import State

PADDING, UNKNOWN = 0, 1  # the ids of no word and of a word that is not known; the same for characters and columns

BodyName = Literal["lstm", "gru", "rnn", "qrnn", "min_gru", "min_lstm", "mogrifier"]

LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "lstm": layers.LSTM,
    "gru": layers.GRU,
    "rnn": layers.RNN,
    "qrnn": layers.QRNN,
    "min_gru": layers.MinGRU,
    "min_lstm": layers.MinLSTM,
    "mogrifier": layers.Mogrifier,
}
assert set(LAYERS) == set(get_args(BodyName))


class Tagger(nn.Module):
    """Scores each label for each word.

    Args:
        vocab_size: the number of word ids; 0 is padding, 1 the unknown word.
        labels: how many there are.
        characters: the number of character ids.
        extras: the number of ids of each further column.
        embedding_size: the size of a word's vector.
        extra_size: of the vector of a further column's value.
        character_size: of a character's vector; 0 leaves characters out.
        filters: what a convolution over three characters makes of a word, the maximum over its places.
        body: the kind of recurrent layer.
        bidirectional: read in both directions, which takes whole sentences; no state is carried then.
        hidden_size: units per layer and direction.
        num_layers: layers.
        crf: score labels together with their neighbours (`lm.tagging.crf`), which takes whole sentences too.
        word_dropout: the share of words that training replaces by the unknown word.
        input_dropout, hidden_dropout, output_dropout: locked dropout of the vectors, between layers, before the head.
        small_vectors: all vectors begin with a length of about 1 (Ma & Hovy 2016), rather than with PyTorch's values of
            variance 1. Those of rare words hardly move from where they begin, so that large ones are noise.
    """

    not_captured = "it looks for each different word of a window once, which waits for the device"

    @checked
    def __init__(
        self,
        vocab_size: int,
        labels: int,
        characters: int,
        extras: Sequence[int] = (),
        *,
        embedding_size: Size = 100,
        extra_size: Size = 20,
        character_size: Count = 30,
        filters: Size = 50,
        body: BodyName = "lstm",
        bidirectional: bool = True,
        hidden_size: Size = 200,
        num_layers: Size = 1,
        crf: bool = False,
        word_dropout: Share = 0.0,
        input_dropout: Share = 0.0,
        hidden_dropout: Share = 0.0,
        output_dropout: Share = 0.0,
        small_vectors: bool = False,
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.word_dropout = word_dropout
        self.embed = nn.Embedding(vocab_size, embedding_size, padding_idx=PADDING)
        self.extras = nn.ModuleList(nn.Embedding(size, extra_size, padding_idx=PADDING) for size in extras)
        self.characters = Characters(characters, character_size, filters) if character_size else None
        size = embedding_size + extra_size * len(extras) + (filters if character_size else 0)
        self.drop_input = layers.LockedDropout(input_dropout)
        directions = 2 if bidirectional else 1
        sizes = [size] + [directions * hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(
            BothWays(body, size, hidden_size) if bidirectional else LAYERS[body](size, hidden_size) for size in sizes
        )
        self.drop_hidden = layers.LockedDropout(hidden_dropout)
        self.drop_output = layers.LockedDropout(output_dropout)
        self.head = nn.Linear(directions * hidden_size, labels)
        self.crf = CRF(labels) if crf else None
        if small_vectors:
            for part in self.modules():
                if isinstance(part, nn.Embedding):
                    begin_small(part)

    @property
    def whole(self) -> bool:
        """Whether it needs whole sentences, rather than windows of a stream."""
        return self.bidirectional or self.crf is not None

    def features(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """
        Args:
            inputs: int64 `[rows, time, 1 + extras + characters]`: the ids of a word, of its further columns and of its
                characters.
            state: as returned for the window before; None for zeros.

        Returns:
            What the head is given, float `[rows, time, hidden]`; the state after the window, None if both directions
            are read.
        """
        words = inputs[..., 0]
        mask = words != PADDING
        if self.training and self.word_dropout:
            dropped = torch.rand(words.shape, device=words.device) < self.word_dropout
            words = words.masked_fill(dropped & mask, UNKNOWN)
        count = 1 + len(self.extras)
        parts = [self.embed(words)]
        parts += [embed(inputs[..., column]) for column, embed in enumerate(self.extras, start=1)]
        if self.characters is not None:
            parts.append(self.characters(inputs[..., count:]))
        x = self.drop_input(torch.cat(parts, -1))
        states = []
        for number, (layer, before) in enumerate(zip(self.layers, by_layer(state, len(self.layers)), strict=True)):
            if number > 0:
                x = self.drop_hidden(x)
            if self.bidirectional:
                x = layer(x, mask.sum(1))
            else:
                x, after = layer(x, before)
                states.append(after)
        return self.drop_output(x), together(states) if states else None

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """The scores, float `[rows, time, labels]`, and the state after the window."""
        features, state = self.features(inputs, state)
        return self.head(features), state

    def labels(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The most likely labels, int64 `[rows, time]`.

        Args:
            scores: float `[rows, time, labels]`.
            mask: bool `[rows, time]`: the words that count, first in their row.
        """
        return scores.argmax(-1) if self.crf is None else self.crf.decode(scores, mask)


@torch.no_grad()
def begin_small(embed: nn.Embedding) -> None:
    """Draws the vectors of an embedding anew, with values from -√(3 / size) to √(3 / size), of variance 1 / size."""
    bound = math.sqrt(3 / embed.embedding_dim)
    embed.weight.uniform_(-bound, bound)[PADDING] = 0


class Characters(nn.Module):
    """A word's vector from its characters: a convolution over three of them, and the maximum over the word (Ma & Hovy
    2016, arXiv 1603.01354).
    """

    def __init__(self, characters: int, size: int, filters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, size, padding_idx=PADDING)
        self.convolution = nn.Conv1d(size, filters, kernel_size=3, padding=1)

    def forward(self, characters: Tensor) -> Tensor:
        """Float `[rows, time, filters]` from int64 `[rows, time, characters]`."""
        words, which = characters.flatten(0, 1).unique(dim=0, return_inverse=True)  # most words come more than once
        vectors = self.convolution(self.embed(words).transpose(1, 2))
        vectors = vectors.masked_fill((words == PADDING).unsqueeze(1), -torch.inf)
        vectors = torch.cat([vectors, torch.zeros_like(vectors[:, :, :1])], 2).amax(2)
        return vectors[which].unflatten(0, characters.shape[:2])


class BothWays(nn.Module):
    """A layer that reads each row forwards, and another that reads it backwards; their outputs side by side."""

    def __init__(self, body: str, size: int, hidden_size: int) -> None:
        super().__init__()
        self.forwards, self.backwards = (LAYERS[body](size, hidden_size) for _ in range(2))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs `[rows, time, 2 hidden]` for inputs `[rows, time, size]`, of which so many count in each row."""
        steps = torch.arange(x.size(1), device=x.device)
        backwards = torch.where(steps < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - steps, steps).unsqueeze(2)

        def turned(part: Tensor) -> Tensor:
            return part.gather(1, backwards.expand(-1, -1, part.size(2)))

        return torch.cat([self.forwards(x, None)[0], turned(self.backwards(turned(x), None)[0])], 2)
