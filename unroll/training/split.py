"""A part of the training data set aside for validation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unroll.errors import UserError

TOO_FEW = "{} {} are too few to set some aside; give more, a greater data.valid_fraction, or {}"


def set_aside(labels: Sequence[int], fraction: float, seed: int, samples: str, instead: str) -> tuple[Tensor, Tensor]:
    """The numbers of the samples to train on, and of those set aside: a share of each class, drawn at random. At least
    one sample of each class stays.

    Args:
        labels: the class of each sample.
        fraction: the share that is set aside.
        seed: determines which.
        samples: what they are called, for the message.
        instead: what to give to have none set aside, for the message.

    Returns:
        Both int64, in ascending order.

    Raises:
        UserError: the share of every class is less than half a sample.
    """
    generator = torch.Generator().manual_seed(seed)
    every = torch.as_tensor(labels)
    chosen = torch.zeros(len(every), dtype=torch.bool)
    for label in every.unique():
        of_class = (every == label).nonzero().flatten()
        count = min(round(fraction * len(of_class)), len(of_class) - 1)
        chosen[of_class[torch.randperm(len(of_class), generator=generator)[:count]]] = True
    if not chosen.any():
        raise UserError(TOO_FEW.format(len(every), samples, instead))
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def set_aside_end(count: int, fraction: float, samples: str, instead: str) -> int:
    """Where some samples are cut in two, the share at their end to be set aside: one at least.

    Args:
        count: how many there are.
        fraction, samples, instead: as for `set_aside`.

    Raises:
        UserError: there are too few for both.
    """
    cut = count - max(1, round(fraction * count))
    if cut < 1:
        raise UserError(TOO_FEW.format(count, samples, instead))
    return cut
