"""The Nietzsche lesson's validation split: a random share of the windows."""

import numpy
import torch
from torch import Tensor


def split_windows(windows: int, valid_fraction: float, seed: int, among: int | None = None) -> tuple[Tensor, Tensor]:
    """The numbers of the windows for training and of those for validation, int64.

    Drawn as fastai 0.7's `get_cv_idxs` drew them, with NumPy's legacy generator, so that the lesson's seed gives the
    lesson's split.

    Args:
        windows: how many there are.
        valid_fraction: the share for validation.
        seed: determines which.
        among: validation windows are drawn from the first so many; by default from all.
    """
    candidates = min(among or windows, windows)
    order = numpy.random.RandomState(seed).permutation(candidates)
    for_valid = torch.zeros(windows, dtype=torch.bool)
    for_valid[order[: int(valid_fraction * candidates)]] = True
    return (~for_valid).nonzero()[:, 0], for_valid.nonzero()[:, 0]
