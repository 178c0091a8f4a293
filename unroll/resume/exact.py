"""What a checkpoint needs so that training goes on from it as if it had not stopped, whichever callback writes it."""

import warnings
from typing import Any

import torch
from torch import Tensor

from unroll import kernels
from unroll.distributed import gathered
from unroll.errors import UserError
from unroll.resume import lightning, random_state, settings
from unroll.resume.settings import read_by
from unroll.state import map_tensors
from unroll.streams.resumable import Resumable

KERNELS = "kernels"  # the checkpoint's key: what its digits depend on
RANDOM_STATES = "random_state"  # the checkpoint's key: the random generators of each process
GRADIENTS = "gradients"  # those that were not yet stepped with, of each process
METRICS = "metrics"  # the latest of each, which callbacks and schedules look at
EARLY_STOPS = "early_stops"  # what has told the trainer to stop: the metric's value, and the callback's settings
EARLY_STOPPING_SETTINGS = ("patience", "min_delta", "check_finite", "stopping_threshold", "divergence_threshold")
READING = "reading"  # whether a pass over the training loaders had begun: a DataLoader draws a number for each
SETTINGS = "settings"  # what a place in an epoch depends on
BATCH = "batch"  # behind which the fit goes on in an epoch
PLACES = "places"  # of the training loaders: the epoch of each, and its batches that were trained on
TORCHDATA_COUNTS = {"_num_yielded", "_sampler_iter_yielded"}  # batches, in the state of its loader


class ResumesExactly:
    """Hooks of a Lightning callback: every checkpoint of a fit, whoever writes it, has what a fit that is resumed from
    it needs to end bit for bit like one that was never stopped; and each epoch of a stream is the trainer's.

    Raises:
        UserError: a stream's batches could not be the same again: a worker draws them, or several processes would all
            read the same ones.
    """

    resumed: dict[str, Any] | None = None  # what a checkpoint has of this, until training starts
    random_before: dict[str, Any] | None = None  # before the step or the validation that is being taken
    states_before: dict[str, Any] | None = None  # before the step
    gradients_before: dict[str, Tensor] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.precision == "64-true":  # else weights are loaded as float32, and made float64 afterwards
            for module in (pl_module, *lightning.averaged_models(trainer)):
                trainer.precision_plugin.convert_module(module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        for loader in lightning.train_loaders(trainer):
            refuse_unsure(loader, trainer.world_size)
        resumed, self.resumed = self.resumed, None
        if resumed is None:
            return
        now = settings.of_loaders(trainer)
        if resumed[BATCH] or not trainer.reload_dataloaders_every_n_epochs:
            settings.compare(resumed[SETTINGS] or {}, now, resumed[BATCH])
        settings.refuse_other_length(trainer, resumed[SETTINGS] or {}, settings.of_trainer(trainer) | now)
        if resumed[SETTINGS] and resumed[SETTINGS]["precision"] != str(trainer.precision):
            convert_states(pl_module)
        lightning.mend_total_of_batches(trainer)
        lightning.load_late_places(trainer)
        trainer.callback_metrics.update(resumed[METRICS] or {})
        if lightning.owes_plateau_steps(trainer):
            lightning.step_plateaus(trainer)
        goes_on = lightning.in_middle_of_epoch(trainer)
        if not goes_on and resumed[READING]:
            lightning.begin_reading(trainer)
        rank, random_states = trainer.global_rank, resumed[RANDOM_STATES]
        if rank < len(random_states):
            random_state.restore(random_states[rank])
        elif random_states:  # there was no such process
            random_state.branch(random_states[0], rank)
        gradients = of_process(resumed[GRADIENTS], rank, trainer.world_size)
        for name, parameter in pl_module.named_parameters() if resumed[GRADIENTS] else ():
            gradient = gradients.get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        loaders = lightning.train_loaders(trainer)
        if not goes_on and not resumed[READING]:
            lightning.begin_reading(trainer)
        elif goes_on and len(loaders) == len(resumed[PLACES]):
            for loader, place in zip(loaders, resumed[PLACES], strict=True):
                go_on(loader, place)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        for loader in lightning.train_loaders(trainer):
            stream = read_by(loader)
            if stream is not None:
                stream.set_epoch(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        lightning.end_restart(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if lightning.saves_on_exception(trainer):
            self.random_before = random_state.get()
            self.states_before = dict(getattr(pl_module, "states", {}))
            self.gradients_before = unstepped_gradients(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.random_before = random_state.get()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if not lightning.is_fitting(trainer) or not lightning.train_loaders(trainer):
            return
        in_step = lightning.in_step(trainer)
        if in_step and self.states_before is not None:
            pl_module.states.update(self.states_before)
        unfinished = in_step or lightning.current_stage(trainer) == "validate"
        random = self.random_before if unfinished and self.random_before is not None else random_state.get()
        gradients = (self.gradients_before or {}) if in_step else unstepped_gradients(trainer, pl_module)
        checkpoint[KERNELS] = kernels.record()
        checkpoint[RANDOM_STATES] = gathered(random)
        checkpoint[GRADIENTS] = gathered(gradients)
        checkpoint[SETTINGS] = settings.of_trainer(trainer) | settings.of_loaders(trainer)
        checkpoint[PLACES] = places(trainer)
        checkpoint[READING] = not lightning.has_processed_epoch(trainer)
        checkpoint[METRICS] = {name: value.cpu() for name, value in trainer.callback_metrics.items()}
        checkpoint[EARLY_STOPS] = early_stops(trainer)
        if in_step:
            before_batch(checkpoint, trainer, trainer.current_epoch, lightning.batches_completed(trainer))
        elif lightning.is_behind_batch(trainer):
            lightning.set_behind_batch(checkpoint, trainer)
        elif lightning.has_processed_epoch(trainer):
            epoch, batch = lightning.next_batch(trainer)
            if batch:
                before_batch(checkpoint, trainer, epoch, batch)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if lightning.is_fitting(trainer):
            batch = lightning.batch_in_epoch(checkpoint)
            settings.compare(checkpoint.get(SETTINGS, {}), settings.of_trainer(trainer), batch)
            refuse_begun_swa(trainer, checkpoint)
            take_up_early_stops(trainer, checkpoint)
            if KERNELS in checkpoint and (line := kernels.difference(checkpoint[KERNELS])) and trainer.is_global_zero:
                warnings.warn(line, stacklevel=2)
            keys = (RANDOM_STATES, GRADIENTS, READING, PLACES, METRICS, SETTINGS)
            self.resumed = {BATCH: batch, **{key: checkpoint.get(key) or [] for key in keys}}


# Loaders


def rows_per_process(trainer: Any) -> int | None:
    """The rows of a training batch that each process has; None if that is not known, or not the same of each loader."""
    streams = map(read_by, lightning.train_loaders(trainer))
    rows = {None if stream is None else getattr(stream, "batch_size", 0) // stream.shares for stream in streams}
    return rows.pop() if len(rows) == 1 else None


def plainly_read(loader: Any) -> Resumable | None:
    """The stream of a loader that keeps no place of its own, as torchdata's does."""
    return None if loader is not read_by(loader) and hasattr(loader, "load_state_dict") else read_by(loader)


def go_on(loader: Any, place: dict[str, int] | None) -> None:
    """Lets a loader go on in the middle of an epoch.

    Raises:
        UserError: a worker has been started, so it can't.
    """
    stream = plainly_read(loader)
    if stream is None or place is None:
        return
    if getattr(loader, "num_workers", 0) and place["batches"]:
        raise UserError(
            f"num_workers={loader.num_workers}: an epoch of a DataLoader with a worker can't be gone on with; use "
            f"num_workers=0, or torchdata's StatefulDataLoader"
        )
    stream.load_state_dict(place)
    # Lightning knows of loaders with a state_dict alone
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")


def refuse_unsure(loader: Any, processes: int) -> None:
    """
    Raises:
        UserError: a worker would draw the stream's order, or each of several processes would read all of it.
    """
    stream = read_by(loader)
    if stream is None:
        return
    workers = getattr(loader, "num_workers", 0)
    if workers and stream.draws:
        raise UserError(
            f"num_workers={workers}: a worker can't tell the epoch, and would repeat its order; use num_workers=0"
        )
    if processes > 1 and stream.shares != processes:
        raise UserError(
            f"the stream is read whole by each of {processes} processes; give each its rows: "
            f"stream.shard(trainer.global_rank, {processes}), in a train_dataloader hook"
        )


def places(trainer: Any) -> list[dict[str, int] | None]:
    """Where each training loader stands: behind the batches that were trained on."""
    batch, ahead = lightning.batches_completed(trainer), lightning.is_ahead(trainer)
    mode = lightning.loader_mode(trainer)
    found: list[dict[str, int] | None] = []
    for loader in lightning.train_loaders(trainer):
        stream = plainly_read(loader)
        found.append(None if stream is None else stream.state_dict())
        if found[-1] is not None and ahead:
            step_back(found[-1], batch, mode)
    return found


def before_batch(checkpoint: dict[str, Any], trainer: Any, epoch: int, batch: int) -> None:
    """Changes a checkpoint to one that was written before a batch: the progress, and the place of the loaders.

    Args:
        checkpoint: is changed.
        trainer: the one that made it.
        epoch: how many epochs are completed.
        batch: how many batches of the next epoch are.
    """
    lightning.set_before_batch(checkpoint, trainer, epoch, batch)
    for state in lightning.loader_states(checkpoint):
        if not batch:
            set_start(state, epoch)
        elif lightning.is_ahead(trainer):
            step_back(state, batch, lightning.loader_mode(trainer))


def set_start(state: Any, epoch: int) -> None:
    """Changes the state of a `Resumable`, or of a loader around it, to the one before an epoch."""
    if isinstance(state, dict):
        if set(state) == {"epoch", "batches"}:
            state.update(epoch=epoch, batches=0)
        state.update(dict.fromkeys(TORCHDATA_COUNTS & set(state), 0))
        for part in state.values():
            set_start(part, epoch)


def step_back(state: Any, batch: int, mode: str) -> None:
    """Changes the state of a `Resumable`, or of a loader around it, to the one before its latest batch.

    Args:
        state: is changed.
        batch: how many batches of the epoch were trained on.
        mode: of Lightning's `CombinedLoader`; in "max_size", one that has come to its end gives no more batches.
    """
    if not isinstance(state, dict):
        return
    counts = {"batches"} if set(state) == {"epoch", "batches"} else TORCHDATA_COUNTS & set(state)
    for name in counts:
        state[name] = min(batch, state[name]) if mode == "max_size" else max(0, state[name] - 1)
    for part in state.values():
        step_back(part, batch, mode)


# Early stopping


def early_stops(trainer: Any) -> dict[str, dict[str, Any]]:
    """What is to be known of each `EarlyStopping` that has told the trainer to stop, by its key in a checkpoint."""
    return {
        callback.state_key: {"value": trainer.callback_metrics.get(callback.monitor), "settings": settings_of(callback)}
        for callback in lightning.callbacks_of(trainer, "EarlyStopping")
        if trainer.should_stop and lightning.has_stopped(callback)
    }


def settings_of(early_stopping: Any) -> dict[str, Any]:
    return {name: getattr(early_stopping, name) for name in EARLY_STOPPING_SETTINGS}


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
        if stopped["settings"] != settings_of(callback) and stopped["value"] is not None:
            stops, states[key] = lightning.check_again(callback, state, stopped["value"].cpu())
        if stops:
            trainer.should_stop = True
            reason = str(state["stopping_reason_message"]).partition(". ")[0]
            warnings.warn(
                f"EarlyStopping of {callback.monitor} had ended this fit ({reason}): nothing more is trained; with "
                f"more patience, another threshold, or without it the fit goes on",
                stacklevel=2,
            )


# Gradients, averages and states


def convert_states(module: Any) -> None:
    """Makes carried states numbers of the type that the module's weights have now."""
    dtype = next(parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    states = getattr(module, "states", {})
    for split, state in states.items():
        states[split] = map_tensors(state, lambda part: part.to(dtype) if part.is_floating_point() else part)


def unstepped_gradients(trainer: Any, module: Any) -> dict[str, Tensor]:
    """Gradients that have been accumulated and not been stepped with."""
    if not lightning.is_accumulating(trainer):
        return {}
    return {
        name: parameter.grad.detach().cpu()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def of_process(gradients: list[dict[str, Tensor]], rank: int, processes: int) -> dict[str, Tensor]:
    """Those that a process goes on with: its own, or where there was another number of processes, the mean.

    Gradients are averaged over the processes at the step, so what all of them have counts as much as it did.
    """
    if len(gradients) == processes:
        return gradients[rank]
    names = {name for of_one in gradients for name in of_one}
    return {name: sum(of_one[name] for of_one in gradients if name in of_one) / len(gradients) for name in names}  # type: ignore[misc]


def refuse_begun_swa(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """
    Raises:
        UserError: Lightning's StochasticWeightAveraging has begun; its schedule is not taken up in the middle.
    """
    for name, state in checkpoint.get("callbacks", {}).items():
        if name.startswith("StochasticWeightAveraging") and state.get("scheduler_state") is not None:
            raise UserError(
                "the checkpoint was written after StochasticWeightAveraging had begun, which Lightning can't go on "
                "with exactly; resume from an earlier one, or train with WeightAveraging"
            )


def weights(module: Any) -> dict[str, Tensor]:
    """A copy of a module's parameters and buffers."""
    with torch.no_grad():
        return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
