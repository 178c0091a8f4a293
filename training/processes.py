"""Several processes that share a batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class SumOverProcesses(torch.autograd.Function):
    """The sum of all processes' tensors, in each of them; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return SumOverProcesses.forward(ctx, gradient)


def several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
