"""Numbers that tell data from others of the same shape."""

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

PLACES, PLACE = 256, 1024  # larger data are looked at in so many places, at so many numbers in each


def fingerprint(data: Any) -> int:
    """Of a tensor, or of `Sequences`."""
    return checksum([data]) if isinstance(data, Tensor) else int(data.fingerprint())


def checksum(parts: Iterable[Tensor], places: int = PLACES) -> int:
    """Of the shapes, types and numbers of tensors; of a larger one, of the numbers in so many places, evenly apart."""
    found = 0
    for part in parts:
        found = crc32(f"{part.dtype} {list(part.shape)}".encode(), found)
        for piece in pieces(part.detach(), places):
            found = crc32(piece.cpu().contiguous().view(torch.uint8).numpy().data, found)
    return found


def pieces(tensor: Tensor, places: int) -> Iterator[Tensor]:
    """The numbers of a tensor `[n, …]` that are looked at, flat: no others are read, of a mapped file either."""
    if tensor.numel() <= places * PLACE:
        yield tensor.flatten()
        return
    steps = max(1, PLACE // tensor[0].numel())
    for start in torch.linspace(0, len(tensor) - steps, places, dtype=torch.float64).long().tolist():
        yield tensor[start : start + steps].flatten()[:PLACE]
