"""The loss of a large vocabulary, without the scores of all positions in memory at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels.products import matmul


class LinearCrossEntropy(torch.autograd.Function):
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
                scores = matmul(part, matrix.t(), bias.to(narrow)).to(bias.dtype)
                each = wanted.unsqueeze(1)
                d_scores = scores.softmax(1)
                # From the highest score and its probability: another pass over all exponentials would cost more.
                logsumexp = scores.amax(1, keepdim=True) - d_scores.amax(1, keepdim=True).log_()
                loss += (logsumexp - scores.gather(1, each)).sum()
                if label_smoothing:
                    spread += (logsumexp - scores.mean(1, keepdim=True)).sum()
                    d_scores -= label_smoothing / len(bias)
                d_scores.scatter_add_(1, each, d_scores.new_full((1, 1), label_smoothing - 1).expand_as(each))
                d_bias += d_scores.sum(0)
                d_scores = d_scores.to(narrow)
                gradient.copy_(matmul(d_scores, matrix))
                d_weight += matmul(d_scores.t(), part)
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
