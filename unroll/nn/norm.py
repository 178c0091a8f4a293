"""Layers that several models share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.distributed import SumOverProcesses, several


class BatchNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of `[…, hidden]`: every other axis counts as batch.

    A single sample has no variance; it is normalised by the running statistics, in training too. (The end of a stream
    can be one row of one word.)

    When several processes share a batch, the statistics are those of the whole batch, as in `nn.SyncBatchNorm`, which
    has no CPU version.
    """

    def forward(self, activations: Tensor) -> Tensor:
        samples = activations.flatten(0, -2)
        if self.training and several():
            samples = self.over_processes(samples)
        elif self.training and len(samples) == 1:
            samples = F.batch_norm(samples, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            samples = super().forward(samples)
        return samples.view_as(activations)

    def over_processes(self, samples: Tensor) -> Tensor:
        """Normalises `[samples, hidden]` by the statistics of all processes' samples; gradients reach all of them."""
        count = SumOverProcesses.apply(samples.new_full((), float(len(samples))))
        mean = SumOverProcesses.apply(samples.sum(0)) / count
        variance = SumOverProcesses.apply((samples - mean).square().sum(0)) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked += 1
        return (samples - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
