"""What has been logged in an epoch, and the metrics on a module: means over an epoch go on where it was stopped."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unroll.resume import lightning

LOGGED, STATES, RESET = "logged", "states", "reset"  # the last: the names of metrics that are reset on resume


def so_far(trainer: Any, module: Any) -> dict[str, Any]:
    """What `go_on_with` needs, as plain values and tensors."""
    done = {id(metric) for metric in lightning.about_to_be_reset(trainer)}
    found = lightning.metrics_of(module)
    states = {name: lightning.metric_state(metric) for name, metric in found.items()}
    logged = {} if lightning.epoch_is_over(trainer) else lightning.logged_in_training(trainer)
    return {LOGGED: logged, STATES: states, RESET: [name for name, metric in found.items() if id(metric) in done]}


def go_on_with(trainer: Any, module: Any, of_processes: list[Mapping[str, Any]], in_epoch: bool) -> None:
    """Lets means go on with what `so_far` returned.

    Args:
        trainer, module: of the fit that is resumed.
        of_processes: what it returned in each process. Where there is another number of them now, means begin anew, and
            a line says so.
        in_epoch: whether the fit goes on behind a batch of an epoch.
    """
    if not of_processes:
        return
    metrics = lightning.metrics_of(module)
    if len(of_processes) != trainer.world_size:
        say_that_means_begin_anew(of_processes, trainer)
        for metric in metrics.values():  # persistent states are those of the first process
            metric.reset()
        return
    mine = moved(of_processes[trainer.global_rank], lightning.root_device(trainer))
    if missing := [name for name in mine[STATES] if name not in metrics]:
        warnings.warn(f"the module has no {', '.join(missing)} any more, a metric in the checkpoint", stacklevel=2)
    found = {name: state for name, state in mine[STATES].items() if name in metrics}
    for name, state in found.items():
        for part, value in state.items():
            setattr(metrics[name], part, value)
    for name in set(mine[RESET]) & set(found):  # when those are set that are parts of them
        metrics[name].reset()
    if in_epoch:
        lightning.log_again(trainer, module, mine[LOGGED])


def moved(part: Any, device: torch.device | str) -> Any:
    """The same nest with its tensors on a device."""
    if isinstance(part, Tensor):
        return part.detach().to(device)
    if isinstance(part, Mapping):
        return {name: moved(value, device) for name, value in part.items()}
    return [moved(value, device) for value in part] if isinstance(part, list) else part


def say_that_means_begin_anew(of_processes: list[Mapping[str, Any]], trainer: Any) -> None:
    logged = [one["settings"] for of_one in of_processes for one in of_one[LOGGED].values()]
    names = {settings["name"] for settings in logged if settings["on_epoch"]}
    begun = [name for of_one in of_processes for name, state in of_one[STATES].items() if lightning.is_begun(state)]
    names |= {*begun}.difference(*(of_one[RESET] for of_one in of_processes))
    if names and trainer.is_global_zero:
        warnings.warn(
            f"the checkpoint is of {len(of_processes)} processes, so with {trainer.world_size} these means over the "
            f"epoch begin anew: {', '.join(sorted(names))}",
            stacklevel=2,
        )
