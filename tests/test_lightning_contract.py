"""What the installed Lightning does where this project relies on what it does not document.

A failure ends in a sentence: what Lightning has changed, and which function of unroll/resume/lightning.py relies on it.
"""

import inspect
from copy import deepcopy
from functools import wraps

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.wrappers import Running

from unroll import LastCheckpoint, Stream
from unroll.resume import lightning, random_state
from unroll.training.learner import NEEDED_TO_RESUME, PROGRESS

COVERED = set()


def contract(function, fact):
    """A test of what a function of unroll/resume/lightning.py relies on.

    Args:
        function: that function.
        fact: what Lightning does, as a sentence.
    """
    COVERED.add(function.__name__)

    def decorate(test):
        @wraps(test)
        def with_sentence(*arguments, **named):
            try:
                return test(*arguments, **named)
            except Exception as error:
                raise AssertionError(
                    f"{error!r}\nIt does not hold in Lightning {pl.__version__} any more: {fact}. "
                    f"{function.__name__}() in unroll/resume/lightning.py relies on it."
                ) from error

        return with_sentence

    return decorate


BATCHES = 4


class Module(pl.LightningModule):
    """Trains on a stream of `BATCHES` windows, and calls `look(name of the hook, module)` in some hooks."""

    def __init__(self, look=lambda hook, module: None):
        super().__init__()
        self.layer, self.look = nn.Linear(1, 1), look

    def training_step(self, window, index):
        self.look(f"training_step {index}", self)
        loss = self.layer(window.inputs).square().mean()
        self.log("loss", loss)
        return loss

    def on_train_batch_start(self, window, index):
        self.look(f"on_train_batch_start {index}", self)

    def validation_step(self, window, index):
        self.look(f"validation_step {index}", self)

    def test_step(self, window, index):
        self.look("test_step", self)

    def predict_step(self, window, index):
        self.look("predict_step", self)

    def on_train_end(self):
        self.look("on_train_end", self)

    def configure_optimizers(self):
        self.look("configure_optimizers", self)
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Steps(Logger):
    """The steps under which Lightning logs."""

    name = version = None

    def __init__(self):
        super().__init__()
        self.steps = []

    def log_metrics(self, metrics, step=None):
        self.steps.append(step)

    def log_hyperparams(self, *arguments, **settings):
        pass


def stream():
    return Stream(torch.linspace(0, 1, 2 * BATCHES * 3 + 1).unsqueeze(1), batch_size=2, bptt=3, tail="drop")


def trainer_of(logger=False, **settings):
    settings = {"max_epochs": 1, "num_sanity_val_steps": 0, "accelerator": "cpu", "log_every_n_steps": 1, **settings}
    return pl.Trainer(
        logger=logger, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **settings
    )


def seen_in_fit(look, ckpt_path=None, logger=False, **settings):
    """What `look(hook, module)` returned in the hooks of a fit, as pairs with their names; the trainer."""
    seen = []
    trainer = trainer_of(logger, **settings)
    module = Module(lambda hook, module: seen.append((hook, look(hook, module))))
    trainer.fit(module, stream(), stream(), ckpt_path=ckpt_path, weights_only=True)
    return seen, trainer


@contract(lightning.attached_trainer, "a module's trainer is its attribute `_trainer`, None without one")
def test_attached_trainer():
    assert lightning.attached_trainer(Module()) is None
    with pytest.raises(RuntimeError):
        _ = Module().trainer
    seen, trainer = seen_in_fit(lambda hook, module: lightning.attached_trainer(module))
    assert {found for _, found in seen} == {trainer}


@contract(lightning.current_stage, "`trainer.state.stage.value` is the name of what the trainer is doing")
def test_current_stage():
    seen, trainer = seen_in_fit(lambda hook, module: lightning.current_stage(module.trainer), num_sanity_val_steps=1)
    stages = dict(seen)
    assert (stages["training_step 0"], stages["validation_step 0"]) == ("train", "validate")
    assert seen[1] == ("validation_step 0", "sanity_check")  # after configure_optimizers
    assert lightning.current_stage(trainer) is None
    module = Module(lambda hook, module: seen.append((hook, lightning.current_stage(module.trainer))))
    trainer.test(module, stream(), verbose=False)
    trainer.predict(module, stream())
    assert (dict(seen)["test_step"], dict(seen)["predict_step"]) == ("test", "predict")


@contract(lightning.is_fitting, '`trainer.state.fn` is "fit" in a fit and its validations, and in nothing else')
def test_is_fitting():
    seen, trainer = seen_in_fit(lambda hook, module: lightning.is_fitting(module.trainer))
    assert {found for _, found in seen} == {True}
    seen = []
    trainer.validate(Module(lambda hook, module: seen.append(lightning.is_fitting(trainer))), stream(), verbose=False)
    assert set(seen) == {False}


@contract(lightning.is_trial, "`trainer.fast_dev_run` is the number of batches that are tried, 0 or False for none")
def test_is_trial():
    assert [lightning.is_trial(trainer_of(fast_dev_run=batches)) for batches in (False, 0, True, 3)] == [0, 0, 1, 1]


class WithLoader(pl.LightningDataModule):
    def __init__(self, loader):
        super().__init__()
        self.loader = loader

    def train_dataloader(self):
        return self.loader


@contract(
    lightning.train_loader,
    "`trainer.fit_loop._data_source.dataloader()` returns the training loader while optimizers are configured, when "
    "`trainer.train_dataloader` is None",
)
@pytest.mark.parametrize("by", ["fit", "data module"])
def test_train_loader(by):
    loader, found = stream(), []

    def look(hook, module):
        if hook == "configure_optimizers":
            found.append((lightning.train_loader(module.trainer), module.trainer.train_dataloader))

    trainer_of(limit_val_batches=0).fit(Module(look), WithLoader(loader) if by == "data module" else loader)
    assert found == [(loader, None)]


@contract(
    lightning.batches_completed,
    "`trainer.fit_loop.epoch_loop.batch_progress.current.completed` counts the batches of the epoch",
)
@pytest.mark.parametrize(("settings", "expected"), [({"max_epochs": 2}, BATCHES), ({"max_steps": BATCHES + 1}, 1)])
def test_batches_completed(settings, expected):
    seen, _ = seen_in_fit(
        lambda hook, module: lightning.batches_completed(module.trainer), **{"max_epochs": -1} | settings
    )
    assert [found for hook, found in seen if hook.startswith("training_step")][:BATCHES] == [*range(BATCHES)]
    assert dict(seen)["on_train_end"] == expected


@contract(lightning.accumulation, "`GradientAccumulationScheduler.scheduling` says from which epoch on over how many")
@contract(lightning.accumulated_in, "`GradientAccumulationScheduler.get_accumulate_grad_batches(epoch)` is of an epoch")
def test_accumulation():
    scheduler = pl.callbacks.GradientAccumulationScheduler({1: 2})
    assert lightning.accumulation(trainer_of(accumulate_grad_batches=3)) == 3
    assert lightning.accumulation(trainer_of(callbacks=[scheduler])) == {0: 1, 1: 2}
    assert lightning.accumulated_in(trainer_of(accumulate_grad_batches=3), 1) == 3
    assert [lightning.accumulated_in(trainer_of(callbacks=[scheduler]), epoch) for epoch in (0, 1, 5)] == [1, 2, 2]


@contract(
    lightning.validation_interval, "`trainer._val_check_time_interval` is of seconds; without it, `val_check_interval`"
)
@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, 1.0), (3, 3), (0.5, 0.5), ("00:00:01:30", "90 seconds"), ({"hours": 1}, "3600 seconds")],
)
def test_validation_interval(given, expected):
    assert lightning.validation_interval(trainer_of(val_check_interval=given)) == expected


@contract(
    lightning.train_loaders,
    "`trainer.fit_loop._combined_loader.flattened` are the training loaders, None before they are set up",
)
def test_train_loaders():
    seen, _ = seen_in_fit(lambda hook, module: [*map(type, lightning.train_loaders(module.trainer))])
    assert dict(seen)["configure_optimizers"] == []
    assert dict(seen)["training_step 0"] == [Stream]


@contract(lightning.loader_mode, "`trainer.fit_loop._combined_loader._mode` says how loaders are combined")
def test_loader_mode():
    seen, _ = seen_in_fit(lambda hook, module: "_step" in hook and lightning.loader_mode(module.trainer))
    assert dict(seen)["training_step 0"] == "max_size_cycle"


@contract(
    lightning.count_validation_without_drawing,
    "`val_loop.increment_progress_to_evaluation_end` counts a validation as done, and begins a pass over its loaders",
)
@pytest.mark.parametrize("mended", [False, True])
def test_counting_a_validation(mended):
    drawn = []

    class Look(pl.Callback):
        def on_train_end(self, trainer, module):
            if mended:
                lightning.count_validation_without_drawing(trainer, random_state.get, random_state.restore)
            before = torch.get_rng_state()
            trainer.fit_loop.epoch_loop.val_loop.increment_progress_to_evaluation_end()
            drawn.append(not torch.equal(before, torch.get_rng_state()))

    rows = torch.utils.data.DataLoader(torch.zeros(3, 1), batch_size=None)
    trainer_of(callbacks=[Look()], limit_val_batches=1).fit(Module(), stream(), rows)
    assert drawn == [not mended]


@contract(lightning.is_ahead, "`batch_progress.current.ready` counts a batch when it is fetched, `processed` after it")
@contract(lightning.in_step, "`batch_progress.current.started` counts a batch when its step begins")
def test_where_a_step_is():
    seen, _ = seen_in_fit(lambda hook, module: (lightning.is_ahead(module.trainer), lightning.in_step(module.trainer)))
    found = dict(seen)
    assert (found["on_train_batch_start 2"], found["training_step 2"]) == ((True, False), (True, True))
    assert (found["validation_step 0"], found["on_train_end"]) == ((False, False), (False, False))


@contract(lightning.batches_processed, "`batch_progress.current.processed` counts a batch before the hooks behind it")
@contract(lightning.begins_epoch, "`epoch_progress.current.ready` counts an epoch before its first hooks")
def test_what_has_been_counted():
    found = []

    class Look(pl.Callback):
        def look(self, trainer, *arguments):
            found.append((lightning.batches_processed(trainer), lightning.begins_epoch(trainer)))

        on_train_batch_end = on_train_epoch_start = on_train_epoch_end = look

    trainer_of(callbacks=[Look()]).fit(Module(), stream())
    assert found == [(0, True), *((number, False) for number in range(1, BATCHES + 1)), (BATCHES, False)]


@contract(lightning.call_before, "a loop calls its methods by their names, so that one of its own takes their place")
@contract(lightning.call_before_epoch, "`fit_loop.on_advance_start` comes before the first hooks of an epoch")
@contract(lightning.call_around_epochs_end, "`fit_loop.on_advance_end` calls the hooks of an epoch's end")
@contract(lightning.has_read_epoch, "`batch_progress.is_last_batch` is false where an epoch was cut short")
@contract(lightning.call_before_batch, "`epoch_loop.advance` begins with asking for a batch")
@contract(lightning.call_before_validation, "`val_loop.run` begins a pass over the loaders of a validation")
@contract(lightning.fetched_ahead, "`data_fetcher.fetched` counts the batches of the epoch that were asked for")
@contract(lightning.has_validated, "`val_loop.batch_progress` counts the batches of a validation, and tells its last")
def test_what_is_called_before():
    found = []

    class Watch(pl.Callback):
        def on_train_start(self, trainer, module):
            lightning.call_before_epoch(trainer, lambda: found.append("epoch"))
            lightning.call_before_batch(
                trainer, lambda: found.append(("batch", lightning.fetched_ahead(trainer), trainer.fit_loop.restarting))
            )
            lightning.call_before_validation(trainer, lambda: found.append("validation"))
            lightning.call_around_epochs_end(
                trainer, lambda: found.append(lightning.has_read_epoch(trainer)), lambda: found.append("behind")
            )

        def on_train_epoch_end(self, trainer, module):
            found.append("end")

        def on_train_epoch_start(self, trainer, module):
            found.append("hook")

        def on_train_batch_start(self, trainer, module, window, index):
            found.append(lightning.fetched_ahead(trainer))

        def on_validation_batch_end(self, trainer, module, outputs, batch, index, loader=0):
            found.append(lightning.has_validated(trainer))

        def on_validation_end(self, trainer, module):
            found.append(lightning.has_validated(trainer))

    class Rows(torch.utils.data.Dataset):
        def __init__(self, name):
            self.name = name

        def __len__(self):
            return 2

        def __getitem__(self, index):
            found.append(self.name)
            return window

    (window, *_) = stream()
    loaders = [torch.utils.data.DataLoader(Rows(name), batch_size=None) for name in ("fetched", "valid")]
    trainer = trainer_of(callbacks=[Watch()])
    trainer.fit(Module(), *loaders)
    batch, validation = [("batch", 0, False), "fetched", 1], ["validation", "valid", False, "valid", False, True]
    assert found == ["epoch", "hook", *batch, *batch, *validation, True, "end", "behind"]
    assert lightning.fetched_ahead(trainer) == 0
    for stop in (lightning.call_before_epoch, lightning.call_before_batch, lightning.call_before_validation):
        stop(trainer, None)
    lightning.call_around_epochs_end(trainer, None, lambda: None)
    loops = trainer.fit_loop, trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_loop.val_loop
    assert not any({"on_advance_start", "on_advance_end", "advance", "run"} & vars(loop).keys() for loop in loops)


@contract(lightning.own_hook, "hooks that do nothing are those of `Callback` and `ModelHooks`")
@contract(
    lightning.write_behind_module, "callbacks' hooks of a batch's and a validation's end come before the module's"
)
@contract(
    lightning.write_in_their_turn, "callbacks' hooks of a batch's and a validation's end come before the module's"
)
@contract(lightning.may_change_something, "callbacks of Lightning's that go on with something have a `state_dict`")
@contract(lightning.left_out, "`_call_callback_hooks` calls callbacks one by one, and then the module's hook is called")
@pytest.mark.parametrize("behind", [False, True])
def test_what_is_left_out(behind):
    found = []

    class Look(pl.callbacks.Checkpoint):
        def look(self, trainer, module, *others):
            hook, classes = lightning.left_out(trainer, module)
            found.append((hook, *classes))

        on_train_batch_end = on_validation_end = on_train_epoch_end = on_train_batch_start = look

        def on_train_start(self, trainer, module):
            if behind:
                lightning.write_behind_module(trainer, module, [self])

        def on_train_end(self, trainer, module):
            lightning.write_in_their_turn(module, [self])

    class Hooked(Module):
        def on_train_batch_end(self, *others):
            found.append(self.look("module", self))

        on_validation_end = on_train_epoch_end = on_train_batch_end

    class Other(pl.Callback):
        def on_train_batch_end(self, *others):
            pass

    module, look = Hooked(lambda hook, module: hook), Look()
    behind_look = [pl.callbacks.EMAWeightAveraging(), Other(), pl.callbacks.Timer(), pl.callbacks.TQDMProgressBar()]
    trainer = trainer_of(limit_train_batches=1)
    trainer.callbacks = [look, *behind_look]
    trainer.fit(module, stream(), stream())
    at_train_end = ("on_train_batch_end", "EMAWeightAveraging", "Other", "Hooked")
    expected = {
        False: [("",), at_train_end, "module", ("on_validation_end", "Hooked"), "module", "module"],
        True: [("",), "module", at_train_end[:1], "module", ("on_validation_end",), "module"],
    }
    assert found[:-1] == expected[behind]
    assert found[-1] == ("on_train_epoch_end",)
    assert not {*lightning.ENDS} & (vars(module).keys() | vars(look).keys())


def test_what_is_left_out_where_a_hook_fails():
    found = []

    class Look(pl.Callback):
        def on_exception(self, trainer, module, exception):
            found.append(lightning.left_out(trainer, module))

    class Fails(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            raise InterruptedError

    stop = pl.callbacks.EarlyStopping("loss", check_on_train_epoch_end=True)
    with pytest.raises(InterruptedError):
        seen_in_fit(lambda hook, module: None, callbacks=[stop, Fails(), Look()])
    assert found == [("on_train_epoch_end", ["EarlyStopping"])]


@contract(lightning.reloaded_in, "`fit_loop._last_train_dl_reload_epoch` is the epoch in which loaders were made")
@contract(lightning.reloads_now, "`fit_loop._should_reload_train_dl` says whether loaders are made again")
@contract(lightning.set_reloaded_in, "loaders are made again when so many epochs have passed since that one")
def test_reloaded_in():
    made, found = [], []

    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            made.append(self.trainer.current_epoch)
            return stream()

    class Watch(pl.Callback):
        def on_train_start(self, trainer, module):
            found.append(lightning.reloads_now(trainer))
            lightning.set_reloaded_in(trainer, -2)
            found.append(lightning.reloads_now(trainer))

        def on_train_epoch_start(self, trainer, module):
            found.append(lightning.reloaded_in(trainer))

    settings = {"max_epochs": 4, "reload_dataloaders_every_n_epochs": 2, "limit_val_batches": 0}
    trainer_of(callbacks=[Watch()], **settings).fit(Module(), Data())
    assert (made, found) == ([0, 0, 2], [False, True, 0, 0, 2, 2])


@contract(lightning.fetches_in_step, "`dataloader_iter` in a `training_step` gets `_DataLoaderIterDataFetcher`")
def test_fetches_in_step():
    found = []

    class Fetches(Module):
        def training_step(self, dataloader_iter):
            found.append(lightning.fetches_in_step(self.trainer))
            return self.layer(next(dataloader_iter)[0].inputs).square().mean()

    trainer_of(limit_val_batches=0).fit(Fetches(), stream())
    seen, _ = seen_in_fit(lambda hook, module: lightning.fetches_in_step(module.trainer))
    assert (set(found), dict(seen)["training_step 0"]) == ({True}, False)


@contract(lightning.end_read_epoch, "a fetcher that is `done` ends the epoch")
@pytest.mark.parametrize("mended", [False, True])
def test_end_read_epoch(tmp_path, mended):
    shorter = Stream(torch.linspace(0, 1, 2 * 3 * 3 + 1).unsqueeze(1), batch_size=2, bptt=3, tail="drop")

    class Both(Module):
        def training_step(self, windows, index):
            return super().training_step(windows[0], index)

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, windows, index):
            if index == BATCHES - 1:
                trainer.save_checkpoint(tmp_path / "some.ckpt")

        def on_save_checkpoint(self, trainer, module, checkpoint):
            lightning.set_behind_batch(checkpoint, trainer)

    class GoOn(pl.Callback):
        def on_train_start(self, trainer, module):
            if mended:
                lightning.end_read_epoch(trainer)

    seen = []
    trainer_of(callbacks=[Save()]).fit(Both(), [stream(), shorter])
    look = Both(lambda hook, module: seen.append(hook))
    trainer_of(callbacks=[GoOn()]).fit(look, [stream(), shorter], ckpt_path=tmp_path / "some.ckpt", weights_only=True)
    assert any(hook.startswith("training_step") for hook in seen) is not mended


@contract(lightning.is_accumulating, "`batch_progress.current.processed` counts the batches whose gradients there are")
def test_is_accumulating():
    seen, _ = seen_in_fit(
        lambda hook, module: lightning.is_accumulating(module.trainer),
        accumulate_grad_batches=3, val_check_interval=2,
    )  # fmt: skip
    steps = [found for hook, found in seen if hook.startswith("training_step")]
    validations = [found for hook, found in seen if hook == "validation_step 0"]
    assert steps == [False, True, True, False]
    assert validations == [True, False]  # after the last batch, Lightning steps


@contract(lightning.saves_on_exception, "`OnExceptionCheckpoint` is what writes a checkpoint where a step fails")
@pytest.mark.parametrize(("saves", "expected"), [(None, True), (True, True), (False, False)])
def test_saves_on_exception(tmp_path, saves, expected):
    if saves is None:
        callback = pl.callbacks.OnExceptionCheckpoint(tmp_path)
    else:
        callback = pl.callbacks.ModelCheckpoint(tmp_path, save_on_exception=saves)
    assert lightning.saves_on_exception(pl.Trainer(logger=False, callbacks=[callback])) is expected
    assert not lightning.saves_on_exception(trainer_of())


@contract(lightning.unfreezes, "`BaseFinetuning` is what decides which parameters are trained")
def test_unfreezes():
    assert lightning.unfreezes(trainer_of(callbacks=[pl.callbacks.BackboneFinetuning()]))
    assert not lightning.unfreezes(trainer_of())


@contract(lightning.callbacks_of, "`EarlyStopping` is called so in every copy of Lightning")
@contract(lightning.has_stopped, "`EarlyStopping.stopping_reason` is an Enum that is 0 until it has told to stop")
@contract(
    lightning.check_again, "`EarlyStopping._evaluate_stopping_criteria(value)` counts `wait_count` and says whether"
)
def test_early_stopping():
    def found(**settings):
        callback = pl.callbacks.EarlyStopping("loss", min_delta=100, check_on_train_epoch_end=True, **settings)
        return callback, *lightning.callbacks_of(trainer_of(callbacks=[callback]), "EarlyStopping")

    callback, same = found(patience=2)
    assert callback is same
    assert not lightning.has_stopped(callback)
    _, trainer = seen_in_fit(lambda hook, module: None, max_epochs=5, callbacks=[callback])
    assert (trainer.current_epoch, lightning.has_stopped(callback)) == (3, True)
    value, state = trainer.callback_metrics["loss"], callback.state_dict()
    stops, after = lightning.check_again(callback, state, value)
    assert (stops, after) == (True, state)
    (patient, _), (of_threshold, _) = found(patience=3), found(patience=3, stopping_threshold=1e9)
    stops, after = lightning.check_again(patient, state, value)
    assert (stops, after["wait_count"], after["stopping_reason"]) == (False, 2, 0)
    assert lightning.check_again(of_threshold, state, value)[0]


@contract(lightning.validates_to_stop, "`_should_check_val_fx` says whether to validate, and looks at `should_stop`")
@pytest.mark.parametrize(("stops", "expected"), [(None, [False, False]), (1, [False, True]), (2, [False, False])])
def test_validates_to_stop(stops, expected):
    found = []

    class Stop(pl.Callback):
        def on_train_start(self, trainer, module):
            lightning.call_before_validation(trainer, lambda: found.append(lightning.validates_to_stop(trainer)))

        def on_train_batch_end(self, trainer, module, outputs, window, index):
            trainer.should_stop = trainer.should_stop or (trainer.current_epoch, index) == (1, stops)

    seen_in_fit(lambda hook, module: None, callbacks=[Stop()], max_epochs=2, val_check_interval=3)
    assert found == expected


@contract(lightning.epoch_is_over, "`batch_progress.is_last_batch` is false where an epoch was cut short")
@contract(lightning.has_processed_epoch, "`epoch_progress.current.processed` is `started` at an epoch's end")
@contract(lightning.next_batch, "`batch_progress.is_last_batch` is false where an epoch was cut short")
@pytest.mark.parametrize(("steps", "expected"), [(BATCHES + 1, (1, 1)), (2 * BATCHES, (2, 0))])
def test_the_end_of_an_epoch(steps, expected):
    seen, trainer = seen_in_fit(
        lambda hook, module: lightning.has_processed_epoch(module.trainer), max_epochs=-1, max_steps=steps
    )
    assert (dict(seen)["training_step 0"], dict(seen)["on_train_end"]) == (False, True)
    assert lightning.next_batch(trainer) == expected
    assert lightning.epoch_is_over(trainer) is not bool(expected[1])


@contract(lightning.owes_plateau_steps, "`fit_loop.resumed_on_epoch_end`: the file is of the hooks of an epoch's end")
@contract(lightning.step_plateaus, "`update_lr_schedulers(interval, update_plateau_schedulers=True)` steps those alone")
@contract(lightning.end_restart, "`fit_loop._restarting` leaves out their step in the epoch that is gone on with")
def test_schedules_that_look_at_a_metric(tmp_path):
    class WithSchedules(Module):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            lowered = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10)
            by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
            return [optimizer], [by_epoch, {"scheduler": lowered, "monitor": "loss"}]

    found = []

    class Look(pl.Callback):
        def on_train_start(self, trainer, module):
            if trainer.current_epoch:
                trainer.callback_metrics["loss"] = torch.tensor(1.0)
                before = trainer.optimizers[0].param_groups[0]["lr"]
                lightning.step_plateaus(trainer, "epoch")
                found.append((lightning.owes_plateau_steps(trainer), before, trainer.fit_loop._restarting))

        def on_train_epoch_end(self, trainer, module):
            lightning.end_restart(trainer)

    def fit(name, callbacks, ckpt_path=None):
        trainer = trainer_of(max_epochs=4, callbacks=callbacks)
        trainer.fit(WithSchedules(), stream(), ckpt_path=ckpt_path, weights_only=True)
        return trainer.optimizers[0].param_groups[0]["lr"]

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "end.ckpt")

        def on_train_batch_start(self, trainer, module, batch, index):
            if (trainer.current_epoch, index) == (2, 2):
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    whole = fit("whole", [Save()])
    assert fit("end", [Look()], tmp_path / "end.ckpt") == pytest.approx(whole)
    assert found[0][::2] == (True, False)
    fit("middle", [Look()], tmp_path / "middle.ckpt")
    assert found[1][::2] == (False, True)


@contract(lightning.weight_averages, "`WeightAveraging._swap_models` puts the average in the place of the weights")
@contract(lightning.averaged_models, "`WeightAveraging._average_model` is what is averaged into")
def test_averages():
    seen, _ = seen_in_fit(
        lambda hook, module: [
            (average.module.layer.weight.item(), module.layer.weight.item())
            for average in lightning.averaged_models(module.trainer)
        ],
        callbacks=[pl.callbacks.EMAWeightAveraging(decay=0.5)],
    )
    ((trained, average),) = dict(seen)["validation_step 0"]
    assert trained != average
    assert lightning.weight_averages(trainer_of()) == []


@contract(lightning.put_weights_back, "`WeightAveraging` saves the average as `state_dict`, others by another name")
def test_put_weights_back(tmp_path):
    class Save(pl.Callback):
        def on_validation_batch_start(self, trainer, module, *others):
            trainer.save_checkpoint(tmp_path / "validation.ckpt")

        def on_validation_epoch_end(self, trainer, module):
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    seen_in_fit(lambda hook, module: None, callbacks=[pl.callbacks.EMAWeightAveraging(decay=0.5), Save()])
    put_back, end = (torch.load(tmp_path / name, weights_only=True) for name in ("validation.ckpt", "end.ckpt"))
    lightning.put_weights_back(put_back)
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(tensor, end[part][name]) for name, tensor in put_back[part].items())


@contract(lightning.is_failing, "`trainer.state.status` tells where an exception is being handled")
def test_is_failing():
    found = []

    class Look(pl.Callback):
        def on_exception(self, trainer, module, exception):
            found.append(lightning.is_failing(trainer))

    def fail(hook, module):
        if hook == "training_step 1":
            found.append(lightning.is_failing(module.trainer))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        seen_in_fit(fail, callbacks=[Look()])
    assert found == [False, True]


class Logs(Module):
    """Logs a mean of two of the batches, and metrics of torchmetrics."""

    def __init__(self, look=lambda hook, module: None):
        super().__init__(look)
        self.mean, self.running = torchmetrics.MeanMetric(), Running(torchmetrics.SumMetric(), 2)
        self.parts = torchmetrics.MetricCollection([MulticlassAccuracy(2, average="micro"), MulticlassF1Score(2)])

    def training_step(self, window, index):
        if index in (0, 2):
            self.log("some", float(index), on_step=True, on_epoch=True, batch_size=index + 1)
        self.mean.update(index)
        self.running.update(index)
        self.parts.update(torch.tensor([index % 2]), torch.tensor([index % 3 % 2]))
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        self.log_dict(self.parts, on_step=False, on_epoch=True)
        return super().training_step(window, index)


@contract(lightning.logged_in_training, "`epoch_loop._results` has the sums of what is logged in the epoch")
@contract(
    lightning.log_again, "`_results.log(fx, name, value, …)` takes up what is logged; `_first_loop_iter` is reset"
)
@contract(lightning.metrics_of, "`MetricCollection.items()` gives metrics that are computed together each its state")
@contract(lightning.is_begun, "a metric counts what it has seen in `_update_count`")
@contract(lightning.metric_state, "what changes about a metric is a tensor, one of `_defaults`, or a private count")
@contract(lightning.about_to_be_reset, "`_results` has the metrics that are reset when an epoch's hooks were called")
def test_means_go_on():
    """Logged in one fit and taken up in another, for the second half of an epoch, they are those of the whole."""
    found, kept = {}, {}

    class Look(pl.Callback):
        def __init__(self, second=False):
            self.second = second

        def on_train_start(self, trainer, module):
            if self.second:
                for name, metric in lightning.metrics_of(module).items():
                    vars(metric).update(deepcopy(kept["states"][name]))
                lightning.log_again(trainer, module, kept["logged"])

        def on_train_batch_end(self, trainer, module, outputs, window, index):
            if index == 1 and not self.second:
                kept["logged"] = lightning.logged_in_training(trainer)
                kept["states"] = {
                    name: lightning.metric_state(metric) for name, metric in lightning.metrics_of(module).items()
                }
                assert lightning.is_begun(kept["states"]["mean"])
                assert not lightning.is_begun(lightning.metric_state(torchmetrics.MeanMetric()))
                assert lightning.about_to_be_reset(trainer) == []

        def on_train_epoch_end(self, trainer, module):
            found[self.second] = {**trainer.callback_metrics, "running": module.running.compute()}
            del found[self.second]["loss"]
            assert len(lightning.about_to_be_reset(trainer)) == 3

    class Second(Logs):
        def training_step(self, window, index):
            return super().training_step(window, index + 2)

    trainer_of(callbacks=[Look()]).fit(Logs(), stream())
    trainer_of(callbacks=[Look(second=True)], limit_train_batches=2).fit(Second(), stream())
    assert found[True] == found[False]
    assert (found[False]["some_epoch"], found[False]["mean"], found[False]["running"]) == (1.5, 1.5, 5)


@contract(lightning.look_for_last, '`_CheckpointConnector._parse_ckpt_path` finds what `ckpt_path="last"` means')
def test_look_for_last(tmp_path):
    module = Module()
    fit = {"max_epochs": 1, "logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    pl.Trainer(**fit, callbacks=[LastCheckpoint(str(tmp_path))]).fit(module, stream())
    trainer = pl.Trainer(**fit | {"max_epochs": 2}, callbacks=[LastCheckpoint(str(tmp_path))])
    trainer.fit(module, stream(), ckpt_path="last", weights_only=True)
    assert (trainer.global_step, trainer.fit_loop.epoch_progress.total.processed) == (2 * BATCHES, 2)


@contract(
    lightning.mend_totals_of_batches,
    "`batch_progress.total.ready` decides when to validate across epochs; that of `val_loop`, whether one goes on",
)
@contract(
    lightning.count_epoch_begun,
    "a fit that goes on before an epoch has `restarted_on_epoch_start`, and the `current.ready` of the epoch before; "
    "`epoch_loop.reset` counts a step in `_batches_that_stepped`",
)
@contract(lightning.end_counting, "`epoch_loop.reset` is called behind the hooks before an epoch")
@contract(lightning.steps_at, "an optimizer steps at each batch that `accumulate_grad_batches` divides, and the last")
@contract(lightning.in_middle_of_epoch, "`fit_loop.restarting` and `restarted_on_epoch_start` say where a fit goes on")
@contract(lightning.begin_reading, "`iter(fit_loop._data_fetcher)` begins a pass over the loaders")
@pytest.mark.parametrize("batch", [0, 2])
def test_going_on(tmp_path, batch):
    _, path = checkpoint_at(
        f"on_train_batch_start {batch}",
        tmp_path,
        lambda checkpoint, trainer: lightning.set_before_batch(checkpoint, trainer, epoch=1, batch=batch),
    )
    found = []

    class Look(pl.Callback):
        def on_train_start(self, trainer, module):
            before = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            lightning.mend_totals_of_batches(trainer)
            after = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            lightning.begin_reading(trainer)
            epochs = trainer.fit_loop.epoch_progress.current
            before_epoch = epochs.ready
            lightning.count_epoch_begun(trainer)
            found.append((lightning.in_middle_of_epoch(trainer), before, after, before_epoch, epochs.ready))
            assert [lightning.steps_at(trainer, 1, number) for number in (1, BATCHES)] == [True, True]
            assert ("reset" in vars(trainer.fit_loop.epoch_loop)) is (batch == 0)
            lightning.end_counting(trainer)
            assert "reset" not in vars(trainer.fit_loop.epoch_loop)

    seen_in_fit(lambda hook, module: None, path, max_epochs=2, callbacks=[Look()])
    done = BATCHES + batch
    assert found == [(batch > 0, done + 1, done, 1 + (batch > 0), 2)]


@contract(lightning.modules_of, "`_modules` are the parts of a module, by name; a part may come twice, or be None")
@contract(lightning.parameters_of, "`_parameters` and `_buffers` are its own")
def test_parts_of_a_module():
    module = nn.Sequential(
        nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2, bias=False)), torchmetrics.CatMetric()
    )
    module.append(module[0])
    module[1].register_module("none", None)
    assert lightning.modules_of(module) == [*module.named_modules()]
    for kind, named in (("_parameters", module.named_parameters()), ("_buffers", module.named_buffers())):
        ours, theirs = lightning.parameters_of(module, kind), [*named]
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        assert all(mine is other for (_, mine), (_, other) in zip(ours, theirs, strict=True))


@contract(lightning.is_restarting, "`epoch_loop.restarting` is true in the first batch of a fit that goes on, alone")
def test_is_restarting(tmp_path):
    _, path = checkpoint_at("on_train_batch_start 1", tmp_path)
    seen, _ = seen_in_fit(lambda hook, module: lightning.is_restarting(module.trainer), path, max_epochs=2)
    steps = [found for hook, found in seen if hook.startswith("training_step")]
    assert steps == [True, *[False] * (len(steps) - 1)]


@contract(
    lightning.count_batches_left_out,
    "`on_train_batch_start` that returns -1 counts its batch as `ready` and `processed`, not as `started`, `completed`",
)
@pytest.mark.parametrize("mended", [False, True])
def test_a_batch_that_skips_the_rest(mended):
    class Skips(Module):
        def on_train_batch_start(self, window, index):
            return -1 if index == 2 else None

        def on_train_epoch_end(self):
            if mended:
                lightning.count_batches_left_out(self.trainer)

    trainer = trainer_of(max_epochs=2)
    trainer.fit(Skips(), stream())
    total = trainer.fit_loop.epoch_loop.batch_progress.total
    counts = (6, 6, 6, 6) if mended else (6, 4, 6, 4)
    assert (total.ready, total.started, total.processed, total.completed) == counts


@contract(lightning.ends_trial, "the Tuner's own checkpoints are called `.lr_find_…` and `.scale_batch_size_…`")
@pytest.mark.parametrize("trial", ["lr_find", "scale_batch_size"])
def test_ends_trial(trial, tmp_path, monkeypatch):
    class Tuned(Module):
        lr, batch_size = 0.1, 2

    loads = []

    class Look(pl.Callback):
        def on_load_checkpoint(self, trainer, module, checkpoint):
            loads.append(lightning.ends_trial(trainer))

    trainer, module = trainer_of(max_epochs=2, default_root_dir=tmp_path, callbacks=[Look()]), Tuned()
    tuner, loader = Tuner(trainer), DataLoader(TensorDataset(torch.ones(8, 1)), 2)
    monkeypatch.setattr(Tuned, "training_step", lambda self, batch, index: self.layer(batch[0]).sum())
    settings = {"lr_find": {"num_training": 3}, "scale_batch_size": {"steps_per_trial": 1, "max_trials": 1}}[trial]
    module.train_dataloader = module.val_dataloader = lambda: loader
    getattr(tuner, trial)(module, **settings)
    trainer.fit(module, loader)
    assert loads
    assert all(loads)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    trainer.fit(module, loader, ckpt_path=tmp_path / "some.ckpt")
    assert not loads[-1]


@contract(lightning.forget_validations, "`val_loop._has_run` of an earlier fit ends the epoch before its validation")
def test_forget_validations():
    trainer = trainer_of(max_epochs=1)
    trainer.fit(Module(), stream(), stream())
    loop = trainer.fit_loop.epoch_loop
    loop.restarting = True
    assert loop.done
    lightning.forget_validations(trainer)
    assert not loop.done


@contract(lightning.leave_evaluation, "`val_loop._module_mode.restore` ends what a validation that fails leaves of it")
def test_leave_evaluation():
    modes = []

    class Look(pl.Callback):
        def on_validation_batch_start(self, *others):
            raise InterruptedError

        def on_exception(self, trainer, module, exception):
            modes.append(module.layer.training)
            lightning.leave_evaluation(trainer, module)
            modes.append(module.layer.training)

    with pytest.raises(InterruptedError):
        trainer_of(max_epochs=1, callbacks=[Look()]).fit(Module(), stream(), stream())
    assert modes == [False, True]


@contract(lightning.validation_loaders, "`val_loop._combined_loader.flattened` are the loaders of a fit's validations")
@contract(lightning.set_up_validation, "`val_loop.setup_data()` makes them while `trainer.validating`")
def test_validation_loaders():
    found = []

    class Look(pl.Callback):
        def on_train_start(self, trainer, module):
            found.append(lightning.validation_loaders(trainer))
            lightning.set_up_validation(trainer)
            found.append(lightning.validation_loaders(trainer))

    valid = stream()
    trainer_of(max_epochs=1, check_val_every_n_epoch=2, callbacks=[Look()]).fit(Module(), stream(), valid)
    assert found == [[], [valid]]


@contract(lightning.load_late_places, "`_combined_loader_states_to_load` is what loaders were not given in time")
@pytest.mark.parametrize("late", [False, True])
def test_load_late_places(tmp_path, late):
    _, path = checkpoint_at(
        "on_train_batch_start 2",
        tmp_path,
        lambda checkpoint, trainer: lightning.set_before_batch(checkpoint, trainer, epoch=1, batch=2),
    )
    state = torch.load(path, weights_only=True)
    lightning.loader_states(state)[0].update(epoch=1, batches=2)
    torch.save(state, path)
    found = []

    class Look(pl.Callback):
        def on_train_start(self, trainer, module):
            found.append(len(trainer.fit_loop._combined_loader_states_to_load))
            lightning.load_late_places(trainer)

        def on_train_batch_end(self, trainer, module, outputs, window, index):
            found.append(window.inputs[0, 0].item())

    def look(hook, module):
        if hook == "configure_optimizers" and late:
            assert module.trainer.estimated_stepping_batches == 2 * BATCHES

    seen_in_fit(look, path, max_epochs=2, callbacks=[Look()])
    assert found == [int(late), *(window.inputs[0, 0].item() for window in list(stream())[2:])]


@contract(lightning.root_device, "`trainer.strategy.root_device` is the device of the process")
def test_root_device():
    assert lightning.root_device(trainer_of()) == torch.device("cpu")


@contract(
    lightning.reduce_over_processes,
    '`trainer.strategy.reduce(tensor, reduce_op=)` takes "sum", "mean" and "max" (with several processes: '
    "tests/test_processes.py)",
)
@pytest.mark.parametrize("operation", ["sum", "mean", "max"])
def test_reduce_over_processes(operation):
    values = torch.tensor([1.0, 2.0])
    reduced = lightning.reduce_over_processes(trainer_of(), values, operation)
    assert torch.equal(reduced, values)
    assert reduced is not values
    assert "reduce_op" in inspect.signature(pl.strategies.DDPStrategy.reduce).parameters


@contract(lightning.true_in_any_process, "`trainer.strategy.reduce_boolean_decision(value, all=False)` is any()")
def test_true_in_any_process():
    assert lightning.true_in_any_process(trainer_of(), True) is True
    assert lightning.true_in_any_process(trainer_of(), False) is False
    assert "all" in inspect.signature(pl.strategies.DDPStrategy.reduce_boolean_decision).parameters


@contract(lightning.forward_context, "`trainer.precision_plugin.forward_context()` is the context of a forward pass")
def test_forward_context():
    with lightning.forward_context(trainer_of(precision="bf16-mixed")):
        assert nn.Linear(1, 1)(torch.ones(1, 1)).dtype == torch.bfloat16
    with lightning.forward_context(trainer_of()):
        assert nn.Linear(1, 1)(torch.ones(1, 1)).dtype == torch.float32


@contract(lightning.clips_without_scaling, "the precision of bf16-mixed is a `MixedPrecision` whose `scaler` is None")
def test_clips_without_scaling():
    assert lightning.clips_without_scaling(trainer_of(precision="bf16-mixed"))
    assert not lightning.clips_without_scaling(trainer_of())


@contract(
    lightning.clip_gradients,
    "`Precision.clip_gradients(precision, optimizer, value, algorithm)` clips, where `MixedPrecision` refuses to for "
    "fused optimizers",
)
@pytest.mark.parametrize(("algorithm", "expected"), [(None, [0.6, 0.8]), ("norm", [0.6, 0.8]), ("value", [1.0, 1.0])])
def test_clip_gradients(algorithm, expected):
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer, trainer = torch.optim.AdamW([weight], fused=True), trainer_of(precision="bf16-mixed")
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        trainer.precision_plugin.clip_gradients(optimizer, 1.0)
    lightning.clip_gradients(trainer, optimizer, 1.0, algorithm)
    torch.testing.assert_close(weight.grad, torch.tensor(expected), atol=1e-5, rtol=0)


# The progress that a checkpoint notes. What these functions are for, runs that are resumed exactly, is in test_carry.py
# and test_resume.py; here is what they find, and that each of their changes has its effect.


def checkpoint_at(place, folder, change=lambda checkpoint, trainer: None, **settings):
    """A checkpoint that is taken in a hook of the second epoch, and changed; the path of its file."""

    class Save(pl.Callback):
        def on_save_checkpoint(self, trainer, module, checkpoint):
            change(checkpoint, trainer)

    def save(hook, module):
        if hook == place and module.trainer.current_epoch == 1:
            module.trainer.save_checkpoint(folder / "some.ckpt")

    seen_in_fit(save, callbacks=[Save()], max_epochs=2, **settings)
    return torch.load(folder / "some.ckpt", weights_only=True), folder / "some.ckpt"


@contract(lightning.has_progress, '`checkpoint["loops"]["fit_loop"]` is the progress of training')
def test_has_progress(tmp_path):
    checkpoint, _ = checkpoint_at("on_train_batch_start 2", tmp_path)
    assert lightning.has_progress(checkpoint)
    assert not lightning.has_progress({"loops": {}})


@contract(
    lightning.has_progress, "a checkpoint has weights, loops, callbacks, optimizers and schedulers by these names"
)
def test_the_keys_of_a_checkpoint(tmp_path):
    checkpoint, _ = checkpoint_at("on_train_batch_start 2", tmp_path)
    assert {*NEEDED_TO_RESUME} - {PROGRESS} <= set(checkpoint)


@contract(
    lightning.completed,
    '`["epoch_progress"]["current"]["completed"]` and `["epoch_loop.batch_progress"]["current"]["completed"]` of a '
    "checkpoint's `fit_loop` count epochs, and the batches of the next",
)
def test_completed(tmp_path):
    checkpoint, _ = checkpoint_at("on_train_batch_start 2", tmp_path)
    assert lightning.completed(checkpoint) == (1, 2)


@contract(
    lightning.batch_in_epoch,
    '`["epoch_loop.batch_progress"]` of a checkpoint counts the batches of the epoch, and tells its last',
)
@pytest.mark.parametrize(("hook", "expected"), [("on_train_batch_start 2", 2), ("validation_step 0", 0)])
def test_batch_in_epoch(tmp_path, hook, expected):
    checkpoint, _ = checkpoint_at(hook, tmp_path)
    assert lightning.batch_in_epoch(checkpoint) == expected


@contract(
    lightning.loader_states,
    '`["state_dict"]["combined_loader"]` of a checkpoint\'s `fit_loop` has what each loader\'s `state_dict()` returned',
)
def test_loader_states(tmp_path):
    checkpoint, _ = checkpoint_at("on_train_batch_start 2", tmp_path)
    (state,) = lightning.loader_states(checkpoint)
    assert state.keys() == stream().state_dict().keys()


@contract(
    lightning.set_before_batch,
    "`epoch_progress`, `epoch_loop.batch_progress` and `_batches_that_stepped` of a checkpoint's `fit_loop` decide "
    "with which batch, and under which step of the loggers, a fit goes on",
)
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("batch", [0, 2])
def test_set_before_batch(tmp_path, batch, accumulated):
    logger, log_of_rest = Steps(), Steps()
    settings = {"accumulate_grad_batches": accumulated}
    whole, _ = seen_in_fit(lambda hook, module: module.trainer.current_epoch, logger=logger, max_epochs=2, **settings)

    counts = {"ready", "started", "processed", "completed"}

    def change(checkpoint, trainer):
        before = deepcopy(checkpoint["loops"]["fit_loop"])
        lightning.set_before_batch(checkpoint, trainer, epoch=1, batch=batch)
        after = checkpoint["loops"]["fit_loop"]
        for key in ("epoch_progress", "epoch_loop.batch_progress"):
            assert before[key].keys() == after[key].keys()
            for part in ("total", "current"):
                assert before[key][part].keys() == after[key][part].keys() == counts
        (state,) = lightning.loader_states(checkpoint)
        state.update(epoch=1, batches=batch)

    _, path = checkpoint_at(f"on_train_batch_start {batch}", tmp_path, change, **settings)
    rest, trainer = seen_in_fit(
        lambda hook, module: module.trainer.current_epoch, path, log_of_rest, max_epochs=2, **settings
    )
    start = whole.index((f"on_train_batch_start {batch}", 1))
    assert rest[1:] == whole[start:]  # configure_optimizers comes first
    assert log_of_rest.steps == logger.steps[-len(log_of_rest.steps) :]
    assert log_of_rest.steps[0] == (BATCHES + batch) // accumulated
    assert trainer.global_step == 2 * BATCHES // accumulated


@contract(
    lightning.set_before_validation,
    "`epoch_loop.val_loop.batch_progress` of a checkpoint's `fit_loop` decides whether a validation is run again",
)
def test_set_before_validation(tmp_path):
    whole, _ = seen_in_fit(lambda hook, module: None, max_epochs=2)
    _, path = checkpoint_at(
        "validation_step 2", tmp_path, lambda checkpoint, _: lightning.set_before_validation(checkpoint)
    )
    rest, _ = seen_in_fit(lambda hook, module: None, path, max_epochs=2)
    assert rest[1:] == whole[-len(rest) + 1 :]
    assert [hook for hook, _ in rest[1:]] == [
        *(f"validation_step {number}" for number in range(BATCHES)),
        "on_train_end",
    ]


@contract(lightning.is_behind_batch, "in the hooks after a batch it is processed, and not completed")
@contract(
    lightning.set_behind_batch, "`_should_check_val_fx` and `_num_ready_batches_reached` say what follows a batch"
)
@pytest.mark.parametrize("settings", [{}, {"limit_val_batches": 0}, {"val_check_interval": 2}])
@pytest.mark.parametrize("batch", [0, 1, BATCHES - 1])
def test_set_behind_batch(tmp_path, batch, settings):
    class Save(pl.Callback):
        found = False

        def on_train_batch_end(self, trainer, module, outputs, window, index):
            if (trainer.current_epoch, index) == (1, batch):
                trainer.save_checkpoint(tmp_path / "some.ckpt")

        def on_save_checkpoint(self, trainer, module, checkpoint):
            self.found = lightning.is_behind_batch(trainer)
            lightning.set_behind_batch(checkpoint, trainer)

        def on_train_epoch_start(self, trainer, module):
            lightning.train_loaders(trainer)[0].set_epoch(trainer.current_epoch)

    save, logger, log_of_rest = Save(), Steps(), Steps()
    whole, _ = seen_in_fit(lambda hook, module: None, logger=logger, max_epochs=3, callbacks=[save], **settings)
    assert save.found
    rest, _ = seen_in_fit(
        lambda hook, module: None, tmp_path / "some.ckpt", log_of_rest, max_epochs=3, callbacks=[Save()], **settings
    )
    assert rest[1:] == whole[-len(rest) + 1 :]
    assert sum(hook.startswith("training_step") for hook, _ in rest) == 2 * BATCHES - 1 - batch
    assert log_of_rest.steps == logger.steps[-len(log_of_rest.steps) :]


@contract(lightning.opened_experiment, "a logger's `_experiment` is None until `experiment` opens one")
def test_opened_experiment(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    assert lightning.opened_experiment(logger) is None
    writer = logger.experiment
    assert lightning.opened_experiment(logger) is writer
    writer.close()


@contract(lightning.forget_experiment, "a logger whose `_experiment` is None opens another one")
def test_forget_experiment(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    first = logger.experiment
    first.close()
    lightning.forget_experiment(logger)
    assert lightning.opened_experiment(logger) is None
    assert logger.experiment is not first
    logger.experiment.close()


@contract(lightning.opened_experiment, "the logger of Weights & Biases keeps its run in `_experiment`")
def test_the_experiment_of_wandb(tmp_path):
    pytest.importorskip("wandb")
    assert lightning.opened_experiment(pl.loggers.WandbLogger(save_dir=tmp_path, offline=True)) is None


@contract(lightning.metrics_to_choose_by, "a ModelCheckpoint's `_monitor_candidates` has the metrics that were logged")
@contract(lightning.save_if_best, "its `_save_topk_checkpoint` saves a model whose metrics are the best so far")
@contract(lightning.call_before_best, "it calls its `_update_best_and_save` when it saves one")
def test_the_best_checkpoint(tmp_path):
    checkpoint, seen = pl.callbacks.ModelCheckpoint(tmp_path, monitor="loss"), []
    saved = lambda: len([*tmp_path.glob("*.ckpt")])  # noqa: E731

    class Offer(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            metrics = lightning.metrics_to_choose_by(checkpoint, trainer)
            assert {"loss", "epoch", "step"} <= metrics.keys()
            for loss in (1e-9, 2e-9):
                lightning.save_if_best(checkpoint, trainer, {**metrics, "loss": torch.tensor(loss)})

    lightning.call_before_best(checkpoint, lambda trainer, metrics: seen.append((metrics["loss"].item(), saved())))
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(**settings, enable_model_summary=False, callbacks=[Offer(), checkpoint])
    trainer.fit(Module(), stream())
    assert seen == [(pytest.approx(1e-9), 0)]
    assert saved() == 1
    assert checkpoint.best_model_score.item() == pytest.approx(1e-9)


def test_names_that_other_modules_of_unroll_resume_rely_on(tmp_path):
    """In early_stopping.py, exact.py and order.py."""
    stopping = pl.callbacks.EarlyStopping("loss").state_dict()
    assert {"patience", "wait_count", "stopping_reason", "stopping_reason_message"} <= stopping.keys()
    assert pl.callbacks.StochasticWeightAveraging(swa_lrs=0.1).state_dict()["scheduler_state"] is None
    loader = torch.utils.data.DataLoader(stream(), batch_size=None)
    assert loader._iterator is None
    found = []

    def look(hook, module):
        if hook == "training_step 0":
            module.trainer.callback_metrics["given"] = torch.tensor(1.0)
        found.append("given" in module.trainer.callback_metrics)

    seen_in_fit(look)
    assert found[-1]


def test_every_function_has_a_contract():
    functions = inspect.getmembers(lightning, inspect.isfunction)
    assert {name for name, function in functions if function.__module__ == lightning.__name__} == COVERED


def test_a_failure_ends_in_a_sentence(monkeypatch):
    monkeypatch.setattr(lightning, "train_loader", lambda trainer: trainer.fit_loop._data_source.another_name())
    with pytest.raises(AssertionError) as caught:
        test_train_loader("fit")
    *_, sentence = str(caught.value).splitlines()
    assert sentence.endswith("train_loader() in unroll/resume/lightning.py relies on it.")
    assert "`trainer.fit_loop._data_source.dataloader()` returns the training loader" in sentence
