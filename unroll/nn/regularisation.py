"""Regularisation of recurrent models. Each part works by itself.

Locked dropout draws one mask per row and window and uses it at every step (Gal & Ghahramani 2016, arXiv
1512.05287); the rest, and the names, are those of AWD-LSTM (Merity et al. 2017, arXiv 1708.02182).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.nn.layer import at_least_float32
from unroll.state import State


class LockedDropout(nn.Dropout):
    """Dropout over `[batch, time, hidden]` with one mask per row, the same at every step."""

    def forward(self, activations: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return activations
        rows, _, hidden = activations.shape
        return activations * F.dropout(activations.new_ones(rows, 1, hidden), self.p)


class EmbeddingDropout(nn.Embedding):
    """`nn.Embedding` that drops whole tokens for a window: wherever one of them occurs, its vector is 0.

    Args:
        dropout: the share of the vocabulary that is dropped; the other vectors are scaled up.
    """

    def __init__(self, vocab_size: int, embedding_size: int, dropout: float = 0.0) -> None:
        super().__init__(vocab_size, embedding_size)
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = super().forward(tokens)
        if not self.training or self.dropout == 0:
            return vectors
        kept = F.dropout(self.weight.new_ones(self.num_embeddings), self.dropout)
        return vectors * kept[tokens].unsqueeze(-1)


class WeightDrop(nn.Module):
    """DropConnect (Wan et al. 2013) on the hidden-to-hidden matrices of a recurrent layer, named as PyTorch names them.

    Single weights are dropped for a whole window: the same at every step and for every row.

    Args:
        rnn: the layer.
        dropout: the share of the weights that is dropped.
    """

    def __init__(self, rnn: nn.Module, dropout: float) -> None:
        super().__init__()
        self.rnn = rnn
        self.dropout = dropout

    def forward(self, x: Tensor, state: State = None, resets: Tensor | None = None) -> tuple[Tensor, State]:
        given = (x, state) if resets is None else (x, state, resets)
        if not self.training or self.dropout == 0:
            return self.rnn(*given)
        weights = {
            name: drop_weights(weight, self.dropout)
            for name, weight in self.rnn.named_parameters()
            if name.rpartition(".")[2].startswith("weight_hh")
        }
        outputs = torch.func.functional_call(self.rnn, weights, given)
        for layer in self.rnn.modules():
            if isinstance(layer, nn.RNNBase):  # it keeps the dropped weights, and with them the graph of this step,
                layer._init_flat_weights()  # until the next: a CUDA graph can't be captured while that is alive
        return outputs


def drop_weights(weights: Tensor, share: float) -> Tensor:
    """As `F.dropout`, in half the time for a large matrix on a CPU: uniform numbers are drawn faster than Bernoulli."""
    return weights * torch.rand_like(weights).ge_(share).div_(1 - share or 1)


def activation_penalty(outputs: Tensor) -> Tensor:
    """Activation regularisation (AR), before its factor: the mean square of `[batch, time, hidden]`."""
    return at_least_float32(outputs).square().mean()


def change_penalty(outputs: Tensor) -> Tensor:
    """Temporal activation regularisation (TAR), before its factor: the mean square of the change from step to step."""
    if outputs.size(1) < 2:
        return outputs.new_zeros(())
    return at_least_float32(outputs).diff(dim=1).square().mean()
