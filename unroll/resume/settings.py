"""What a place in an epoch depends on: a fit that is resumed is compared with the one that wrote the checkpoint."""

import math
import warnings
from collections.abc import Mapping, Sized
from contextlib import suppress
from typing import Any

from unroll.errors import UserError
from unroll.resume import lightning
from unroll.resume.loaders import read_by
from unroll.streams.fingerprint import fingerprint

INTERVAL = "val_check_interval"
ANYWHERE = (INTERVAL, "check_val_every_n_epoch", "precision")  # can change in the middle of an epoch
LOADERS = "loaders"


def of_trainer(trainer: Any) -> dict[str, Any]:
    """The settings of a trainer on which a fit's steps and validations depend, by name."""
    names = ("limit_train_batches", "check_val_every_n_epoch", "precision")
    found = {name: value if isinstance(value := getattr(trainer, name), (int, float)) else str(value) for name in names}
    return found | {
        "accumulate_grad_batches": lightning.accumulation(trainer),
        INTERVAL: lightning.validation_interval(trainer),
    }


def of_loaders(trainer: Any) -> dict[str, Any]:
    """What is read in training, and how."""
    batches = trainer.num_training_batches
    return {
        LOADERS: [of_loader(loader) for loader in lightning.train_loaders(trainer)],
        "batches_per_epoch": None if math.isinf(batches) else batches,
    }


def of_loader(loader: Any) -> dict[str, Any]:
    """What a loader reads, and how: plain values by name."""
    if (stream := read_by(loader)) is not None:
        return stream.settings
    found = {"kind": type(loader).__name__, "batch_size": getattr(loader, "batch_size", None)}
    if isinstance(loader, Sized):
        with suppress(TypeError, NotImplementedError):
            found["batches"] = len(loader)
    tensors = getattr(getattr(loader, "dataset", None), "tensors", ())
    return {**found, "data": [fingerprint(tensor) for tensor in tensors]}


def compare(before: Mapping[str, Any], now: Mapping[str, Any], batch: int) -> None:
    """Compares what a fit is given with what the one had that is resumed; says in a line what is different.

    Args:
        before, now: as `of_trainer` or `of_loaders` have it.
        batch: behind which the fit goes on in the middle of an epoch; 0 at an epoch's start.

    Raises:
        UserError: in the middle of an epoch, its place would be another one.
    """
    other = {name: differences(name, before[name], now[name]) for name in now if name in before}
    words = ", ".join(part for parts in other.values() for part in parts)
    if batch and any(parts for name, parts in other.items() if name not in ANYWHERE):
        raise UserError(
            f"the checkpoint stands behind batch {batch} of an epoch, which is another place now: {words}; give the "
            f"fit what it had, resume from a checkpoint of an epoch's end, or begin a new fit with its weights"
        )
    if words:
        warnings.warn(f"this fit goes on from a checkpoint of one with other settings: {words}", stacklevel=2)


def say_if_validated_by_the_clock(trainer: Any) -> None:
    """Says in a line that validations, and what depends on them, come at other steps than without the stop."""
    if isinstance(interval := lightning.validation_interval(trainer), str):
        warnings.warn(
            f"validations come {interval} after one another by the clock ({INTERVAL}), so not behind the same steps as "
            f"in a fit that was not stopped",
            stacklevel=2,
        )


def refuse_other_length(trainer: Any, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """
    Raises:
        UserError: epochs have become longer or shorter, and a schedule would count those before as if they were so too.
    """
    for config in trainer.lr_scheduler_configs:
        steps = getattr(config.scheduler, "total_steps", trainer.max_steps)
        other = [
            part
            for name in ("batches_per_epoch", "accumulate_grad_batches")
            if name in before
            for part in differences(name, before[name], now[name])
        ]
        if steps != trainer.max_steps and other:
            raise UserError(
                f"{type(config.scheduler).__name__} is laid out over {steps} steps, as if all epochs were as long as "
                f"those now, but {' and '.join(other)}; leave that as it was, or choose another schedule"
            )


def differences(name: str, before: Any, now: Any) -> list[str]:
    """What is different in two values of a setting, in words."""
    if before == now:
        return []
    if name == "data":
        return ["other data"]
    if name != LOADERS:
        return [f"{name}={now} ({before} before)"]
    if len(before) != len(now):
        return [f"{len(now)} training loaders ({len(before)} before)"]
    found = []
    for old, new in zip(before, now, strict=True):
        names = [name for name in new if name in old] if old["kind"] == new["kind"] else ["kind"]
        found += [part for name in names for part in differences(name, old[name], new[name])]
    return found
