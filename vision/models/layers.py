"""Batch norm, written out."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.distributed import SumOverProcesses, several


class BatchNorm(nn.Module):
    """Batch norm over each channel of `[batch, channels, height, width]` (Ioffe & Szegedy 2015, arXiv 1502.03167).

    In training, a channel is normalised by its mean and variance over the batch, and then scaled and shifted by a
    multiplier and an addend that are learned: without them, the next step of the optimizer would work against the
    normalisation. In eval mode, running averages of mean and variance are used instead of the batch's. The results are
    those of `nn.BatchNorm2d`, running averages included.

    When several processes share a batch, the statistics are those of the whole batch, as in `nn.SyncBatchNorm`.

    Args:
        channels: the number of channels.
        fused: use torch's kernel where one process has the whole batch: the same results in less time.
        eps: added to the variance.
        momentum: the share of the newest batch in the running averages.
    """

    means: Tensor
    variances: Tensor

    def __init__(self, channels: int, fused: bool = False, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.multiplier = nn.Parameter(torch.ones(channels))
        self.addend = nn.Parameter(torch.zeros(channels))
        self.register_buffer("means", torch.zeros(channels))
        self.register_buffer("variances", torch.ones(channels))
        self.fused, self.eps, self.momentum = fused, eps, momentum

    def forward(self, images: Tensor) -> Tensor:
        if self.fused and not (self.training and several()):
            running = self.means, self.variances, self.multiplier, self.addend
            return F.batch_norm(images, *running, self.training, self.momentum, self.eps)
        means, variances = self.of_batch(images) if self.training else (self.means, self.variances)
        means, scale, addend = (
            values[:, None, None] for values in (means, self.multiplier * (variances + self.eps).rsqrt(), self.addend)
        )
        return torch.addcmul(addend, images - means, scale).to(images.dtype)

    def of_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel; updates the running averages."""
        values: Any = images.numel() / images.size(1)  # of each channel
        images = images.to(torch.promote_types(images.dtype, torch.float32))  # sums need more than half precision
        if several():
            values = SumOverProcesses.apply(images.new_full((), values))
            means = SumOverProcesses.apply(images.sum((0, 2, 3))) / values
            variances = SumOverProcesses.apply((images - means[:, None, None]).square().sum((0, 2, 3))) / values
        else:
            variances, means = torch.var_mean(images, (0, 2, 3), correction=0)
        with torch.no_grad():
            unbiased = variances * values / max(values - 1, 1)
            self.means.lerp_(means.to(self.means.dtype), self.momentum)
            self.variances.lerp_(unbiased.to(self.variances.dtype), self.momentum)
        return means, variances
