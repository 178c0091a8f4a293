"""The minimal LSTM."""

import torch.nn.functional as F
from torch import Tensor

from unroll.nn.min_gru import MinGRU


class MinLSTM(MinGRU):
    """A minimal LSTM, with a forget and an input gate that add up to 1 (Feng et al. 2024, arXiv 2410.01201).

    As `MinGRU` with z = i / (f + i), where f_t = σ(W_f x_t) and i_t = σ(W_i x_t).
    """

    parts = 3

    def update(self, *scores: Tensor) -> Tensor:
        f, i = scores
        return F.logsigmoid(i) - F.logsigmoid(f)
