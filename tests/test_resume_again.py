"""Fits one after the other with the same Trainer, module or callback, as in a notebook, and the files they leave."""

import os
import signal
from contextlib import suppress
from copy import deepcopy

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateFinder, ModelCheckpoint, OnExceptionCheckpoint
from torch import nn

from unroll import CarriesState, LastCheckpoint, Stream
from unroll.errors import UserError

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
pytestmark = pytest.mark.filterwarnings("ignore")


class Module(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.drop, self.head = nn.GRU(1, 4, batch_first=True), nn.Dropout(0.2), nn.Linear(4, 1)
        self.read = 0

    def loss(self, window):
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        return nn.functional.mse_loss(self.head(self.drop(outputs)), window.targets)

    def training_step(self, window, index):
        self.read += 1
        return self.loss(window)

    def validation_step(self, window, index):
        self.log("valid/loss", self.loss(window))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Stop(pl.Callback):
    """Raises an error, or presses Ctrl-C, the second time that a hook is called in a fit, and then no more."""

    def __init__(self, hook, how):
        self.count, self.how = 0, how
        setattr(self, hook, self.stop)

    def stop(self, trainer, *others):
        self.count += not trainer.sanity_checking
        if self.count == 2 and not trainer.sanity_checking:
            self.count += 1
            if self.how == "error":
                raise InterruptedError
            os.kill(os.getpid(), signal.SIGINT)


def stream():
    return Stream(list((torch.arange(90.0) * 0.3).sin().unsqueeze(1).split([30, 7, 13, 40])), 3, 10, shuffle=True)


def trainer_of(*callbacks, **settings):
    return pl.Trainer(**{**QUIET, "max_epochs": 2, **settings}, callbacks=list(callbacks))


def fitted(trainer, ckpt_path=None, module=None):
    torch.manual_seed(1 if ckpt_path else 0)
    module = module or Module()
    trainer.fit(module, stream(), stream(), ckpt_path=ckpt_path)
    return module


def same(module, other):
    return all(map(torch.equal, module.parameters(), other.parameters()))


@pytest.mark.parametrize("how", ["error", "Ctrl-C"])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start", "on_validation_batch_end"])
@pytest.mark.few(3)
def test_the_same_trainer_and_module_go_on_after_a_stop(hook, how, tmp_path):
    trainer, module = trainer_of(Stop(hook, how), LastCheckpoint(str(tmp_path), every_n_steps=1)), Module()
    begun = deepcopy(module)
    with pytest.raises((InterruptedError, SystemExit)):
        fitted(trainer, module=module)
    fitted(trainer, "last", module)
    assert same(fitted(trainer_of(LastCheckpoint(str(tmp_path / "whole"))), module=begun), module)


def test_nothing_of_a_fit_that_was_resumed_is_in_another_with_the_same_callback(tmp_path):
    whole = fitted(trainer_of(LastCheckpoint(str(tmp_path / "whole"))))
    last = LastCheckpoint(str(tmp_path))
    fitted(trainer_of(last))
    assert fitted(trainer_of(last), "last").read == 0
    assert same(whole, fitted(trainer_of(last)))


@pytest.mark.parametrize("resumed", [False, True])
def test_a_longer_file_is_kept_whatever_the_callback_did_before(resumed, tmp_path, recwarn):
    last = LastCheckpoint(str(tmp_path))
    fitted(trainer_of(last))
    if resumed:
        fitted(trainer_of(last), "last")
    for _ in range(2):
        fitted(trainer_of(last, max_epochs=1))
    steps = torch.load(tmp_path / "last.ckpt")["global_step"]
    fitted(trainer_of(last, max_epochs=1))
    kept = {path.name: torch.load(path)["global_step"] for path in tmp_path.glob("last-*")}
    assert kept == {
        f"last-{2 * steps}.ckpt": 2 * steps,
        f"last-{steps}.ckpt": steps,
        f"last-{steps}-v1.ckpt": steps,
    }
    said = [str(line.message) for line in recwarn if "so it is kept as" in str(line.message)]
    assert len(said) == 3


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "a\0b"])
def test_a_folder_that_cannot_be_made_is_refused_in_one_line_before_training(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    module = Module()
    with pytest.raises(UserError, match=r"^dirpath=.*: no folder for checkpoints \([^\n]*\)$"):
        fitted(trainer_of(LastCheckpoint(name)), module=module)
    assert module.read == 0


@pytest.mark.parametrize("name", [7, None, ["folder"], b"folder", "s3://bucket/run"])
def test_what_is_no_folders_name_is_refused_in_one_line(name):
    with pytest.raises(UserError, match=r"must be the name of a folder on a disk of this machine$"):
        LastCheckpoint(name)


class WithPath(Module):
    """Its files hold more than plain values, so they are only read by who trusts them."""

    def __init__(self, path):
        super().__init__()
        self.save_hyperparameters()


def test_a_file_that_cannot_be_read_safely_is_kept_by_a_new_fit_alone(tmp_path, recwarn):
    def fit(epochs, **settings):
        module, trainer = WithPath(tmp_path), trainer_of(LastCheckpoint(str(tmp_path)), max_epochs=epochs)
        trainer.fit(module, stream(), **settings)
        return module.read, len([*tmp_path.glob("last-unreadable*.ckpt")])

    (batches, _), _ = fit(1), recwarn.clear()
    assert fit(2, ckpt_path="last", weights_only=False) == (batches, 0)
    assert fit(3, ckpt_path=tmp_path / ".." / tmp_path.name / "last.ckpt", weights_only=False) == (batches, 0)
    assert not [line for line in recwarn if "was there" in str(line.message)]
    assert fit(1) == (batches, 1)
    (said,) = [str(line.message) for line in recwarn if "was there" in str(line.message)]
    assert "last.ckpt was there, which can't be read safely; this fit begins at step 0, so it is kept as" in said


def test_a_trial_of_one_batch_leaves_the_files_as_they_are(tmp_path):
    fitted(trainer_of(LastCheckpoint(str(tmp_path))))
    before = (tmp_path / "last.ckpt").read_bytes()
    fitted(trainer_of(LastCheckpoint(str(tmp_path), every_n_steps=1), fast_dev_run=2))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_two_of_them_are_refused_in_one_line(tmp_path):
    callbacks = [LastCheckpoint(str(tmp_path / name)) for name in "ab"]
    with pytest.raises(
        UserError, match=r"two LastCheckpoint callbacks \(\S*a/last.ckpt and \S*b/last.ckpt\): give it one"
    ):
        fitted(trainer_of(*callbacks))
    assert not list(tmp_path.iterdir())


def test_a_fit_that_was_resumed_before_an_epoch_leaves_files_of_its_ends(tmp_path):
    def fit(epochs, *callbacks, ckpt_path=None):
        return fitted(trainer_of(*callbacks, max_epochs=epochs), ckpt_path)

    whole = fit(3, ModelCheckpoint(tmp_path / "whole"))
    last, ends = str(tmp_path / "last"), ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    fit(1, LastCheckpoint(last))
    fit(2, LastCheckpoint(last), ends, ckpt_path="last")
    longer = fit(3, LastCheckpoint(str(tmp_path / "longer")), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert longer.read == whole.read / 3
    assert same(whole, longer)


def test_a_file_that_is_written_behind_a_validate_says_so(tmp_path, recwarn):
    trainer = trainer_of(LastCheckpoint(str(tmp_path)), max_epochs=1)
    module = fitted(trainer)
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    trainer.validate(module, stream(), verbose=False)
    trainer.save_checkpoint(tmp_path / "behind.ckpt")
    for file, lines in (("before.ckpt", 0), ("behind.ckpt", 1)):
        recwarn.clear()
        fitted(trainer_of(default_root_dir=tmp_path), tmp_path / file)
        assert sum("or behind a validate, test or predict" in str(line.message) for line in recwarn) == lines


class LogsBefore(pl.Callback):
    def __init__(self):
        self.steps = []

    def on_train_epoch_start(self, trainer, module):
        self.steps.append(trainer.fit_loop.epoch_loop._batches_that_stepped)


def test_what_is_logged_before_an_epoch_is_logged_at_its_step(tmp_path):
    """As by Lightning's LearningRateMonitor."""
    whole, before, resumed = LogsBefore(), LogsBefore(), LogsBefore()
    fitted(trainer_of(whole, default_root_dir=tmp_path / "whole"))
    fitted(trainer_of(before, LastCheckpoint(str(tmp_path)), max_epochs=1))
    trainer = trainer_of(resumed, LastCheckpoint(str(tmp_path)))
    fitted(trainer, "last")
    assert before.steps + resumed.steps == whole.steps
    assert "reset" not in vars(trainer.fit_loop.epoch_loop)


class FailsBefore(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            raise InterruptedError


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_fit_that_fails_twice_before_an_epoch_has_lost_nothing(epoch, tmp_path):
    writes, failed = OnExceptionCheckpoint(tmp_path, "failed"), tmp_path / "failed.ckpt"

    def loop(*callbacks, ckpt_path=None):
        trainer, module = trainer_of(*callbacks, writes), None
        with suppress(InterruptedError):
            module = fitted(trainer, ckpt_path)
        return module, trainer.fit_loop.epoch_loop._batches_that_stepped

    whole, steps = loop()
    loop(FailsBefore(epoch))
    loop(FailsBefore(epoch), ckpt_path=failed)
    resumed, steps_logged = loop(ckpt_path=failed)
    assert (resumed.read, steps_logged) == (whole.read * (2 - epoch) / 2, steps)
    assert same(whole, resumed)


@pytest.mark.parametrize("writer", [LastCheckpoint, lambda folder: ModelCheckpoint(folder, save_last=True)])
def test_a_finished_fit_that_is_resumed_has_the_average_of_its_weights(writer, tmp_path):
    def fit(ckpt_path=None):
        return fitted(trainer_of(EMAWeightAveraging(decay=0.5), writer(str(tmp_path))), ckpt_path)

    whole = fit()
    again = fit(tmp_path / "last.ckpt")
    assert again.read == 0
    assert same(whole, again)


def test_a_fit_that_looks_for_a_rate_first_is_resumed_without_that(tmp_path, monkeypatch):
    class WithRate(Module):
        lr = 1e-2

    def fit(*callbacks, ckpt_path=None):
        return fitted(trainer_of(*callbacks, LastCheckpoint(str(tmp_path))), ckpt_path, WithRate())

    monkeypatch.chdir(tmp_path)
    finder = LearningRateFinder(num_training_steps=5, early_stop_threshold=None)
    whole = fit(finder)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(UserError, match="with LearningRateFinder Lightning begins a fit anew that is to be resumed"):
        fit(finder, ckpt_path="last")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert (tmp_path / "last.ckpt").read_bytes() == before
    again = fit(ckpt_path="last")
    assert again.read == 0
    assert same(whole, again)
