"""Which parameters are trained: what has been frozen or unfrozen in the course of a fit."""

import warnings
from collections.abc import Mapping
from typing import Any

from unroll.resume import lightning


def trained(module: Any) -> dict[str, bool]:
    """By name: parameters, whether they are trained, and layers with running statistics, whether they keep them."""
    parameters = {name: parameter.requires_grad for name, parameter in lightning.parameters_of(module)}
    layers = {
        name: part.track_running_stats for name, part in lightning.modules_of(module) if hasattr(part, STATISTICS)
    }
    return parameters | layers


STATISTICS = "track_running_stats"


def train_alike(module: Any, before: Mapping[str, bool], trainer: Any) -> None:
    """Freezes and unfreezes what was so in the fit that wrote a checkpoint; says so unless a callback does that.

    Lightning calls no hook of the epoch in which that was done, and its `BaseFinetuning` begins with all frozen.
    """
    other = [name for name, now in trained(module).items() if before.get(name, now) != now]
    for name, parameter in module.named_parameters():
        parameter.requires_grad = before.get(name, parameter.requires_grad)
    for name, part in module.named_modules():
        if hasattr(part, STATISTICS):
            part.track_running_stats = before.get(name, part.track_running_stats)
    if other and not lightning.unfreezes(trainer):
        was = ["frozen", "trained"][before[other[0]]]
        warnings.warn(
            f"{other[0]} was {was} when the checkpoint was written, and goes on so ({len(other)} such names); what is "
            f"to change is frozen or unfrozen in on_train_start",
            stacklevel=2,
        )
