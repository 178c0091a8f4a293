"""Layers that several models share."""

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of `[…, hidden]`: every other axis counts as batch.

    A single sample has no spread to be normalised by; it is normalised by the running statistics, in
    training too. (The end of a stream can be one row of one word.)
    """

    def forward(self, activations: Tensor) -> Tensor:
        samples = activations.flatten(0, -2)
        if self.training and len(samples) == 1:
            samples = F.batch_norm(samples, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            samples = super().forward(samples)
        return samples.view_as(activations)
