"""What a checkpoint needs so that training goes on from it as if it had not stopped, whichever callback writes it."""

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unroll import kernels
from unroll.distributed import gathered
from unroll.errors import UserError
from unroll.precision import guard_lstms
from unroll.resume import lightning, metrics, settings
from unroll.resume.early_stopping import (
    EARLY_STOPS,
    STOPPED,
    early_stops,
    say_if_stopped_otherwise,
    stopped_otherwise,
    take_up_early_stops,
)
from unroll.resume.frozen import train_alike
from unroll.resume.loaders import (
    go_on,
    passes,
    places,
    put_back,
    put_before_batch,
    read_by,
    refuse_repeated,
    refuse_unsure,
    refuse_workers,
    say_that_workers_draw,
    workers_stay,
)
from unroll.resume.moment import (
    BeforeStep,
    Moment,
    has_changed,
    random_states,
    restore_random_states,
    unstepped_gradients,
)
from unroll.resume.order import give_order, order_of, take_order
from unroll.state import map_tensors

KERNELS = "kernels"  # the checkpoint's key: what its digits depend on
RANDOM_STATES = "random_state"  # the checkpoint's key: the random generators of each process
GRADIENTS = "gradients"  # those that were not yet stepped with, of each process
METRICS = "metrics"  # the latest of each, which callbacks and schedules look at
OWES_STEP = "owes_plateau_step"  # whether the batch's step of schedules that look at a metric is still to be taken
MEANS = "means"  # over the epoch so far, and the states of torchmetrics' metrics, of each process
READING = "reading"  # whether a pass over the training loaders had begun: a DataLoader draws a number for each
RELOADED = "reloaded"  # in which epoch the loaders were made
SETTINGS = "settings"  # what a place in an epoch depends on
BATCH = "batch"  # behind which the fit goes on in an epoch
TRAINED = "trained"  # which parameters are
SEEDS = "order_seeds"  # of the orders in which the loaders of each process read
FINDERS = ("LearningRateFinder", "BatchSizeFinder")
TORN = "torn"  # whether a part of a training step, or of the hooks of an end, was done
CHANGED = "changed_in_epochs_end"  # whether hooks of an epoch's end have changed weights in its middle
OF_A_FIT = ("resumed", "before", "averaged", "cut_short", "changed", "random_before_stop", "reading", "reloads")
PLACES = "places"  # of the training loaders: the epoch of each, and its batches that were trained on


class ResumesExactly:
    """Hooks of a Lightning callback: every checkpoint of a fit, whoever writes it, has what a fit that is resumed from
    it needs to end bit for bit like one that was never stopped; and each epoch of a stream is the trainer's.

    Raises:
        UserError: a stream's batches could not be the same again: a worker draws them, or several processes would all
            read the same ones.
    """

    resumed: dict[str, Any] | None = None  # what a checkpoint has of this, until training starts
    seed = 0  # of the orders in which loaders read
    before: Moment | None = None  # before the training step, or the validation, that is being taken
    averaged = False  # whether callbacks have put an average in the place of the weights, for a validation
    cut_short: BeforeStep | None = None  # before the hooks of an epoch's end, if they come in its middle
    changed = False  # whether those have changed weights then
    random_before_stop: dict[str, Any] | None = None  # before a validation that is taken because the fit is to stop
    reading: tuple[list[Any], list[Any]] | None = None  # before a validation: the places in training, and its passes
    sanity_steps = 0  # of validation, which a fit that is resumed does without: module hooks may change weights in them
    said = False  # what a checkpoint leaves out
    reloads = False  # whether a fit that is resumed begins with loaders that are made anew

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for name in OF_A_FIT:  # of one before, which may have ended anywhere
            vars(self).pop(name, None)
        if trainer.precision == "64-true":  # else weights are loaded as float32, and made float64 afterwards
            for module in (pl_module, *lightning.averaged_models(trainer)):
                trainer.precision_plugin.convert_module(module)
        if str(trainer.precision).endswith("-mixed"):
            guard_lstms(pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        resumed, self.resumed = self.resumed, None
        self._check_sanity_again(trainer)
        self.before, self.averaged = None, False
        loaders = lightning.train_loaders(trainer)
        refuse_repeated(loaders)
        for loader in loaders:
            refuse_unsure(loader, trainer.world_size)
        if resumed is not None:
            compare(trainer, resumed)
        seeds = [torch.initial_seed()] if resumed is None else resumed[SEEDS]
        self.seed = seeds[trainer.global_rank % len(seeds)]
        lightning.write_behind_module(trainer, pl_module, writers(trainer))
        lightning.call_before_epoch(trainer, partial(self.before_epoch, trainer, pl_module))
        lightning.call_before_batch(trainer, partial(self.before_batch, trainer, pl_module))
        lightning.call_around_epochs_end(
            trainer,
            partial(self._before_epochs_end, trainer, pl_module),
            partial(self._behind_epochs_end, pl_module),
        )
        lightning.call_before_validation(trainer, partial(self._before_validation, trainer, pl_module))
        for loader in loaders:
            take_order(loader)
            give_order(loader, self.seed, trainer)
        if resumed is not None:
            self._go_on(trainer, pl_module, resumed)
        elif any(map(order_of, loaders)):
            lightning.begin_reading(trainer)

    def _go_on(self, trainer: Any, pl_module: Any, resumed: dict[str, Any]) -> None:
        lightning.mend_totals_of_batches(trainer)
        lightning.count_epoch_begun(trainer)
        lightning.forget_validations(trainer)
        lightning.count_validation_without_drawing(
            trainer,
            partial(random_states, trainer, pl_module),
            partial(restore_random_states, trainer, pl_module),
        )
        lightning.load_late_places(trainer)
        trainer.callback_metrics.update(resumed[METRICS] or {})
        if lightning.owes_plateau_steps(trainer):
            lightning.step_plateaus(trainer, "epoch")
        goes_on = lightning.in_middle_of_epoch(trainer)
        lightning.set_reloaded_in(trainer, resumed[RELOADED] or 0)
        self.reloads = not goes_on and lightning.reloads_now(trainer)
        if goes_on:
            trainer.accumulate_grad_batches = lightning.accumulated_in(trainer, trainer.current_epoch)
            go_on(trainer, resumed[PLACES])
        if resumed[OWES_STEP]:
            lightning.step_plateaus(trainer, "step")
        staying = [loader for loader in lightning.train_loaders(trainer) if workers_stay(loader)]
        for loader in staying if not goes_on else ():
            say_that_workers_draw(loader)
        had_begun = bool(goes_on or resumed[READING] or staying)  # those draw a number for the first pass alone
        if had_begun and (not goes_on or any(map(order_of, lightning.train_loaders(trainer)))):
            lightning.begin_reading(trainer)
        rank, states = trainer.global_rank, resumed[RANDOM_STATES]
        if rank < len(states):
            restore_random_states(trainer, pl_module, states[rank])
        elif states:  # there was no such process
            restore_random_states(trainer, pl_module, states[0], new=rank)
        gradients = of_process(resumed[GRADIENTS], rank, trainer.world_size)
        for name, parameter in pl_module.named_parameters() if resumed[GRADIENTS] else ():
            gradient = gradients.get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter)
        if not had_begun and not self.reloads:
            lightning.begin_reading(trainer)
        metrics.go_on_with(trainer, pl_module, resumed[MEANS], goes_on)
        if goes_on:
            lightning.end_read_epoch(trainer)
        if resumed[SETTINGS] and resumed[SETTINGS]["precision"] != str(trainer.precision):
            convert_states(pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        for loader in lightning.train_loaders(trainer):
            give_order(loader, self.seed, trainer)
            if (order := order_of(loader)) is not None:
                order.first = 0  # after an epoch that was gone on with behind its last batch
            if (stream := read_by(loader)) is not None:
                stream.set_epoch(trainer.current_epoch)
        if self.reloads:
            self.reloads = False
            lightning.begin_reading(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        lightning.end_restart(trainer)

    def _before_epochs_end(self, trainer: Any, pl_module: Any) -> None:
        if not lightning.is_restarting(trainer):
            lightning.count_batches_left_out(trainer)
        self.cut_short = None if lightning.has_read_epoch(trainer) else BeforeStep(trainer, pl_module)

    def _behind_epochs_end(self, pl_module: Any) -> None:
        self.changed = self.cut_short is not None and has_changed(pl_module, self.cut_short)

    def before_epoch(self, trainer: Any, pl_module: Any) -> None:
        """What is done before the hooks of an epoch."""
        self.cut_short, self.changed, self.random_before_stop = None, False, None
        self.before = BeforeStep(trainer, pl_module) if lightning.saves_on_exception(trainer) else None

    def before_batch(self, trainer: Any, pl_module: Any) -> None:
        """What is done before a training batch is fetched, for which data sets may draw random numbers."""
        if not lightning.is_restarting(trainer):
            lightning.count_batches_left_out(trainer)
        self.random_before_stop = None
        self.before = BeforeStep(trainer, pl_module) if lightning.saves_on_exception(trainer) else None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if isinstance(self.before, BeforeStep):
            self.before.steps_begun += 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *others: Any) -> None:
        self.before = None

    def _before_validation(self, trainer: Any, pl_module: Any) -> None:
        self.before = Moment(trainer, pl_module)
        self.reading = places(trainer), passes(lightning.train_loaders(trainer))
        if lightning.validates_to_stop(trainer):
            self.random_before_stop = self.before.random

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        for loader in lightning.validation_loaders(trainer) if lightning.is_fitting(trainer) else ():
            refuse_workers(loader)
            stream = read_by(loader)
            if stream is not None:  # in the order of the epoch, however many passes were taken before a stop
                stream.set_epoch(trainer.current_epoch)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.averaged = bool(lightning.weight_averages(trainer))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.averaged = False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.before = None  # a file that is written now is of behind the validation, which is not repeated
        self._read_on()

    def _read_on(self) -> None:
        """Lets training go on where it was before a validation, which may have read the same streams."""
        if self.reading is not None:
            _, before = self.reading
            self.reading = None
            put_back(before)

    def _moment(self, trainer: Any, pl_module: Any) -> Moment:
        """The one that a checkpoint is of that is written now."""
        validates = lightning.current_stage(trainer) == "validate"
        ends = lightning.has_processed_epoch(trainer) and not lightning.begins_epoch(trainer)
        is_done = ends or lightning.is_behind_batch(trainer)
        if validates:
            is_done = lightning.has_validated(trainer) and not lightning.is_failing(trainer)
        if self.before is None or is_done:
            moment = Moment(trainer, pl_module)
            moment.random = self.random_before_stop or moment.random
            moment.metrics = self.cut_short.metrics if self.cut_short is not None else moment.metrics
            return moment
        return self.before

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if not lightning.is_fitting(trainer) or not lightning.train_loaders(trainer):
            return
        moment = self._moment(trainer, pl_module)
        if self.averaged:
            lightning.put_weights_back(checkpoint)
        if moment is self.before:
            moment.put_into(checkpoint, pl_module)
        if isinstance(moment, BeforeStep):
            torn, gradients = moment.is_past(trainer, pl_module), moment.gradients
        else:
            torn, gradients = lightning.in_step(trainer), unstepped_gradients(trainer, pl_module)
        hook, left_out = lightning.left_out(trainer, pl_module)
        if left_out and lightning.is_failing(trainer):
            torn = True
        elif left_out:
            self._say_what_is_left_out(hook, left_out)
        checkpoint[TORN], checkpoint[CHANGED] = torn, self.changed
        checkpoint[KERNELS] = kernels.record()
        checkpoint[RANDOM_STATES] = gathered(moment.random)
        checkpoint[MEANS] = gathered(metrics.moved(moment.metrics, "cpu"))
        checkpoint[GRADIENTS] = gathered(gradients)
        checkpoint[SETTINGS] = settings.of_trainer(trainer) | settings.of_loaders(trainer)
        checkpoint[TRAINED] = moment.trained
        checkpoint[SEEDS] = gathered(self.seed)
        checkpoint[PLACES] = places(trainer) if self.reading is None else self.reading[0]
        checkpoint[RELOADED] = lightning.reloaded_in(trainer)
        checkpoint[READING] = not lightning.has_processed_epoch(trainer)
        checkpoint[METRICS] = {name: value.cpu() for name, value in trainer.callback_metrics.items()}
        checkpoint[EARLY_STOPS] = early_stops(trainer)
        checkpoint[STOPPED] = stopped_otherwise(trainer)
        if lightning.has_processed_epoch(trainer):
            epoch, batch = lightning.next_batch(trainer)
            if batch or lightning.begins_epoch(trainer):
                put_before_batch(checkpoint, trainer, epoch, batch)
        elif isinstance(moment, BeforeStep) or lightning.is_ahead(trainer):
            put_before_batch(checkpoint, trainer, trainer.current_epoch, lightning.batches_completed(trainer))
        elif moment is self.before:
            lightning.set_before_validation(checkpoint)
        elif lightning.is_behind_batch(trainer):
            checkpoint[OWES_STEP] = lightning.set_behind_batch(checkpoint, trainer)

    def _say_what_is_left_out(self, hook: str, classes: list[str]) -> None:
        if not self.said:
            warnings.warn(
                f"a checkpoint is written in {hook} before the hooks of this name of {', '.join(classes)}: what they "
                f"change is not in it; a callback that derives from Lightning's Checkpoint is called behind them",
                stacklevel=2,
            )
        self.said = True

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if not lightning.is_fitting(trainer) or lightning.ends_trial(trainer):
            return
        batch = lightning.batch_in_epoch(checkpoint)
        refuse_torn(checkpoint)
        if checkpoint.get(CHANGED):
            warnings.warn(
                "the checkpoint is of a fit that was cut short in the middle of an epoch, where hooks of an epoch's "
                "end have changed weights already: this fit is not exactly the one that it was",
                stacklevel=2,
            )
        if RANDOM_STATES not in checkpoint:
            warnings.warn(
                "the checkpoint was written by a fit without CarriesState and LastCheckpoint, or behind a validate, "
                "test or predict of its Trainer: it has no random generators, nor a place in its loaders, so that this "
                "fit is not exactly the one that it was",
                stacklevel=2,
            )
        settings.compare(checkpoint.get(SETTINGS, {}), settings.of_trainer(trainer), batch)
        settings.say_if_validated_by_the_clock(trainer)
        refuse_begun_swa(trainer, checkpoint)
        refuse_pruning(trainer)
        refuse_finder(trainer)
        take_up_early_stops(trainer, checkpoint)
        say_if_stopped_otherwise(checkpoint)
        train_alike(pl_module, checkpoint.get(TRAINED, {}), trainer)
        if trainer.is_global_zero and KERNELS in checkpoint and (line := kernels.difference(checkpoint[KERNELS])):
            warnings.warn(line, stacklevel=2)
        keys = (RANDOM_STATES, GRADIENTS, READING, RELOADED, PLACES, METRICS, OWES_STEP, MEANS, SETTINGS)
        self.resumed = {key: checkpoint.get(key) or [] for key in keys}
        self.sanity_steps, trainer.num_sanity_val_steps = trainer.num_sanity_val_steps, 0
        self.resumed |= {BATCH: batch, SEEDS: checkpoint.get(SEEDS, [torch.initial_seed()])}

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if self.resumed is not None:  # nothing was left to train: Lightning has called no hook of a fit's end
            for average in lightning.weight_averages(trainer):
                average.on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if lightning.is_fitting(trainer):
            lightning.leave_evaluation(trainer, pl_module)
            self._read_on()
        self._let_go(trainer, pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._let_go(trainer, pl_module)
        for loader in lightning.train_loaders(trainer) if lightning.is_fitting(trainer) else ():
            take_order(loader)

    def _check_sanity_again(self, trainer: Any) -> None:
        trainer.num_sanity_val_steps, self.sanity_steps = self.sanity_steps or trainer.num_sanity_val_steps, 0

    def _let_go(self, trainer: Any, pl_module: Any) -> None:
        self._check_sanity_again(trainer)
        lightning.write_in_their_turn(pl_module, writers(trainer))
        lightning.call_before_epoch(trainer, None)
        lightning.call_before_batch(trainer, None)
        lightning.call_around_epochs_end(trainer, None, lambda: None)
        lightning.call_before_validation(trainer, None)
        lightning.end_counting(trainer)


def writers(trainer: Any) -> list[Any]:
    """The callbacks that write checkpoints in hooks of their own."""
    found = lightning.callbacks_of(trainer, "Checkpoint")
    return [callback for callback in found if not isinstance(callback, ResumesExactly)]


def compare(trainer: Any, resumed: dict[str, Any]) -> None:
    """Compares what is read with what the fit read that is resumed.

    Raises:
        UserError: the place in it would be another one, or a schedule goes wrong.
    """
    before, now = resumed[SETTINGS] or {}, settings.of_loaders(trainer)
    if resumed[BATCH] or not trainer.reload_dataloaders_every_n_epochs:
        settings.compare(before, now, resumed[BATCH])
    settings.refuse_other_length(trainer, before, settings.of_trainer(trainer) | now)


def refuse_torn(checkpoint: dict[str, Any]) -> None:
    """
    Raises:
        UserError: it was written when an optimizer had changed weights, or may have, in a step that did not end.
    """
    if checkpoint.get(TORN):
        raise UserError(
            "the checkpoint was written in the middle of a training step, of which a part was done, or of its hooks: "
            "resume from an earlier one, or begin a new fit with its weights"
        )


# Gradients, averages and states


def convert_states(module: Any) -> None:
    """Makes carried states numbers of the type that the module's weights have now."""
    dtype = next(parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    states = getattr(module, "states", {})
    for split, state in states.items():
        states[split] = map_tensors(state, lambda part: part.to(dtype) if part.is_floating_point() else part)


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


def refuse_pruning(trainer: Any) -> None:
    """
    Raises:
        UserError: Lightning's ModelPruning is at work, whose files have pruned weights without their masks.
    """
    if lightning.callbacks_of(trainer, "ModelPruning"):
        raise UserError(
            "ModelPruning leaves its masks out of checkpoints, so pruned weights would be trained again; fit with it "
            "in one go, or resume without it"
        )


def refuse_finder(trainer: Any) -> None:
    """
    Raises:
        UserError: a callback of Lightning's tries settings out first, and puts a checkpoint of its own in the place of
            the one that the fit is resumed from.
    """
    finders = [finder for name in FINDERS for finder in lightning.callbacks_of(trainer, name)]
    if finders:
        raise UserError(
            f"with {type(finders[0]).__name__} Lightning begins a fit anew that is to be resumed: leave it out; the "
            f"learning rate is in the checkpoint"
        )


def weights(module: Any) -> dict[str, Tensor]:
    """A copy of a module's parameters and buffers."""
    with torch.no_grad():
        return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
