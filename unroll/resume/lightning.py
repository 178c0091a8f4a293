"""Every place where this project relies on what Lightning does not document.

Another minor version of Lightning may change any of it without notice. `tests/test_lightning_contract.py` checks each
function here against the installed version, and says which one has to be mended.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import copy
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unroll.resume.checkpoint import glance

# What a trainer is doing


def attached_trainer(module: Any) -> Any | None:
    """The trainer of a LightningModule; None if it has none, where `module.trainer` raises."""
    return getattr(module, "_trainer", None)


def current_stage(trainer: Any) -> str | None:
    """What the trainer is doing: "train", "validate", "sanity_check", "test" or "predict"; None before and after."""
    stage = trainer.state.stage
    return None if stage is None else str(stage.value)


def is_fitting(trainer: Any) -> bool:
    """Whether the trainer is in `fit`, its validations included."""
    return bool(trainer.state.fn == "fit")


def is_trial(trainer: Any) -> bool:
    """Whether it only tries some batches (`fast_dev_run`), of which nothing is written."""
    return bool(trainer.fast_dev_run)


def train_loader(trainer: Any) -> Any:
    """The training loader, as it was given to `fit` or as a hook returns it.

    `trainer.train_dataloader` is None until Lightning sets the loaders up, and
    `trainer.estimated_stepping_batches` would set them up before a checkpoint is restored, so that their position would
    be lost on resume (Lightning issue 20550).
    """
    return trainer.fit_loop._data_source.dataloader()


def train_loaders(trainer: Any) -> list[Any]:
    """The training loaders that the trainer reads, in their order; none before it has set them up."""
    combined = trainer.fit_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def validation_loaders(trainer: Any) -> list[Any]:
    """The loaders that the validations of a fit read, in their order; none before it has set them up."""
    combined = trainer.fit_loop.epoch_loop.val_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def set_up_validation(trainer: Any) -> None:
    """Sets up the loaders of the validations of a fit: one that is not resumed has them since its sanity check."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.setup_data()
    trainer.training = True


def loader_mode(trainer: Any) -> str:
    """How the training loaders are combined: "min_size", "max_size_cycle" or "max_size"."""
    return str(trainer.fit_loop._combined_loader._mode)


def accumulation(trainer: Any) -> int | dict[int, int]:
    """Over how many batches gradients are accumulated; from which epochs on, where a callback schedules that."""
    schedules = [callback.scheduling for callback in callbacks_of(trainer, "GradientAccumulationScheduler")]
    return dict(schedules[0]) if schedules else int(trainer.accumulate_grad_batches)


def validation_interval(trainer: Any) -> int | float | str:
    """After how many batches, or which share of an epoch, there is a validation; in words, after how long."""
    seconds = getattr(trainer, "_val_check_time_interval", None)
    interval: int | float | str = trainer.val_check_interval if seconds is None else f"{seconds:g} seconds"
    return interval


def accumulated_in(trainer: Any, epoch: int) -> int:
    """Over how many batches gradients are accumulated in an epoch."""
    schedules = callbacks_of(trainer, "GradientAccumulationScheduler")
    return int(schedules[0].get_accumulate_grad_batches(epoch) if schedules else trainer.accumulate_grad_batches)


def batches_completed(trainer: Any) -> int:
    """The number of batches of the epoch that training has completed."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.completed)


def batches_processed(trainer: Any) -> int:
    """The number of batches of the epoch that were trained on: one more than completed, in the hooks after a batch."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)


def owes_plateau_steps(trainer: Any) -> bool:
    """Whether a fit goes on from a file that was written before the epoch's step of schedules that look at a metric."""
    return bool(trainer.fit_loop.resumed_on_epoch_end)


def step_plateaus(trainer: Any, interval: str) -> None:
    """Takes the step of the schedules that look at a metric: of a batch's, "step", or an epoch's end, "epoch"."""
    trainer.fit_loop.epoch_loop.update_lr_schedulers(interval, update_plateau_schedulers=True)


def end_restart(trainer: Any) -> None:
    """Lets an epoch that was gone on with end as any other: Lightning would leave out those schedules' step."""
    trainer.fit_loop._restarting = False


def count_validation_without_drawing(
    trainer: Any, generators: Callable[[], Any], restore: Callable[[Any], None]
) -> None:
    """Lightning begins a pass over the loaders of a validation that was done, to count it as such in a fit that is
    resumed; a `DataLoader` draws a random number then, which it did not in the fit that went on.

    Args:
        trainer: the fit's.
        generators: the state of all random generators.
        restore: lets them go on from there.
    """

    def without_drawing(count: Callable[[], None]) -> None:
        before = generators()
        count()
        restore(before)

    InPlaceOf(trainer.fit_loop.epoch_loop.val_loop, "increment_progress_to_evaluation_end", without_drawing)


def has_processed_epoch(trainer: Any) -> bool:
    """Whether an epoch has come to its end, and no other was begun."""
    progress = trainer.fit_loop.epoch_progress.current
    return bool(progress.processed == progress.started)


def begins_epoch(trainer: Any) -> bool:
    """Whether the hooks before an epoch are being called."""
    progress = trainer.fit_loop.epoch_progress.current
    return bool(progress.ready > progress.started)


def next_batch(trainer: Any) -> tuple[int, int]:
    """With which batch of which epoch a fit goes on when an epoch has come to its end, or the hooks before the next one
    are being called.

    Lightning counts an epoch that `max_steps` or early stopping has cut short as done.
    """
    epochs = int(trainer.fit_loop.epoch_progress.current.processed)
    is_read = begins_epoch(trainer) or has_read_epoch(trainer)
    return (epochs, 0) if is_read else (epochs - 1, batches_completed(trainer))


def has_read_epoch(trainer: Any) -> bool:
    """Whether all batches of the epoch are done."""
    is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return bool(is_last or batches_completed(trainer) >= trainer.num_training_batches)


def epoch_is_over(trainer: Any) -> bool:
    """Whether an epoch has come to its end, and was not cut short."""
    return has_processed_epoch(trainer) and not next_batch(trainer)[1]


def is_ahead(trainer: Any) -> bool:
    """Whether a batch has been fetched that has not been trained on: before a step, and in one."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(progress.ready > progress.processed)


def fetched_ahead(trainer: Any) -> int:
    """How many batches have been fetched that have not been trained on: of loaders without a length, one more."""
    fetcher = trainer.fit_loop._data_fetcher  # None when the fit has ended
    processed = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    return 0 if fetcher is None else max(0, int(fetcher.fetched - processed))


def in_step(trainer: Any) -> bool:
    """Whether a training step is being taken (or was, when it failed)."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(progress.started > progress.processed)


def is_accumulating(trainer: Any) -> bool:
    """Whether there are gradients that were not stepped with, of the batches trained on."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    return bool(batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches)


def in_middle_of_epoch(trainer: Any) -> bool:
    """Whether a fit that begins goes on in the epoch in which its checkpoint was written."""
    return bool(trainer.fit_loop.restarting and not trainer.fit_loop.restarted_on_epoch_start)


def begin_reading(trainer: Any) -> None:
    """Begins a pass over the training loaders, as Lightning does for each epoch."""
    iter(trainer.fit_loop._data_fetcher)


class InPlaceOf:
    """What is called in the place of a method of one object, until `undo`; copies of that object have its own."""

    def __init__(self, owner: Any, name: str, call: Callable[..., Any]) -> None:
        """
        Args:
            owner: of the method.
            name: of the method.
            call: gets the method, and what it is called with.
        """
        self.undo(owner, name)
        self.owner, self.name, self.call = owner, name, call
        self.before, self.method = owner.__dict__.get(name), getattr(owner, name)
        owner.__dict__[name] = self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.call(self.method, *arguments, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.owner, self.name)

    @staticmethod
    def undo(owner: Any, name: str) -> None:
        """Lets the object have its own method again."""
        if isinstance(now := owner.__dict__.get(name), InPlaceOf):
            del owner.__dict__[name]
            owner.__dict__.update({} if now.before is None else {name: now.before})


def metrics_to_choose_by(checkpoint: Any, trainer: Any) -> dict[str, Tensor]:
    """The metrics that a ModelCheckpoint has of a trainer now, with the epoch and the step."""
    found: dict[str, Tensor] = checkpoint._monitor_candidates(trainer)
    return found


def save_if_best(checkpoint: Any, trainer: Any, metrics: Mapping[str, Tensor]) -> None:
    """Has a ModelCheckpoint save the model, if these are the best metrics so far."""
    checkpoint._save_topk_checkpoint(trainer, metrics)


def call_before_best(checkpoint: Any, call: Callable[[Any, Mapping[str, Tensor]], None]) -> None:
    """Calls it with the trainer and the metrics before a ModelCheckpoint saves a model that is the best so far."""

    def update(method: Callable[..., Any], current: Tensor, trainer: Any, metrics: Mapping[str, Tensor]) -> None:
        call(trainer, metrics)
        method(current, trainer, metrics)

    InPlaceOf(checkpoint, "_update_best_and_save", update)


def call_before_epoch(trainer: Any, call: Callable[[], Any] | None) -> None:
    """Calls it before each epoch, when everything of the one before is done and logged; with None, no more."""
    call_before(trainer.fit_loop, "on_advance_start", call)


def call_before_batch(trainer: Any, call: Callable[[], Any] | None) -> None:
    """Calls it before each training batch is asked for; with None, no more."""
    call_before(trainer.fit_loop.epoch_loop, "advance", call)


def call_around_epochs_end(trainer: Any, before: Callable[[], Any] | None, after: Callable[[], Any]) -> None:
    """Calls them before and behind the hooks of each epoch's end; with None, no more."""

    def around(method: Callable[[], Any]) -> None:
        assert before is not None
        before()
        method()
        after()

    if before is None:
        InPlaceOf.undo(trainer.fit_loop, "on_advance_end")
    else:
        InPlaceOf(trainer.fit_loop, "on_advance_end", around)


def call_before_validation(trainer: Any, call: Callable[[], Any] | None) -> None:
    """Calls it before each validation of a fit begins a pass over its loaders; with None, no more."""
    call_before(trainer.fit_loop.epoch_loop.val_loop, "run", call)


def call_before(loop: Any, name: str, call: Callable[[], Any] | None) -> None:
    def with_call(method: Callable[..., Any], *arguments: Any) -> Any:
        assert call is not None
        call()
        return method(*arguments)

    if call is None:
        InPlaceOf.undo(loop, name)
    else:
        InPlaceOf(loop, name, with_call)


def is_restarting(trainer: Any) -> bool:
    """Whether a fit that is resumed has not done anything of its own yet."""
    return bool(trainer.fit_loop.epoch_loop.restarting)  # `fit_loop.restarting` is true until that epoch ends


def fetches_in_step(trainer: Any) -> bool:
    """Whether `training_step` takes the iterator over the training loaders (`dataloader_iter`) in place of a batch."""
    return type(trainer.fit_loop._data_fetcher).__name__ == "_DataLoaderIterDataFetcher"


def end_read_epoch(trainer: Any) -> None:
    """Lets an epoch end that is gone on with behind its last batch, if no validation is due.

    Lightning would ask for another batch, and get one of loaders that are begun again until the longest ends.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    if not is_ahead(trainer) and loop._num_ready_batches_reached() and not loop._should_check_val_fx(fetcher):
        fetcher.done = True


def reloaded_in(trainer: Any) -> int:
    """The epoch in which the training loaders were made (`reload_dataloaders_every_n_epochs`)."""
    return int(trainer.fit_loop._last_train_dl_reload_epoch)


def reloads_now(trainer: Any) -> bool:
    """Whether the training loaders are made again for the epoch that begins next."""
    return bool(trainer.fit_loop._should_reload_train_dl)


def set_reloaded_in(trainer: Any, epoch: int) -> None:
    """Lets the training loaders be made again so many epochs after this one; Lightning counts from where it resumes."""
    trainer.fit_loop._last_train_dl_reload_epoch = epoch


def load_late_places(trainer: Any) -> None:
    """Gives loaders their places if they were set up before the checkpoint was restored.

    `trainer.estimated_stepping_batches` does that in `configure_optimizers` (Lightning issue 20550).
    """
    if trainer.fit_loop.restarting and trainer.fit_loop._combined_loader_states_to_load:
        trainer.fit_loop._load_combined_loader_states()
        begin_reading(trainer)


def mend_totals_of_batches(trainer: Any) -> None:
    """Sets right how many batches have been read in all, when a fit is resumed from before one, of training or of a
    validation.

    Lightning takes back what was begun in the current count alone. With `check_val_every_n_epoch=None` it would
    validate a batch early for each time that the run was resumed; and a file that is written after the validation would
    be taken for one of its middle.
    """
    loop = trainer.fit_loop.epoch_loop
    for total in (loop.batch_progress.total, loop.val_loop.batch_progress.total):
        if total.ready == total.completed + 1 == total.started + 1 or total.started == total.processed + 1:
            total.ready = total.started = total.processed = total.completed


def count_epoch_begun(trainer: Any) -> None:
    """Counts the epoch as begun that a fit goes on at the start of, and the step before it, until `end_counting`.

    Lightning takes the epoch back and does not count it again, so that in all further files one epoch less had begun
    than ended: a fit that goes on from one of an epoch's end would take the next epoch for one that was read. The step
    is counted behind the hooks before the epoch, which would log one step too low.
    """
    fit_loop, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    if not fit_loop.restarted_on_epoch_start:
        return
    fit_loop.epoch_progress.current.ready = fit_loop.epoch_progress.current.started + 1
    if steps_at(trainer, trainer.current_epoch, 1):
        loop._batches_that_stepped += 1

        def once(reset: Callable[[], None]) -> None:
            loop._batches_that_stepped -= 1
            end_counting(trainer)
            reset()

        InPlaceOf(loop, "reset", once)


def end_counting(trainer: Any) -> None:
    """Ends what `count_epoch_begun` has begun."""
    InPlaceOf.undo(trainer.fit_loop.epoch_loop, "reset")


def count_batches_left_out(trainer: Any) -> None:
    """Between batches, counts those as done that were read and not trained on: a loader's None, and the one at which
    `on_train_batch_start` has skipped the rest of its epoch.

    Lightning leaves their counts unequal for the rest of the fit, and takes a file of it for one of the middle of a
    batch.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    for count in (progress.total, progress.current):
        count.started = count.processed = count.completed = count.ready


def averaged_models(trainer: Any) -> list[Any]:
    """What Lightning's `WeightAveraging` callbacks average into."""
    return [callback._average_model for callback in weight_averages(trainer)]


def weight_averages(trainer: Any) -> list[Any]:
    """Lightning's callbacks that put an average in the place of the weights for a validation, and at the end."""
    return [
        callback
        for callback in trainer.callbacks
        if getattr(callback, "_average_model", None) is not None and hasattr(callback, "_swap_models")
    ]


def put_weights_back(checkpoint: dict[str, Any]) -> None:
    """Changes a checkpoint of Lightning's `WeightAveraging` that is written in a validation, where the weights that are
    trained and their average have changed places."""
    trained, average = checkpoint["state_dict"], checkpoint["current_model_state"]
    checkpoint.update(state_dict=average, current_model_state=trained)


def callbacks_of(trainer: Any, kind: str) -> list[Any]:
    """The callbacks of a class of Lightning's, whichever copy of Lightning it is of."""
    return [callback for callback in trainer.callbacks if kind in (base.__name__ for base in type(callback).mro())]


def saves_on_exception(trainer: Any) -> bool:
    """Whether a callback of Lightning's writes a checkpoint where a step fails."""
    asked = any(getattr(callback, "save_on_exception", False) for callback in trainer.callbacks)
    return asked or bool(callbacks_of(trainer, "OnExceptionCheckpoint"))


def unfreezes(trainer: Any) -> bool:
    """Whether a callback of Lightning's decides which parameters are trained."""
    return bool(callbacks_of(trainer, "BaseFinetuning"))


def has_validated(trainer: Any) -> bool:
    """In a validation: whether all its batches are done."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    return bool(progress.is_last_batch and progress.current.completed == progress.current.ready)


def ends_trial(trainer: Any) -> bool:
    """Whether the checkpoint that is loaded puts a trainer back behind a trial of `lr_find` or `scale_batch_size`."""
    return Path(trainer.ckpt_path or "").name.startswith((".lr_find_", ".scale_batch_size_"))


def forget_validations(trainer: Any) -> None:
    """Lets a fit that goes on before a validation take it, where the same Trainer has taken others.

    Lightning takes one of an earlier fit for this one, and then gives the epochs no batches.
    """
    trainer.fit_loop.epoch_loop.val_loop._has_run = False


def leave_evaluation(trainer: Any, module: Any) -> None:
    """Puts the module's parts back in the mode that they had before a validation, when it fails or is interrupted.

    Lightning leaves them in eval mode, in which the same module would be trained then.
    """
    if current_stage(trainer) in ("validate", "sanity_check"):
        trainer.fit_loop.epoch_loop.val_loop._module_mode.restore(module)


def validates_to_stop(trainer: Any) -> bool:
    """Before a validation: whether it is taken only because a callback has told the trainer to stop."""
    loop, stops = trainer.fit_loop.epoch_loop, trainer.should_stop
    trainer.should_stop = False
    is_due = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    trainer.should_stop = stops
    return bool(stops and not is_due)


def is_failing(trainer: Any) -> bool:
    """Whether an exception is being handled."""
    return bool(trainer.state.status.value == "interrupted")


# Metrics


def logged_in_training(trainer: Any) -> dict[str, dict[str, Any]]:
    """What has been logged in the epoch, by the hook and the name: how, and the sums so far, or their like."""
    found = {}
    for key, result in trainer.fit_loop.epoch_loop._results.valid_items():
        how = result.meta
        names = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx")
        settings = {name: getattr(how, name) for name in (*names, "metric_attribute")}
        sync = {"sync_dist": how.sync.should, "rank_zero_only": how.sync.rank_zero_only}
        state = {
            name: value.detach().clone() for name in SUMS if isinstance(value := getattr(result, name, None), Tensor)
        }
        found[key] = {"settings": {**settings, **sync, "reduce_fx": how.reduce_fx.__name__}, "state": state}
    return found


SUMS = ("value", "cumulated_batch_size", "_forward_cache")  # of what is logged: the value may be a metric, too


def log_again(trainer: Any, module: Any, logged: Mapping[str, Mapping[str, Any]]) -> None:
    """Lets an epoch that is gone on with have what had been logged in it, as `logged_in_training` returned it."""
    results = trainer.fit_loop.epoch_loop._results
    for key, one in logged.items():
        name = one["settings"]["metric_attribute"]
        value = torch.zeros((), device=root_device(trainer)) if name is None else module.get_submodule(name)
        results.log(**one["settings"], value=value, batch_size=1, sync_dist_fn=trainer.strategy.reduce)
        for part, tensor in one["state"].items():
            setattr(results[key], part, tensor)
    trainer._logger_connector._first_loop_iter = True  # the next batch is not the first, which begins means anew


def modules_of(module: Any, name: str = "", seen: set[int] | None = None) -> list[tuple[str, Any]]:
    """As `module.named_modules()`, in a time that does not grow with what metrics have seen: the hash of a metric of
    torchmetrics, by which PyTorch tells modules apart, is that of each of its tensors."""
    seen = set() if seen is None else seen
    if id(module) in seen:
        return []
    seen.add(id(module))
    found = [(name, module)]
    for own, part in module._modules.items():
        found += [] if part is None else modules_of(part, f"{name}.{own}" if name else own, seen)
    return found


def parameters_of(module: Any, kind: str = "_parameters") -> list[tuple[str, Any]]:
    """As `module.named_parameters()`, by `modules_of`; with `kind="_buffers"`, as `module.named_buffers()`."""
    seen: dict[int, tuple[str, Any]] = {}
    for name, part in modules_of(module):
        for own, value in getattr(part, kind).items():
            if value is not None and id(value) not in seen:
                seen[id(value)] = (f"{name}.{own}" if name else own, value)
    return list(seen.values())


def metrics_of(module: Any) -> dict[str, Any]:
    """The metrics of torchmetrics that a module has, by name."""
    torchmetrics = sys.modules.get("torchmetrics")
    if torchmetrics is None:
        return {}
    parts = dict(modules_of(module))
    for part in parts.values():
        if isinstance(part, torchmetrics.MetricCollection):
            part.values(copy_state=False)  # gives metrics that are computed together each its state
    return {name: part for name, part in parts.items() if isinstance(part, torchmetrics.Metric)}


def metric_state(metric: Any) -> dict[str, Any]:
    """A copy of the state of a metric of torchmetrics, persistent or not: tensors, lists of them, counts, and the
    type of numbers that it is given, which Lightning changes."""
    found: dict[str, Any] = {}
    for name, value in vars(metric).items():
        if isinstance(value, Tensor):
            found[name] = value.detach().clone()
        elif name in metric._defaults:
            found[name] = list(value)
        elif (type(value) is int and name.startswith("_")) or name == "_dtype":
            found[name] = value
    return found


def is_begun(state: Mapping[str, Any]) -> bool:
    """Whether a metric has seen anything, by its state."""
    return bool(state["_update_count"])


def about_to_be_reset(trainer: Any) -> list[Any]:
    """The metrics that Lightning resets when the hooks of an epoch's or a validation's end have been called."""
    ended = [trainer.fit_loop.epoch_loop._results] if epoch_is_over(trainer) else []
    if current_stage(trainer) == "validate":
        ended.append(trainer.fit_loop.epoch_loop.val_loop._results)
    logged = [result for results in ended for result in results.values() if not result.has_reset]
    return [result.value for result in logged if not result.is_tensor]


# The hooks of an end: callbacks', then the module's; at an epoch's end, those that look at metrics come last

BEFORE_MODULE = ("on_train_batch_end", "on_validation_end")  # for callbacks that write checkpoints, too
ENDS = (*BEFORE_MODULE, "on_train_epoch_end")


def own_hook(part: Any, name: str) -> Any | None:
    """The hook of a callback or of a module, None for that of Lightning's base class, which does nothing."""
    hook = getattr(part, name)
    hook = hook.method if isinstance(hook, InPlaceOf) else hook
    return None if getattr(hook, "__qualname__", None) in (f"Callback.{name}", f"ModelHooks.{name}") else hook


def write_behind_module(trainer: Any, module: Any, writers: list[Any]) -> None:
    """Calls the hooks of callbacks that write checkpoints behind the module's of the same name, where it has one.

    So does Lightning at an epoch's end; else, what the module's hook changes would not be in the file.
    """
    for name in BEFORE_MODULE if writers else ():
        if own_hook(module, name) is not None:
            places = [InPlaceOf(writer, name, lambda method, *arguments, **named: None) for writer in writers]

            def and_write(method: Any, *arguments: Any, places: Any = tuple(places), **named: Any) -> Any:
                output = method(*arguments, **named)
                for place in places:
                    place.method(trainer, module, *arguments, **named)
                return output

            InPlaceOf(module, name, and_write)


def write_in_their_turn(module: Any, writers: list[Any]) -> None:
    """Ends `write_behind_module`."""
    for name in BEFORE_MODULE:
        for part in (module, *writers):
            InPlaceOf.undo(part, name)


def left_out(trainer: Any, module: Any) -> tuple[str, list[str]]:
    """Which hooks of an end a fit leaves out that is resumed from a checkpoint that is written now: those behind the
    one that writes it, or that failed, if they may change something.

    Returns:
        The hook, and the classes that have it.
    """
    failure = sys.exc_info()[2] if is_failing(trainer) else None
    walk = traceback.walk_stack(sys._getframe()) if failure is None else traceback.walk_tb(failure)
    for frame, _ in walk:
        values = frame.f_locals
        if values.get("hook_name") in ENDS and frame.f_code.co_name in (CALLS_CALLBACKS, CALLS_MODULE):
            break
    else:
        return "", []
    name, parts = values["hook_name"], []
    if frame.f_code.co_name == CALLS_CALLBACKS:
        callbacks = list(values["callbacks"])
        parts = callbacks[callbacks.index(values["callback"]) + 1 :]
        parts += [] if values["monitoring_callbacks"] else [module]
    if name == "on_train_epoch_end" and not values.get("monitoring_callbacks"):
        parts += callbacks_of(trainer, "EarlyStopping")
    return name, [type(part).__name__ for part in parts if may_change_something(part, name)]


CALLS_CALLBACKS, CALLS_MODULE = "_call_callback_hooks", "_call_lightning_module_hook"


def may_change_something(part: Any, name: str) -> bool:
    """Whether a callback's or a module's hook may change what a fit goes on with: of Lightning's own, those that have a
    state, and neither write checkpoints nor look at the clock."""
    hook = own_hook(part, name)
    if hook is None or hook.__module__.startswith("unroll.resume."):
        return False
    if not hook.__module__.startswith(("lightning.", "pytorch_lightning.")):
        return True
    kinds = {base.__name__ for base in type(part).mro()}
    if "EarlyStopping" in kinds:
        return bool(part._check_on_train_epoch_end) is (name == "on_train_epoch_end")
    return own_hook(part, "state_dict") is not None and not kinds & {"Checkpoint", "Timer"}


# Early stopping


def has_stopped(callback: Any) -> bool:
    """Whether an `EarlyStopping` has told the trainer to stop."""
    return bool(callback.stopping_reason.value)


def check_again(callback: Any, state: dict[str, Any], value: Tensor) -> tuple[bool, dict[str, Any]]:
    """The check by which an `EarlyStopping` told the trainer to stop, with the settings that it has now.

    Args:
        callback: with its present settings.
        state: what its `state_dict` was after that check.
        value: of the metric, at that check.

    Returns:
        Whether it stops the trainer again, and its `state_dict` after that.
    """
    again = copy(callback)
    again.load_state_dict(state)
    again.wait_count -= again.stopping_reason.name == "PATIENCE_EXHAUSTED"  # counted by that check
    again.stopping_reason, again.patience = callback.stopping_reason, callback.patience
    stops, _ = again._evaluate_stopping_criteria(value)
    return stops, again.state_dict()


# Processes, devices and precision


def root_device(trainer: Any) -> torch.device:
    """The device of this process."""
    device: torch.device = trainer.strategy.root_device
    return device


def reduce_over_processes(trainer: Any, values: Tensor, operation: str) -> Tensor:
    """The "sum", "mean" or "max" of each number over all processes, on the device of this one. Each must ask.

    Lightning's reduction is in place, so it is given a copy.
    """
    reduced: Tensor = trainer.strategy.reduce(values.to(root_device(trainer), copy=True), reduce_op=operation)
    return reduced


def true_in_any_process(trainer: Any, value: bool) -> bool:
    """Whether the value is true in at least one process. Each must ask."""
    return bool(trainer.strategy.reduce_boolean_decision(value, all=False))


def forward_context(trainer: Any) -> AbstractContextManager[Any]:
    """The context of a forward pass in the trainer's precision, for passes outside of its own steps."""
    context: AbstractContextManager[Any] = trainer.precision_plugin.forward_context()
    return context


def clips_without_scaling(trainer: Any) -> bool:
    """Whether gradients are clipped by `clip_gradients`: in mixed precision without a scaler, as bfloat16 is.

    Lightning refuses to clip for fused optimizers in any mixed precision, since they undo the scaling of gradients
    themselves; bfloat16 has no scaling.
    """
    from unroll.lightning import pl  # here, so that `CarriesState` alone imports no Lightning

    precision = trainer.precision_plugin
    return isinstance(precision, pl.plugins.MixedPrecision) and precision.scaler is None


def clip_gradients(trainer: Any, optimizer: Optimizer, value: float, algorithm: str | None) -> None:
    """Clips gradients that are not scaled, as Lightning does in full precision.

    Args:
        trainer: one for which `clips_without_scaling` is true.
        optimizer: of the parameters.
        value: the greatest norm, or the greatest value.
        algorithm: "norm" or "value"; None is "norm".
    """
    from unroll.lightning import pl

    kind = pl.utilities.GradClipAlgorithmType(algorithm or "norm")
    pl.plugins.Precision.clip_gradients(trainer.precision_plugin, optimizer, value, kind)


# The progress that a checkpoint notes


def has_progress(checkpoint: dict[str, Any]) -> bool:
    """Whether the checkpoint says how far training was; from one that does not, Lightning starts anew in silence."""
    return bool(checkpoint["loops"].get("fit_loop"))


def completed(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """The number of epochs that were completed, and of batches in the epoch after them."""
    fit_loop = checkpoint["loops"]["fit_loop"]
    epochs = fit_loop["epoch_progress"]["current"]["completed"]
    batches = fit_loop["epoch_loop.batch_progress"]["current"]["completed"]
    return epochs, batches


def batch_in_epoch(checkpoint: dict[str, Any]) -> int:
    """Behind which batch of an epoch a checkpoint stands; 0 at an epoch's start, and behind its last batch."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return 0 if progress["is_last_batch"] else int(progress["current"]["processed"])


def loader_states(checkpoint: dict[str, Any]) -> list[Any]:
    """What the training loaders returned from their `state_dict()`; changes to it change the checkpoint."""
    states: list[Any] = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
    return states


def set_before_batch(checkpoint: dict[str, Any], trainer: Any, epoch: int, batch: int) -> None:
    """Changes a checkpoint's progress to: so many epochs and batches are completed, and the next batch begins.

    Args:
        checkpoint: is changed.
        trainer: the one that made it.
        epoch: how many epochs are completed.
        batch: how many batches of the next epoch are. With 0 that epoch is about to begin, so that its hooks are called
            on resume.
    """
    fit_loop = checkpoint["loops"]["fit_loop"]
    for count in fit_loop["epoch_progress"].values():
        count.update(ready=epoch + 1, started=epoch + (batch > 0), processed=epoch, completed=epoch)
    batches = fit_loop["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for count, done in ((batches["total"], batches["total"]["completed"]), (batches["current"], batch)):
        count.update(ready=done + 1, started=done, processed=done, completed=done)
    if steps_at(trainer, epoch, batch + 1):
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning will add one on resume


def steps_at(trainer: Any, epoch: int, number: int) -> bool:
    """Whether an optimizer's step is taken at a batch of an epoch, which are counted from 1."""
    return number % accumulated_in(trainer, epoch) == 0 or number == trainer.num_training_batches


def set_before_validation(checkpoint: dict[str, Any]) -> None:
    """Changes a checkpoint's progress to: the validation that was cut short is about to begin."""
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    batches["is_last_batch"] = False
    for count in (batches["total"], batches["current"]):
        count.update(ready=1, started=1, processed=0, completed=0)


def is_behind_batch(trainer: Any) -> bool:
    """Whether the hooks after a training batch are being called."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(progress.processed == progress.completed + 1)


def set_behind_batch(checkpoint: dict[str, Any], trainer: Any) -> bool:
    """Changes the progress of a checkpoint that is written in the hooks after a batch, if no other batch follows: the
    validation, or the end of the epoch, is about to begin.

    From the file as it is, Lightning would leave them out, and give the next epoch no batches.

    Returns:
        Whether a fit that goes on from the file leaves out the batch's step of schedules that look at a metric; with a
        validation, it does not.
    """
    loop, fit_loop = trainer.fit_loop.epoch_loop, checkpoint["loops"]["fit_loop"]
    for count in ("total", "current"):  # a batch that is None is not started
        batches = fit_loop["epoch_loop.batch_progress"][count]
        batches["started"] = batches["ready"]
    validates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    if not validates and not loop._num_ready_batches_reached():
        return True
    for count in ("total", "current"):
        fit_loop["epoch_loop.batch_progress"][count]["completed"] += 1
    if validates:
        set_before_validation(checkpoint)
    elif not loop._should_accumulate():
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    return not validates


def look_for_last(trainer_type: type, is_last: Callable[[Any], bool]) -> None:
    """Makes `fit(ckpt_path="last")` of this Trainer find the files of other callbacks than `ModelCheckpoint`, too.

    Of several, it is the one with most steps.

    Args:
        trainer_type: `Trainer` of a copy of Lightning.
        is_last: whether a callback writes one, `path`.
    """
    connector = sys.modules[trainer_type.__module__]._CheckpointConnector
    parse = connector._parse_ckpt_path
    if getattr(parse, "looks_for_last", False):
        return

    @wraps(parse)
    def with_others(self: Any, state_fn: Any, ckpt_path: Any, **more: Any) -> Any:
        paths = [
            callback.path for callback in self.trainer.callbacks if is_last(callback) and os.path.exists(callback.path)
        ]
        if ckpt_path != "last" or not paths:
            return parse(self, state_fn, ckpt_path, **more)
        models = [
            callback for callback in self.trainer.checkpoint_callbacks if hasattr(callback, "_find_last_checkpoints")
        ]
        paths += [Path(path) for callback in models for path in callback._find_last_checkpoints(self.trainer)]
        return str(max(paths, key=lambda path: glance(path).get("global_step", -1)))  # a clock may have gone back

    with_others.looks_for_last = True  # type: ignore[attr-defined]
    connector._parse_ckpt_path = with_others


# Loggers


def opened_experiment(logger: Any) -> Any | None:
    """The writer or the run that a logger has opened; None if it has not, where `logger.experiment` would open it."""
    return logger._experiment


def forget_experiment(logger: Any) -> None:
    """Makes the logger open another writer or run when it is used next. The one it has is to be closed before."""
    logger._experiment = None
