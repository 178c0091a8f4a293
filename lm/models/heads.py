"""The last layer of a language model: from activations to a score for each token of the vocabulary.

A head also computes the loss of given targets, without holding the scores of all positions for all tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from lm.models.products import linear, matmul
from unroll.errors import UserError

HeadName = Literal["linear", "adaptive"]
AT_ONCE = 2**22  # scores in memory at one time: 16 MiB in float32


class Measured(NamedTuple):
    """How well targets are predicted.

    Attributes:
        loss: the mean cross-entropy in nats, a number.
        minimised: the same with label smoothing, which training minimises.
        right: how many targets have the highest score; None while gradients are recorded.
    """

    loss: Tensor
    minimised: Tensor
    right: Tensor | None


class Head(nn.Module):
    """Activations `[…, hidden]` → scores `[…, vocab]`, whose softmax is the distribution of the token.

    Within `unscored`, the activations are returned as they are; `measured` takes them.
    """

    scoring = True

    def forward(self, activations: Tensor) -> Tensor:
        return self.scores(activations) if self.scoring else activations

    def scores(self, activations: Tensor) -> Tensor:
        raise NotImplementedError

    def measured(self, activations: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Measured:
        """How well activations `[targets, hidden]` predict the targets, int64 `[targets]`."""
        raise NotImplementedError


@contextmanager
def unscored(head: Head) -> Iterator[None]:
    """Within, the model of this head returns activations in place of scores."""
    head.scoring = False
    try:
        yield
    finally:
        head.scoring = True


def measured(scores: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Measured:
    loss = minimised = F.cross_entropy(scores, targets)
    if label_smoothing:
        minimised = F.cross_entropy(scores, targets, label_smoothing=label_smoothing)
    right = None if torch.is_grad_enabled() else (scores.argmax(-1) == targets).sum()
    return Measured(loss, minimised, right)


class ExactHead(Head):
    """Scores by one matrix product. The loss is computed chunk by chunk where there are many scores."""

    weight: Tensor  # float [vocab, size]
    bias: Any  # float [vocab]

    def projected(self, activations: Tensor) -> Tensor:
        """What the matrix is multiplied with, `[…, size]`."""
        return activations

    def scores(self, activations: Tensor) -> Tensor:
        return linear(self.projected(activations), self.weight, self.bias)

    def measured(self, activations: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Measured:
        rows = max(1, AT_ONCE // len(self.weight))
        if len(targets) <= rows:
            return measured(self.scores(activations), targets, label_smoothing)
        if torch.is_grad_enabled():
            inputs = self.projected(activations)
            loss, minimised = CrossEntropy.apply(inputs, self.weight, self.bias, targets, label_smoothing, rows)
            return Measured(loss, minimised, None)
        chunks = zip(activations.split(rows), targets.split(rows), strict=True)
        parts = [(len(wanted), measured(self.scores(x), wanted, label_smoothing)) for x, wanted in chunks]
        loss = sum(count * part.loss for count, part in parts) / len(targets)
        minimised = sum(count * part.minimised for count, part in parts) / len(targets)
        return Measured(loss, minimised, sum(part.right for _, part in parts))  # type: ignore[misc, arg-type]


class CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of linear scores, plain and smoothed; only the second has a gradient.

    The gradients are computed chunk by chunk in the forward pass, while the chunk's scores are there. In torch 2.13
    `F.linear_cross_entropy` does the same.

    Args:
        x: float `[targets, size]`.
        weight: float `[vocab, size]`.
        bias: float `[vocab]`.
        targets: int64 `[targets]`.
        label_smoothing: the share of each target that is spread over the vocabulary.
        rows: in a chunk.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, label_smoothing: float, rows: int
    ) -> tuple[Tensor, Tensor]:
        device = x.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        given, x, matrix = x, x.to(narrow), weight.to(narrow)
        d_x, d_weight, d_bias = torch.empty_like(given), torch.zeros_like(weight), torch.zeros_like(bias)
        loss, spread = bias.new_zeros(()), bias.new_zeros(())
        with torch.autocast(device, enabled=False):
            for part, wanted, gradient in zip(x.split(rows), targets.split(rows), d_x.split(rows), strict=True):
                scores = matmul(part, matrix.t()).to(bias.dtype).add_(bias)
                logarithms = scores.log_softmax(1)
                each = wanted.unsqueeze(1)
                loss -= logarithms.gather(1, each).sum()
                if label_smoothing:
                    spread -= logarithms.mean(1).sum()
                d_scores = logarithms.exp_()
                if label_smoothing:
                    d_scores -= label_smoothing / len(bias)
                d_scores.scatter_add_(1, each, d_scores.new_full((1, 1), label_smoothing - 1).expand_as(each))
                d_bias += d_scores.sum(0)
                d_scores = d_scores.to(narrow)
                gradient.copy_(matmul(d_scores, matrix))
                d_weight += matmul(part.t(), d_scores).t()
        ctx.save_for_backward(d_x, d_weight, d_bias)
        ctx.count = len(targets)
        minimised = (1 - label_smoothing) * loss + label_smoothing * spread
        ctx.mark_non_differentiable(loss)
        return loss.div_(len(targets)), minimised / len(targets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
        factor = grad / ctx.count
        return (*(gradient * factor for gradient in ctx.saved_tensors), None, None, None)


class LinearHead(ExactHead, nn.Linear):
    """`nn.Linear`, as a head."""


class TiedHead(ExactHead):
    """A head that shares the embedding's weights: a score is the product with the token's vector (Press & Wolf 2017,
    arXiv 1608.05859).

    If hidden units and vectors differ in size, a projection without bias comes first.

    Args:
        embed: the embedding.
        hidden_size: of the activations.
    """

    def __init__(self, embed: nn.Embedding, hidden_size: int) -> None:
        super().__init__()
        self.projection = projection(hidden_size, embed.embedding_dim)
        self.weight = embed.weight
        self.bias = nn.Parameter(torch.zeros(embed.num_embeddings))

    def projected(self, activations: Tensor) -> Tensor:
        return self.projection(activations)


def projection(hidden_size: int, size: int) -> nn.Module:
    return nn.Identity() if hidden_size == size else nn.Linear(hidden_size, size, bias=False)


class ClusterLayer(NamedTuple):
    """A linear layer after a projection; a function of inputs `[…, hidden]`."""

    projection: nn.Module
    weight: Tensor
    bias: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        # not `lm.models.products.linear`: oneDNN keeps compiled code for each number of rows, here another at each step
        return F.linear(self.projection(inputs), self.weight, self.bias)


class AdaptiveHead(Head):
    """Rare tokens are scored only where they are needed (adaptive softmax, Grave et al. 2017, arXiv 1609.04309).

    The vocabulary, frequent tokens first, is cut into clusters. The first is scored at every position, together with
    one score for each further cluster; the tokens of a further cluster are scored where the target is one of them, and
    their vectors are shorter. Scores are exact logarithms of probabilities.

    Args:
        hidden_size: of the activations.
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

    def first(self, layer: ClusterLayer, activations: Tensor) -> Tensor:
        """The scores of the first cluster's tokens and of the further clusters."""
        of_tokens = linear(layer.projection(activations), layer.weight, layer.bias)
        return torch.cat([of_tokens, self.gate(activations)], -1)

    def scores(self, activations: Tensor) -> Tensor:
        layer, *others = self.layers()
        first = self.first(layer, activations).log_softmax(-1)
        of_tokens, of_clusters = first.split([first.size(-1) - len(others), len(others)], -1)
        parts = [of_tokens]
        for other, of_cluster in zip(others, of_clusters.unbind(-1), strict=True):
            parts.append(of_cluster.unsqueeze(-1) + other(activations).log_softmax(-1))
        return torch.cat(parts, -1)

    def measured(self, activations: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Measured:
        layer, *others = self.layers()
        first = self.first(layer, activations)
        starts = targets.new_tensor([start for start, _ in self.clusters[1:]])
        cluster = torch.bucketize(targets.contiguous(), starts, right=True)
        wanted = torch.where(cluster == 0, targets, self.clusters[0][1] + cluster - 1)
        losses = F.cross_entropy(first, wanted, reduction="none")
        for number, other in enumerate(others, start=1):
            rows = (cluster == number).nonzero().squeeze(1)  # may be none: in DDP every weight needs its gradient
            within = targets[rows] - self.clusters[number][0]
            losses = losses.index_add(0, rows, F.cross_entropy(other(activations[rows]), within, reduction="none"))
        loss = minimised = losses.mean()
        if label_smoothing:
            minimised = (1 - label_smoothing) * loss + label_smoothing * self.spread(activations)
        right = None if torch.is_grad_enabled() else self.right(first, others, activations, targets)
        return Measured(loss, minimised, right)

    def spread(self, activations: Tensor) -> Tensor:
        """The mean cross-entropy of targets that are spread over the vocabulary. It takes the scores of all tokens."""

        def total(part: Tensor) -> Tensor:
            return -self.scores(part).mean(-1).sum()

        rows = max(1, AT_ONCE // len(self.bias))
        parts = [checkpoint(total, part, use_reentrant=False) for part in activations.split(rows)]
        return torch.stack(parts).sum() / len(activations)

    def right(self, first: Tensor, others: list[ClusterLayer], activations: Tensor, targets: Tensor) -> Tensor:
        """How many targets are the likeliest token. No token is likelier than its cluster, so a cluster's tokens are
        scored only where it is likelier than the likeliest token so far."""
        first = first.float().log_softmax(-1)
        highest, likeliest = first[:, : self.clusters[0][1]].max(-1)
        for number, other in enumerate(others, start=1):
            start, stop = self.clusters[number]
            of_cluster = first[:, self.clusters[0][1] + number - 1]
            for rows in (of_cluster > highest).nonzero().squeeze(1).split(max(1, AT_ONCE // (stop - start))):
                scores = other(activations[rows]).float()
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
        hidden_size: of the activations.
        vocab_size: the number of tokens.
        cutoffs: of an `AdaptiveHead`; by default a tenth and a third of the vocabulary.
        embed: the embedding whose weights the head shares, if it does.
    """
    if name == "adaptive":
        chosen = cutoffs or sorted({max(1, vocab_size // 10), max(2, vocab_size // 3)})
        return AdaptiveHead(hidden_size, vocab_size, chosen, embed)
    return LinearHead(hidden_size, vocab_size) if embed is None else TiedHead(embed, hidden_size)
