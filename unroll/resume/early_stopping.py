"""What callbacks have told a trainer to stop, for the fit that is resumed."""

import warnings
from typing import Any

from unroll.resume import lightning

EARLY_STOPS = "early_stops"  # the checkpoint's key: the metric's value at each stop, and the callback's settings
STOPPED = "stopped"  # the checkpoint's key: whether another callback has told the trainer to
SETTINGS = ("patience", "min_delta", "check_finite", "stopping_threshold", "divergence_threshold")


def early_stops(trainer: Any) -> dict[str, dict[str, Any]]:
    """What is to be known of each `EarlyStopping` that has told the trainer to stop, by its key in a checkpoint."""
    return {
        callback.state_key: {"value": trainer.callback_metrics.get(callback.monitor), "settings": settings(callback)}
        for callback in lightning.callbacks_of(trainer, "EarlyStopping")
        if trainer.should_stop and lightning.has_stopped(callback)
    }


def settings(early_stopping: Any) -> dict[str, Any]:
    return {name: getattr(early_stopping, name) for name in SETTINGS}


def take_up_early_stops(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Ends a fit that `EarlyStopping` had ended, unless the callback is left out now or would not stop it any more.

    Its patience is the one that it is given now: Lightning would take the checkpoint's, without a word.
    """
    for callback in lightning.callbacks_of(trainer, "EarlyStopping"):
        states, key = checkpoint["callbacks"], callback.state_key
        if key in states:
            states[key] = {**states[key], "patience": callback.patience}
        stopped = checkpoint.get(EARLY_STOPS, {}).get(key)
        if stopped is None:
            continue
        stops, state = True, states[key]
        if stopped["settings"] != settings(callback) and stopped["value"] is not None:
            stops, states[key] = lightning.check_again(callback, state, stopped["value"].cpu())
        if stops:
            trainer.should_stop = True
            reason = str(state["stopping_reason_message"]).partition(". ")[0]
            warnings.warn(
                f"EarlyStopping of {callback.monitor} had ended this fit ({reason}): nothing more is trained; with "
                f"more patience, another threshold, or without it the fit goes on",
                stacklevel=2,
            )


def stopped_otherwise(trainer: Any) -> bool:
    """Whether a callback has told the trainer to stop that is neither an `EarlyStopping` nor Lightning's `Timer`."""
    time_is_up = any((timer.time_remaining() or 1) <= 0 for timer in lightning.callbacks_of(trainer, "Timer"))
    return trainer.should_stop and not time_is_up and not early_stops(trainer)


def say_if_stopped_otherwise(checkpoint: dict[str, Any]) -> None:
    """Says that a fit goes on that a callback had stopped: it may have been for good, or until the next job begins."""
    if checkpoint.get(STOPPED):
        warnings.warn(
            "a callback had set trainer.should_stop when the checkpoint was written, and the fit goes on; one that "
            "ends fits for good keeps that in its state_dict, and sets it in on_train_start",
            stacklevel=2,
        )
