"""Copies to the device that trains."""

import torch
from torch import Tensor


def sent(part: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a copy to a GPU is not waited for."""
    return part.to(device, non_blocking=device.type == "cuda")
