"""The last layer of a language model: from features to a score for each token of the vocabulary.

A head also computes the loss of given targets, without holding the scores of all positions for all tokens.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unroll import kernels
from unroll.errors import UserError
from unroll.kernels.cross_entropy import LinearCrossEntropy
from unroll.kernels.products import linear
from unroll.nn.layer import at_least_float32

HeadName = Literal["linear", "adaptive"]
AT_ONCE = 2**22  # scores in memory at one time: 16 MiB in float32


class Measured(NamedTuple):
    """How well targets are predicted.

    Attributes:
        loss: the mean cross-entropy in nats, a number.
        minimised: the same with label smoothing, which training minimises.
        right: how many targets have the highest score; None if that was not asked for.
    """

    loss: Tensor
    minimised: Tensor
    right: Tensor | None


class Head(nn.Module):
    """Features `[…, hidden]` → scores `[…, vocab]`, whose softmax is the distribution of the token."""

    def forward(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def measured(
        self, features: Tensor, targets: Tensor, label_smoothing: float = 0.0, count_right: bool = False
    ) -> Measured:
        """How well features `[targets, hidden]` predict the targets, int64 `[targets]`."""
        raise NotImplementedError


def measured(scores: Tensor, targets: Tensor, label_smoothing: float, count_right: bool) -> Measured:
    loss = minimised = F.cross_entropy(scores, targets)
    if label_smoothing and torch.is_grad_enabled():
        minimised = F.cross_entropy(scores, targets, label_smoothing=label_smoothing)
    return Measured(loss, minimised, (scores.argmax(-1) == targets).sum() if count_right else None)


class ExactHead(Head):
    """Scores by one matrix product. The loss is computed chunk by chunk where there are many scores."""

    weight: Tensor  # float [vocab, size]
    bias: Any  # float [vocab]

    def projected(self, features: Tensor) -> Tensor:
        """What the matrix is multiplied with, `[…, size]`."""
        return features

    def forward(self, features: Tensor) -> Tensor:
        return linear(self.projected(features), self.weight, self.bias)

    def measured(
        self, features: Tensor, targets: Tensor, label_smoothing: float = 0.0, count_right: bool = False
    ) -> Measured:
        rows = max(1, AT_ONCE // len(self.weight)) if kernels.in_use() else len(targets)
        if len(targets) <= rows:
            return measured(self(features), targets, label_smoothing, count_right)
        if torch.is_grad_enabled():
            inputs = self.projected(features)
            loss, minimised = LinearCrossEntropy.apply(inputs, self.weight, self.bias, targets, label_smoothing, rows)
            return Measured(loss, minimised, self.right(features, targets) if count_right else None)
        chunks = zip(features.split(rows), targets.split(rows), strict=True)
        parts = [(len(wanted), measured(self(x), wanted, 0.0, count_right)) for x, wanted in chunks]
        loss = torch.stack([count * part.loss for count, part in parts]).sum() / len(targets)
        right = torch.stack([part.right for _, part in parts]).sum() if count_right else None  # type: ignore[misc]
        return Measured(loss, loss, right)

    @torch.no_grad()
    def right(self, features: Tensor, targets: Tensor) -> Tensor:
        """How many targets have the highest score."""
        found = self.measured(features, targets, count_right=True).right
        assert found is not None
        return found


class LinearHead(ExactHead, nn.Linear):
    """`nn.Linear`, as a head."""


class TiedHead(ExactHead):
    """A head that shares the embedding's weights: a score is the product with the token's vector (Press & Wolf 2017,
    arXiv 1608.05859).

    If hidden units and vectors differ in size, a projection without bias comes first.

    Args:
        embed: the embedding.
        hidden_size: of the features.
    """

    def __init__(self, embed: nn.Embedding, hidden_size: int) -> None:
        super().__init__()
        self.projection = projection(hidden_size, embed.embedding_dim)
        self.weight = embed.weight
        self.bias = nn.Parameter(torch.zeros(embed.num_embeddings))

    def projected(self, features: Tensor) -> Tensor:
        return self.projection(features)


def projection(hidden_size: int, size: int) -> nn.Module:
    return nn.Identity() if hidden_size == size else nn.Linear(hidden_size, size, bias=False)


class ClusterLayer(NamedTuple):
    """A linear layer after a projection; a function of inputs `[…, hidden]`."""

    projection: nn.Module
    weight: Tensor
    bias: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        return linear(self.projection(inputs), self.weight, self.bias)


class AdaptiveHead(Head):
    """Rare tokens are scored only where they are needed (adaptive softmax, Grave et al. 2017, arXiv 1609.04309).

    The vocabulary, frequent tokens first, is cut into clusters. The first is scored at every position, together with
    one score for each further cluster; the tokens of a further cluster are scored where the target is one of them, and
    their vectors are shorter. Scores are exact logarithms of probabilities.

    Args:
        hidden_size: of the features.
        vocab_size: the number of tokens.
        cutoffs: where each further cluster begins, ascending.
        embed: an embedding whose vectors the head shares, at their full size.
        divide: the vectors of a cluster are shorter than those of the cluster before by this factor.

    Raises:
        UserError: the cutoffs don't fit the vocabulary.
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        cutoffs: Sequence[int],
        embed: nn.Embedding | None = None,
        divide: int = 4,
    ) -> None:
        super().__init__()
        edges = [0, *cutoffs, vocab_size]
        if len(edges) < 3 or any(stop <= start for start, stop in pairwise(edges)):
            raise UserError(
                f"cutoffs={[*cutoffs]}: must be ascending numbers between 0 and {vocab_size}, the vocabulary"
            )
        self.clusters = [*pairwise(edges)]
        sizes = [max(1, hidden_size // divide**number) for number in range(len(self.clusters))]
        if embed is not None:
            sizes = [embed.embedding_dim] * len(sizes)
        self.projections = nn.ModuleList(projection(hidden_size, size) for size in sizes)
        self.gate = nn.Linear(hidden_size, len(cutoffs))
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.weight = None if embed is None else embed.weight
        self.weights = nn.ParameterList()  # of the clusters, if they have vectors of their own
        for size, (start, stop) in zip(sizes, self.clusters, strict=True) if embed is None else ():
            self.weights.append(torch.empty(stop - start, size).uniform_(-(size**-0.5), size**-0.5))

    def layers(self) -> list[ClusterLayer]:
        """The linear layer of each cluster."""
        counts = [stop - start for start, stop in self.clusters]
        weights = self.weights if self.weight is None else self.weight.split(counts)
        return [*map(ClusterLayer, self.projections, weights, self.bias.split(counts))]

    def first(self, layer: ClusterLayer, features: Tensor) -> Tensor:
        """The scores of the first cluster's tokens and of the further clusters."""
        of_tokens = layer(features)
        return torch.cat([of_tokens, self.gate(features)], -1)

    def forward(self, features: Tensor) -> Tensor:
        layer, *others = self.layers()
        first = self.first(layer, features).log_softmax(-1)
        of_tokens, of_clusters = first.split([first.size(-1) - len(others), len(others)], -1)
        parts = [of_tokens]
        for other, of_cluster in zip(others, of_clusters.unbind(-1), strict=True):
            parts.append(of_cluster.unsqueeze(-1) + other(features).log_softmax(-1))
        return torch.cat(parts, -1)

    def measured(
        self, features: Tensor, targets: Tensor, label_smoothing: float = 0.0, count_right: bool = False
    ) -> Measured:
        layer, *others = self.layers()
        first = self.first(layer, features)
        cluster = torch.stack([targets >= start for start, _ in self.clusters[1:]]).sum(0)
        wanted = torch.where(cluster == 0, targets, self.clusters[0][1] + cluster - 1)
        losses = F.cross_entropy(first, wanted, reduction="none")
        numbers = torch.arange(len(self.clusters), device=cluster.device)
        counts = (cluster == numbers.unsqueeze(1)).sum(1).tolist()  # waits for the device, once
        _, *of_others = cluster.argsort(stable=True).split(counts)
        for (start, _), other, rows in zip(self.clusters[1:], others, of_others, strict=True):
            within = targets[rows] - start  # may be none: in DDP every weight needs its gradient
            losses = losses.index_add(0, rows, F.cross_entropy(other(features[rows]), within, reduction="none"))
        loss = minimised = losses.mean()
        if label_smoothing and torch.is_grad_enabled():
            minimised = (1 - label_smoothing) * loss + label_smoothing * self.spread(features)
        right = self.right(first, others, features, targets) if count_right else None
        return Measured(loss, minimised, right)

    def spread(self, features: Tensor) -> Tensor:
        """The mean cross-entropy of targets that are spread over the vocabulary. It takes the scores of all tokens."""

        def total(part: Tensor) -> Tensor:
            return -self(part).mean(-1).sum()

        rows = max(1, AT_ONCE // len(self.bias))
        parts = [checkpoint(total, part, use_reentrant=False) for part in features.split(rows)]
        return torch.stack(parts).sum() / len(features)

    @torch.no_grad()
    def right(self, first: Tensor, others: list[ClusterLayer], features: Tensor, targets: Tensor) -> Tensor:
        """How many targets are the likeliest token. No token is likelier than its cluster, so a cluster's tokens are
        scored only where it is likelier than the likeliest token so far."""
        first = at_least_float32(first).log_softmax(-1)
        highest, likeliest = first[:, : self.clusters[0][1]].max(-1)
        for number, other in enumerate(others, start=1):
            start, stop = self.clusters[number]
            of_cluster = first[:, self.clusters[0][1] + number - 1]
            for rows in (of_cluster > highest).nonzero().squeeze(1).split(max(1, AT_ONCE // (stop - start))):
                scores = at_least_float32(other(features[rows]))
                best, token = scores.max(-1)
                best += of_cluster[rows] - scores.logsumexp(-1)
                better = best > highest[rows]
                highest[rows] = torch.where(better, best, highest[rows])
                likeliest[rows] = torch.where(better, token + start, likeliest[rows])
        return (likeliest == targets).sum()


def make_head(
    name: HeadName, hidden_size: int, vocab_size: int, cutoffs: Sequence[int] | None = None, embed: Any = None
) -> Head:
    """The head of a language model.

    Args:
        name: "linear" or "adaptive".
        hidden_size: of the features.
        vocab_size: the number of tokens.
        cutoffs: of an `AdaptiveHead`; by default a tenth and a third of the vocabulary.
        embed: the embedding whose weights the head shares, if it does.
    """
    if name == "adaptive":
        chosen = cutoffs or sorted({max(1, vocab_size // 10), max(2, vocab_size // 3)})
        return AdaptiveHead(hidden_size, vocab_size, chosen, embed)
    return LinearHead(hidden_size, vocab_size) if embed is None else TiedHead(embed, hidden_size)
