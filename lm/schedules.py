"""Learning rate schedules; all step once per optimizer step, and their peak is the optimizer's `lr`."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> ConstantLR:
    """The optimizer's learning rate, unchanged."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> OneCycleLR:
    """One cycle (Smith 2018, arXiv 1803.09820), with the cosine annealing of fastai's `fit_one_cycle`.

    The learning rate goes lr / div_factor → lr → lr / div_factor / final_div_factor, the first momentum
    (`betas[0]`, or SGD's `momentum`) max → base → max; the turn is at `pct_start` of all steps.
    """
    return OneCycleLR(
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
