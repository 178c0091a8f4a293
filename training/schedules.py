"""Learning rate schedules; all step once per optimizer step and start from the optimizer's `lr`.

Each takes the optimizer, `total_steps` and `steps_per_epoch`, and then its own settings, in epochs.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, count, takewhile
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, MultiStepLR, OneCycleLR


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> ConstantLR:
    """The optimizer's learning rate, unchanged."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def steps(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, epochs: Sequence[int], factor: float = 0.1
) -> MultiStepLR:
    """The learning rate times `factor` after each of these epochs: 1e-3 for 4 epochs, then 1e-4, is `epochs=[4]`."""
    return MultiStepLR(optimizer, milestones=[epoch * steps_per_epoch for epoch in epochs], gamma=factor)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> "OneCycle":
    """One cycle (Smith 2018, arXiv 1803.09820), with the cosine annealing of fastai's `fit_one_cycle`.

    The learning rate goes lr / div_factor → lr → lr / div_factor / final_div_factor, the first momentum
    (`betas[0]`, or SGD's `momentum`) max → base → max; the turn is at `pct_start` of all steps.
    """
    return OneCycle(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=pct_start,
        anneal_strategy="cos",
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


class OneCycle(OneCycleLR):
    """torch's; its length is no part of its state, so that a run can be resumed with more epochs than it began with."""

    def state_dict(self) -> dict[str, Any]:
        return {key: vars(self)[key] for key in ("last_epoch", "_step_count", "_last_lr")}


def sgdr(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    constant_epochs: int = 0,
    cycle_length: int = 1,
    cycle_mult: int = 2,
) -> LambdaLR:
    """Cosine annealing to zero with warm restarts (Loshchilov & Hutter 2017, arXiv 1608.03983).

    After `constant_epochs` at the full rate come cycles of `cycle_length`, `cycle_length × cycle_mult`, …
    epochs; each starts again from the full rate.
    """

    def share(step: int) -> float:
        epoch = step / steps_per_epoch
        if epoch < constant_epochs:
            return 1.0
        start, length = constant_epochs, cycle_length
        while epoch >= start + length:
            start, length = start + length, length * cycle_mult
        return (1 + math.cos(math.pi * (epoch - start) / length)) / 2

    return LambdaLR(optimizer, share)


def cycle_ends(max_epochs: int, constant_epochs: int = 0, cycle_length: int = 1, cycle_mult: int = 2) -> list[int]:
    """After how many epochs each whole cycle of `sgdr` ends."""
    lengths = (cycle_length * cycle_mult**number for number in count())
    ends = accumulate(lengths, initial=constant_epochs)
    next(ends)
    return list(takewhile(lambda end: end <= max_epochs, ends))
