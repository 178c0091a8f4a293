"""Learning rate schedules. All start from the optimizer's `lr` and step once per optimizer step, `plateau` once per
validation.

Each takes the optimizer, `total_steps` and `steps_per_epoch`, and then its own settings, in epochs. Schedules of
`torch.optim.lr_scheduler` can be used in their place: those that do not take `total_steps` step once per epoch.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, count, takewhile
from typing import Annotated, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from unroll.checks import AboveOne, Count, Fraction, NonNegative, Positive, Share, Size, checked, list_of, whole
from unroll.errors import UserError
from unroll.resume.lightning import train_loader

STEPS_FROM = 0.75  # the share of all steps after which `steps` lowers the rate by default
NO_LIMIT = -1  # what Lightning's Trainer calls none, of epochs and of steps


def batches_per_epoch(trainer: Any, batches: int) -> int:
    """How many of so many training batches `limit_train_batches` leaves: a number of them, or a share."""
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def count_steps(trainer: Any) -> tuple[int, int]:
    """Optimizer steps per epoch and in all, for a schedule in `configure_optimizers`.

    `trainer.estimated_stepping_batches` sets the loaders up before a checkpoint is restored, and a fit that is resumed
    then begins its epoch anew (Lightning issue 20550); this does not.

    Raises:
        UserError: the trainer has a limit neither on epochs nor on steps.
    """
    batches = batches_per_epoch(trainer, len(train_loader(trainer)))
    steps_per_epoch = max(1, math.ceil(batches / trainer.accumulate_grad_batches))
    limits = [] if trainer.max_steps == NO_LIMIT else [trainer.max_steps]
    if trainer.max_epochs not in (None, NO_LIMIT):  # -1 also where max_steps or max_time is given alone
        limits.append(steps_per_epoch * trainer.max_epochs)
    if not limits:
        raise UserError(
            "a schedule, or an average of the last part of training, needs to know how long training lasts: "
            "set trainer.max_epochs or trainer.max_steps"
        )
    return steps_per_epoch, max(1, min(limits))


@checked
def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> ConstantLR:
    """The optimizer's learning rate, unchanged."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


@checked
def steps(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    epochs: Annotated[Sequence[int], list_of(whole(1), "[4,6]")] | None = None,
    factor: Positive = 0.1,
) -> MultiStepLR:
    """The learning rate times `factor` after each of these epochs: 1e-3 for 4 epochs, then 1e-4, is `epochs=[4]`.

    Without `epochs` it is lowered once, after three quarters of all steps.
    """
    milestones = [int(STEPS_FROM * total_steps)] if epochs is None else [epoch * steps_per_epoch for epoch in epochs]
    return MultiStepLR(optimizer, milestones, gamma=factor)


@checked
def plateau(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    factor: Fraction = 0.1,
    patience: Count = 2,
    threshold: Share = 1e-4,
    min_lr: NonNegative = 0.0,
) -> ReduceLROnPlateau:
    """The learning rate times `factor` whenever `valid/loss` has not fallen for more than `patience` validations.

    It has fallen where it is below the lowest by the share `threshold`; the rate stays at or above `min_lr`.
    """
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=threshold, min_lr=min_lr)


@checked
def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: Fraction = 0.3,
    div_factor: AboveOne = 25.0,
    final_div_factor: AboveOne = 1e4,
    base_momentum: Share = 0.85,
    max_momentum: Share = 0.95,
) -> "OneCycle":
    """One cycle (Smith 2018, arXiv 1803.09820), with the cosine annealing of fastai's `fit_one_cycle`.

    The learning rate goes lr / div_factor → lr → lr / div_factor / final_div_factor, the first momentum
    (`betas[0]`, or SGD's `momentum`) max → base → max; the peak is at `pct_start` of all steps.
    """
    return OneCycle(
        optimizer,
        total_steps=total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


class OneCycle(OneCycleLR):
    """torch's, without its length in the state, so that a run can be resumed with more epochs than it began with.

    Args:
        optimizer: the rates of its groups are the peaks.
        settings: as for `OneCycleLR`.
    """

    def __init__(self, optimizer: Optimizer, **settings: Any) -> None:
        peaks = [group["lr"] for group in optimizer.param_groups]
        super().__init__(optimizer, max_lr=peaks, anneal_strategy="cos", **settings)

    def state_dict(self) -> dict[str, Any]:
        return {key: vars(self)[key] for key in ("last_epoch", "_step_count", "_last_lr")}


@checked
def unfreeze(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    epochs_per_group: Size = 1,
    pct_start: Fraction = 0.3,
    div_factor: AboveOne = 25.0,
    final_div_factor: AboveOne = 1e4,
    base_momentum: Share = 0.85,
    max_momentum: Share = 0.95,
) -> "Unfreezing":
    """`one_cycle`, in which the groups of layers begin to learn one after the other, from the head down (Howard & Ruder
    2018, arXiv 1801.06146): the rate of each further group is zero for `epochs_per_group` epochs more.

    Raises:
        UserError: the optimizer has one group alone.
    """
    groups = len(optimizer.param_groups)
    if groups == 1:
        raise UserError("schedule=unfreeze needs groups of layers: optimizer.discriminative=2.6 (1: equal rates)")
    return Unfreezing(
        optimizer,
        begins=[group * epochs_per_group * steps_per_epoch for group in range(groups)],
        total_steps=total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


class Unfreezing(OneCycle):
    """Rates of zero until a group begins.

    Args:
        begins: the step at which each group begins.
        settings: as for `OneCycleLR`.
    """

    def __init__(self, optimizer: Optimizer, begins: Sequence[int], **settings: Any) -> None:
        self.begins = begins
        super().__init__(optimizer, **settings)

    def get_lr(self) -> list[Any]:
        rates = zip(super().get_lr(), self.begins, strict=True)
        return [rate if self.last_epoch >= begin else 0.0 for rate, begin in rates]


@checked
def sgdr(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    constant_epochs: Count = 0,
    cycle_length: Size | None = 1,
    cycle_mult: Size = 2,
) -> LambdaLR:
    """Cosine annealing to zero with warm restarts (Loshchilov & Hutter 2017, arXiv 1608.03983).

    After `constant_epochs` at the full rate come cycles of `cycle_length`, `cycle_length × cycle_mult`, …
    epochs, each from the full rate. With cycle_length=None there is one cycle, until the end of the run.
    """
    first_length = total_steps / steps_per_epoch - constant_epochs if cycle_length is None else cycle_length

    def share(step: int) -> float:
        epoch = step / steps_per_epoch
        if epoch < constant_epochs or first_length <= 0:
            return 1.0
        start, length = float(constant_epochs), float(first_length)
        while epoch >= start + length and cycle_length is not None:
            start, length = start + length, length * cycle_mult
        return (1 + math.cos(math.pi * min(1.0, (epoch - start) / length))) / 2

    return LambdaLR(optimizer, share)


def cycle_ends(
    max_epochs: int, constant_epochs: int = 0, cycle_length: int | None = 1, cycle_mult: int = 2
) -> list[int]:
    """After how many epochs each whole cycle of `sgdr` ends, in a run of `max_epochs`."""
    if cycle_length is None:
        return [max_epochs]
    lengths = (cycle_length * cycle_mult**number for number in count())
    ends = accumulate(lengths, initial=constant_epochs)
    next(ends)
    return list(takewhile(lambda end: end <= max_epochs, ends))
