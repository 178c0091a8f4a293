"""What Lightning's users combine, stopped and resumed: the same windows, validations and weights, bit for bit.

The cases are generated; a few are run by default, all of them by `pytest -m slow -k every_combination`.
"""

import itertools
import os
import pickle
import random
import shutil
import signal
import warnings
from copy import deepcopy
from datetime import timedelta
from functools import cache, partial

import numpy
import pytest
import pytorch_lightning as pl
import torch
from helpers.processes import server
from pytorch_lightning.callbacks import (
    BaseFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    Timer,
)
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.wrappers import Running

from unroll import CarriesState, LastCheckpoint, Stream
from unroll.errors import UserError

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
EPOCHS = 3


def waves(steps, shift=0.0):
    return (torch.arange(float(steps)) * 0.3 + shift).sin().unsqueeze(1)


def series(**settings):
    return Stream(waves(240), 4, 6, **settings)


def documents():
    return Stream(list(waves(250).split([90, 7, 33, 64, 2, 45, 9])), 3, 10, shuffle=True)


def independent():
    """Windows by their number, as a data set of Lightning's usual kind has rows: none continues another."""
    return [window._replace(starts=torch.ones_like(window.starts)) for window in series()]


LOADERS = {
    "series": series,
    "jitter": partial(series, jitter=True),
    "documents": documents,
    "loader": lambda: DataLoader(documents(), batch_size=None),
    "rows": lambda: DataLoader(independent(), batch_size=None, shuffle=True),
    "stateful rows": lambda: StatefulDataLoader(independent(), batch_size=None, shuffle=True),
    "stateful loader": lambda: StatefulDataLoader(documents(), batch_size=None),
    "dict": lambda: {"a": documents(), "b": Stream(waves(100, 2), 4, 6)},
    "min_size": lambda: CombinedLoader([documents(), Stream(waves(200, 2), 4, 6)], "min_size"),
    "max_size": lambda: CombinedLoader({"a": documents(), "b": Stream(waves(100, 2), 4, 6)}, "max_size"),
}


class Unfreeze(BaseFinetuning):
    def freeze_before_training(self, module):
        self.freeze(module.rnn)

    def finetune_function(self, module, epoch, optimizer):
        if epoch == 1:
            self.make_trainable(module.rnn)


class Counts(pl.Callback):
    """Counts steps and epochs before each, and sets a rate by them."""

    def __init__(self):
        self.steps = self.epochs = 0

    def on_train_epoch_start(self, trainer, module):
        self.epochs += 1

    def on_train_batch_start(self, trainer, *others):
        self.steps += 1
        for group in trainer.optimizers[0].param_groups:
            group["lr"] += 1e-4 * (self.steps % 5 + self.epochs)

    def state_dict(self):
        return {"steps": self.steps, "epochs": self.epochs}

    def load_state_dict(self, state):
        self.steps, self.epochs = state["steps"], state["epochs"]


CALLBACKS = {
    "hooks": lambda: [Counts()],
    "no callback": list,
    "skipping": list,
    "unfreezing": lambda: [Unfreeze()],
    "ema": lambda: [EMAWeightAveraging(decay=0.9)],
    "early stopping": lambda: [EarlyStopping("valid/batches", mode="max", strict=False, stopping_threshold=20.5)],
}
STEPS = {
    "each": {},
    "accumulated": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1},
    "scheduled": {"gradient_clip_val": 0.1},
}
MAX_STEPS = {"each": 9, "accumulated": 3, "scheduled": 13}
PRECISIONS = {"32": {}, "bf16": {"precision": "bf16-mixed"}, "64": {"precision": "64-true"}}
VALIDATIONS = {
    "epochs": {},
    "within": {"val_check_interval": 4},
    "across": {"val_check_interval": 7, "check_val_every_n_epoch": None},
}
# Who writes the file, where the fit is stopped, and how; and whether at a batch that a validation follows.
STOPS = {
    "last, in a step": ("last", "step", "exception", False),
    "last, in a step behind a validation": ("last", "step", "exception", True),
    "last, after a step": ("last", "between", "exception", False),
    "last, SIGTERM": ("last", "between", "SIGTERM", False),
    "last, SIGTERM in a validation": ("last", "validation", "SIGTERM", False),
    "last, SIGKILL": ("last", "between", "SIGKILL", False),
    "last, SIGKILL in a validation": ("last", "validation", "SIGKILL", False),
    "last, at an epoch's end": ("last", "epoch end", "exception", False),
    "last, max_steps": ("last", None, "max_steps", False),
    "last, max_time": ("last", "between", "max_time", False),
    "last, fewer epochs": ("last", None, "max_epochs", False),
    "every step": ("steps", "step", "exception", False),
    "every step, up to a validation": ("steps", "step", "exception", True),
    "every epoch": ("epochs", "step", "exception", False),
    "every validation": ("validations", "step", "exception", False),
    "on exception, in a step": ("exception", "step", "exception", False),
    "on exception, after a step": ("exception", "between", "exception", False),
    "on exception, before a validation": ("exception", "between", "exception", True),
    "on exception, in a validation": ("exception", "validation", "exception", False),
    "best on exception, in a step": ("best on exception", "step", "exception", False),
}
AT = 17  # the batch in which it is stopped, counted over all epochs: in the second of three


class Module(CarriesState, pl.LightningModule):
    """Dropout draws random numbers, and so do validations; each loader has a state of its own; what it reads, and the
    means over each epoch, are kept."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.rnn, self.drop, self.head = nn.GRU(1, 4, batch_first=True), nn.Dropout(0.2), nn.Linear(4, 1)
        self.generators = [
            torch.Generator(),
            random.Random(0),
            numpy.random.default_rng(0),
            numpy.random.RandomState(0),
        ]
        self.read, self.validated, self.means, self.fail_at = [], [], [], fail_at
        self.last_of_four, self.mean = Running(SumMetric(), 4), MeanMetric()
        self.mean.persistent(True)

    def loss(self, window, split):
        outputs, state = self.rnn(window.inputs, self.state(window, split))
        self.carry(state, split)
        errors = (self.head(self.drop(outputs)) - window.targets).square().squeeze(2)[window.full_mask]
        drawn = torch.rand((), generator=self.generators[0]) + sum(each.random() for each in self.generators[1:])
        return errors.sum() / max(1, len(errors)) * drawn

    def training_step(self, batch, index):
        if hasattr(batch, "starts"):
            windows = {"train": batch}
        else:
            windows = batch if isinstance(batch, dict) else dict(zip("ab", batch, strict=True))
        windows = {name: window for name, window in windows.items() if window is not None}
        loss = sum(self.loss(window, name) for name, window in windows.items())
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=index + 1)
        self.mean.update(loss.detach(), index + 1)
        self.log("train/mean", self.mean, on_step=False, on_epoch=True)
        self.last_of_four.update(loss.detach())
        if self.fail_at == len(self.read):
            raise InterruptedError
        read = [(name, window.inputs.sum().item(), window.starts.tolist()) for name, window in windows.items()]
        self.read.append((self.current_epoch, index, read, loss.item()))
        return loss

    def on_train_epoch_end(self):
        means = [self.trainer.callback_metrics[name] for name in ("train/loss_epoch", "train/mean")]
        self.means.append([float(value) for value in (*means, self.last_of_four.compute())])

    def validation_step(self, window, index):
        loss = self.loss(window, "validate") + torch.rand(())
        self.log("valid/loss", loss, batch_size=window.num_targets)
        self.log("valid/batches", float(self.trainer.fit_loop.total_batch_idx + 1), batch_size=1)
        if index == 0 and not self.trainer.sanity_checking:
            self.validated.append((len(self.read), self.global_step, loss.item()))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        lower = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, optimizer, patience=0, threshold=10)
        by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
        by_validation = {"scheduler": lower(factor=0.8), "monitor": "valid/loss", "strict": False}
        by_step = {"scheduler": lower(factor=0.98), "monitor": "train/loss_step", "interval": "step", "frequency": 2}
        return [optimizer], [by_epoch, by_validation, by_step]


class Hooked(Module):
    """Has a slow copy of its head, and changes weights in hooks."""

    def __init__(self, fail_at=None):
        super().__init__(fail_at)
        self.slow = nn.Linear(4, 1).requires_grad_(False)

    def training_step(self, batch, index):
        return super().training_step(batch, index) + (self.head.weight - self.slow.weight).square().sum()

    def on_train_batch_end(self, *arguments):
        self.slow.weight.lerp_(self.head.weight.detach(), 0.1)

    @torch.no_grad()
    def on_train_epoch_start(self):
        self.head.weight.mul_(0.95)

    @torch.no_grad()
    def on_train_epoch_end(self):
        super().on_train_epoch_end()
        self.slow.weight.mul_(0.9)


class Skips(Module):
    """Skips the rest of the first epoch."""

    def on_train_batch_start(self, batch, index):
        return -1 if (self.current_epoch, index) == (0, 8) else None


MODULES = {"hooks": Hooked, "skipping": Skips}


class Stop(pl.Callback):
    def __init__(self, place, how, at):
        self.place, self.how, self.at = place, how, at

    def stop(self, trainer):
        if self.how == "exception":
            raise InterruptedError
        if self.how == "max_time":
            (timer,) = (callback for callback in trainer.callbacks if isinstance(callback, Timer))
            timer.load_state_dict({"time_elapsed": {"train": 1e9}})
        else:
            os.kill(os.getpid(), getattr(signal, self.how))

    def on_train_batch_end(self, trainer, module, *others):
        if self.place == "between" and len(module.read) == self.at:
            self.stop(trainer)

    def on_train_epoch_end(self, trainer, module):
        if self.place == "epoch end" and trainer.current_epoch == 1:
            self.stop(trainer)

    def on_validation_batch_end(self, trainer, module, outputs, batch, index, loader=0):
        if self.place == "validation" and len(module.read) >= self.at and index == 1:
            self.stop(trainer)


def writer(kind, folder):
    if kind == "last":
        return LastCheckpoint(str(folder), every_n_steps=2)
    if kind == "exception":
        return OnExceptionCheckpoint(str(folder), "some")
    often = {
        "best on exception": {"every_n_train_steps": 1000, "save_on_exception": True},
        "steps": {"every_n_train_steps": 1},
        "epochs": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        "validations": {"save_on_train_epoch_end": False},
    }
    return ModelCheckpoint(str(folder), save_top_k=-1, **often[kind])


def fitted(case, folder, stop_at=None, ckpt_path=None):
    loaders, callbacks, steps, precision, validation, stop = case
    kind, place, how, _ = STOPS[stop]
    torch.manual_seed(1 if ckpt_path else 0)
    module = MODULES.get(callbacks, Module)(fail_at=stop_at if place == "step" else None)
    settings = {"max_epochs": EPOCHS, **QUIET, **STEPS[steps], **PRECISIONS[precision], **VALIDATIONS[validation]}
    stops = []
    accumulation = [GradientAccumulationScheduler({1: 2, 2: 3})] if steps == "scheduled" else []
    if stop_at is not None:
        limits = {"max_epochs": 2, "max_steps": MAX_STEPS[steps], "max_time": timedelta(days=1)}
        settings |= {how: limits[how]} if how in limits else {}
        stops = [Stop(place, how, stop_at)]
    trainer = pl.Trainer(**settings, callbacks=[*CALLBACKS[callbacks](), *accumulation, *stops, writer(kind, folder)])
    try:
        trainer.fit(module, LOADERS[loaders](), Stream(waves(90), 4, 10), ckpt_path=ckpt_path, weights_only=True)
    except (InterruptedError, SystemExit):
        assert stop_at is not None
    return module


@cache
def undisturbed(*case):
    """What a fit reads, validates and ends with if it is not stopped."""
    return fitted((*case, "last, SIGTERM"), "undisturbed")


def stopped(case, folder, at):
    """How many batches the fit has read when it is stopped."""
    _, place, how, _ = STOPS[case[-1]]
    if how != "SIGKILL":
        return len(fitted(case, folder, at).read)
    process = server.Process(target=fitted, args=(case, folder, at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return at if place == "between" else next(read for read, *_ in undisturbed(*case[:-1]).validated if read >= at)


def refused(case):
    """Whether something has failed in a hook behind which others would have changed something."""
    kind, place, *_ = STOPS[case[-1]]
    return case[1] == "hooks" and (kind, place) == ("exception", "between")


def holds(case, folder):
    """Whether a fit that is stopped and resumed is the undisturbed one, told in words if it is not."""
    whole = undisturbed(*case[:-1])
    at = next(read for read, *_ in whole.validated if read > 12) if STOPS[case[-1]][3] else AT
    before = stopped(case, folder, at)
    files = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    if not files:  # the first epoch, whose rest is skipped, ends without a validation
        assert (case[1], case[4], case[5]) == ("skipping", "epochs", "every validation")
        return None
    if refused(case):
        with pytest.raises(UserError, match="of which a part was done, or of its hooks: resume from an earlier one"):
            fitted(case, folder, ckpt_path=files[-1])
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        resumed = fitted(case, folder, ckpt_path=files[-1])
    if case[1] == "hooks" and any("hooks of an epoch's end have changed weights" in str(line.message) for line in said):
        return None
    rest = len(whole.read) - len(resumed.read)
    if not 0 < rest <= before:
        return f"read {len(resumed.read)} of {len(whole.read)} windows after {before}"
    if whole.read[rest:] != resumed.read:
        return "other windows or losses"
    validated = [(batches - rest, step, loss) for batches, step, loss in whole.validated]
    if whole.means[len(whole.means) - len(resumed.means) :] != resumed.means:
        return f"other means: {resumed.means} where {whole.means} were"
    if validated[len(validated) - len(resumed.validated) :] != resumed.validated:
        return f"other validations: {resumed.validated} where {validated} were"
    if sum(at > 0 for at, *_ in validated) > len(resumed.validated):
        return f"a validation is missing: {resumed.validated} where {validated} were"
    ours, theirs = whole.state_dict(), resumed.state_dict()
    different = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    return f"other weights: {different}" if different else None


EVERY = [*itertools.product(LOADERS, CALLBACKS, STEPS, PRECISIONS, VALIDATIONS, STOPS)]


def one_of_each(cases, count):
    """So many of the cases, drawn with a fixed seed, in which each choice comes at least once."""
    drawn = random.Random(0).sample(cases, len(cases))
    missing = {(place, value) for case in cases for place, value in enumerate(case)}
    chosen = []
    for case in drawn:
        if missing & {*enumerate(case)}:
            missing -= {*enumerate(case)}
            chosen.append(case)
    return chosen + [case for case in drawn if case not in chosen][: max(0, count - len(chosen))]


@pytest.mark.parametrize("case", one_of_each(EVERY, 20), ids="; ".join)
@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_is_stopped_and_resumed_is_the_undisturbed_one(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert holds(case, tmp_path / "run") is None


@pytest.mark.parametrize("validates", [False, True], ids=["trained on", "validated on"])
@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (
            lambda: DataLoader(documents(), batch_size=None, num_workers=1),
            "num_workers=1: a worker can't tell the epoch",
        ),
        (lambda: StatefulDataLoader(documents(), batch_size=None, num_workers=1), "use num_workers=0"),
        (
            lambda: DataLoader(series(), batch_size=None, num_workers=2),
            "num_workers=2: each worker would yield every batch of a Stream; use num_workers=0",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_workers_would_read_otherwise_is_refused_in_one_line(loader, words, validates, tmp_path):
    with pytest.raises(UserError, match=words) as caught:
        pl.Trainer(**QUIET, callbacks=[LastCheckpoint(str(tmp_path))]).fit(
            Module(), *([series(), loader()] if validates else [loader()])
        )
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_stochastic_weight_averaging_that_has_begun_is_refused_in_one_line(tmp_path):
    class WithoutSchedule(Module):  # it goes with one at most
        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    def fit(epochs, ckpt_path=None):
        average = StochasticWeightAveraging(swa_lrs=1e-2, swa_epoch_start=1)
        trainer = pl.Trainer(**QUIET, max_epochs=epochs, callbacks=[average, LastCheckpoint(str(tmp_path))])
        trainer.fit(WithoutSchedule(), series(), ckpt_path=ckpt_path, weights_only=True)

    fit(2)
    with pytest.raises(UserError, match="after StochasticWeightAveraging had begun, which Lightning can't go on with"):
        fit(3, "last")


@pytest.mark.filterwarnings("ignore")
def test_pruning_is_refused_in_one_line(tmp_path):
    def fit(epochs, ckpt_path=None):
        callbacks = [ModelPruning("l1_unstructured", amount=0.3), LastCheckpoint(str(tmp_path))]
        pl.Trainer(**QUIET, max_epochs=epochs, callbacks=callbacks).fit(Module(), series(), ckpt_path=ckpt_path)

    fit(1)
    with pytest.raises(UserError, match="ModelPruning leaves its masks out of checkpoints"):
        fit(2, "last")


ENDED = {"epochs": (1, 22), "within": (2, 15)}  # by what patience, and after how many batches


class TestEarlyStopping:
    """A fit that `EarlyStopping` has ended after its second epoch, or in the middle of it."""

    def fit(self, folder, case, patience, ckpt_path=None, **settings):
        kind, validation = case
        torch.manual_seed(1 if ckpt_path else 0)
        stop = [EarlyStopping("valid/loss", min_delta=100, patience=patience)] if patience else []
        settings = {"max_epochs": 4, **VALIDATIONS[validation], **settings}
        trainer, module = pl.Trainer(**QUIET, **settings, callbacks=[*stop, writer(kind, folder)]), Module()
        trainer.fit(module, series(), Stream(waves(90), 4, 10), ckpt_path=ckpt_path, weights_only=True)
        return module

    @pytest.fixture(params=itertools.product(["last", "epochs", "validations"], ENDED), ids=" ".join)
    def ended(self, request, tmp_path):
        patience, batches = ENDED[request.param[1]]
        module = self.fit(tmp_path, request.param, patience)
        assert len(module.read) == batches
        newest = max(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
        return request.param, patience, module, newest

    def same(self, module, other):
        return all(map(torch.equal, module.parameters(), other.parameters()))

    def test_it_is_not_trained_on(self, ended, tmp_path, recwarn):
        case, patience, before, newest = ended
        after = self.fit(tmp_path, case, patience, newest, max_epochs=9)
        assert after.read == []
        assert self.same(before, after)
        said = [str(warning.message) for warning in recwarn if "nothing more is trained" in str(warning.message)]
        written_before_the_check = case == ("validations", "epochs")
        assert len(said) == (not written_before_the_check)
        assert all(line.startswith("EarlyStopping of valid/loss had ended this fit (") for line in said)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.few(2)
    def test_more_patience_extends_it_to_the_fit_that_has_it_from_the_start(self, ended, tmp_path):
        case, _, before, newest = ended
        after, whole = self.fit(tmp_path, case, 4, newest), self.fit(tmp_path / "whole", case, 4)
        assert after.read == whole.read[len(before.read) :] != []
        assert self.same(whole, after)

    @pytest.mark.filterwarnings("ignore")
    def test_so_does_a_fit_without_it(self, tmp_path):
        self.fit(tmp_path, ("last", "epochs"), 1)
        assert len(self.fit(tmp_path, ("last", "epochs"), 0, "last").read) == 22


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loaders", ["documents", "stateful loader"])
def test_a_module_that_has_the_loaders_set_up_before_its_place_is_restored(loaders, tmp_path, monkeypatch):
    configure = Module.configure_optimizers

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches == 30
        return configure(self)

    monkeypatch.setattr(Module, "configure_optimizers", configure_optimizers)
    case = (loaders, "no callback", "each", "32", "epochs", "last, after a step")
    whole = fitted((*case[:-1], "last, SIGTERM"), tmp_path / "whole")
    fitted(case, tmp_path, stop_at=AT)
    resumed = fitted(case, tmp_path, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.read == whole.read[-len(resumed.read) :]
    assert 0 < len(resumed.read) < 20


@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_was_resumed_is_stopped_after_a_step_too(tmp_path, monkeypatch):
    """In the epoch that it goes on with."""
    monkeypatch.chdir(tmp_path)
    case = ("series", "no callback", "each", "32", "epochs", "last, SIGTERM")
    assert len(fitted(case, tmp_path, stop_at=AT - 3).read) == AT - 3
    assert len(fitted(case, tmp_path, stop_at=2, ckpt_path=tmp_path / "last.ckpt").read) == 2
    whole = undisturbed(*case[:-1])
    assert fitted(case, tmp_path, ckpt_path=tmp_path / "last.ckpt").read == whole.read[AT - 1 :]


@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_was_resumed_in_a_validation_is_stopped_in_the_next_epoch_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = ("series", "no callback", "each", "32", "epochs", "last, SIGTERM in a validation")
    fitted(case, tmp_path, stop_at=AT)
    fitted((*case[:-1], "last, after a step"), tmp_path, stop_at=1, ckpt_path=tmp_path / "last.ckpt")
    whole, resumed = undisturbed(*case[:-1]), fitted(case, tmp_path, ckpt_path=tmp_path / "last.ckpt")
    assert whole.read[22:] == resumed.read
    assert [(at - 22, *others) for at, *others in whole.validated if at > 22] == resumed.validated


SKIPPED = [
    (loader, "skipping", "each", "32", validation, stop)
    for loader, validation, stop in [
        ("series", "across", "every step"),
        ("documents", "across", "on exception, after a step"),
        ("rows", "across", "last, after a step"),
        ("series", "within", "every step"),
    ]
]


@pytest.mark.parametrize("case", SKIPPED, ids="; ".join)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.few(1)
def test_an_epoch_whose_rest_was_skipped_is_over(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert holds(case, tmp_path / "run") is None


@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_max_time_has_ended_is_not_trained_on(tmp_path):
    case = ("series", "no callback", "each", "32", "epochs", "last, max_time")
    assert len(fitted(case, tmp_path, stop_at=AT).read) == AT
    assert fitted(case, tmp_path, stop_at=AT, ckpt_path=tmp_path / "last.ckpt").read == []
    assert len(fitted(case, tmp_path, ckpt_path=tmp_path / "last.ckpt").read) == 33 - AT


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_more_steps_than_the_fit_begins_with_is_kept(tmp_path):
    def fit(epochs):
        trainer = pl.Trainer(**QUIET, max_epochs=epochs, callbacks=[LastCheckpoint(str(tmp_path))])
        trainer.fit(Module(), series())
        return trainer.global_step

    steps = fit(2)
    with pytest.warns(UserWarning, match=f"was there, of {steps} steps; this fit begins at step 0, so it is kept as"):
        fit(1)
    kept = torch.load(tmp_path / f"last-{steps}.ckpt", weights_only=True)
    assert kept["global_step"] == steps


@pytest.mark.filterwarnings("ignore")
def test_the_last_of_several_files_is_that_of_most_steps_whatever_the_clock_said(tmp_path):
    def fit(epochs, ckpt_path=None):
        others = ModelCheckpoint(
            str(tmp_path / "others"), save_last=True, every_n_epochs=2, save_on_train_epoch_end=True
        )
        trainer = pl.Trainer(**QUIET, max_epochs=epochs, callbacks=[LastCheckpoint(str(tmp_path)), others])
        module = Module()
        trainer.fit(module, series(), ckpt_path=ckpt_path, weights_only=True)
        return len(module.read)

    assert fit(3) == 33
    os.utime(tmp_path / "last.ckpt", (0, 0))  # Lightning's own is of the second epoch
    assert (tmp_path / "others" / "last.ckpt").exists()
    assert fit(4, "last") == 11


@pytest.mark.filterwarnings("ignore")
def test_the_best_model_is_asked_of_the_callback_that_has_it(tmp_path):
    best = ModelCheckpoint(str(tmp_path / "best"), monitor="valid/loss")
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[LastCheckpoint(str(tmp_path)), best])
    trainer.fit(Module(), series(), series())
    assert trainer.checkpoint_callback.best_model_path == best.best_model_path != ""


@pytest.mark.slow
@pytest.mark.timeout(10_000)
@pytest.mark.filterwarnings("ignore")
def test_every_combination(tmp_path, monkeypatch, capsys):
    """In an order that is drawn with a fixed seed, so that the first thousand say something of all."""
    monkeypatch.chdir(tmp_path)
    failures = {}
    for number, case in enumerate(random.Random(1).sample(EVERY, len(EVERY)), start=1):
        if said := holds(case, tmp_path / "run"):
            failures[case] = said
        shutil.rmtree(tmp_path / "run")
        if number % 100 == 0 or said or number == len(EVERY):
            with capsys.disabled():
                print(f"\n{number} of {len(EVERY)} combinations, {number - len(failures)} held", case, said, flush=True)
    assert not failures


def test_a_file_of_a_validations_end_is_of_behind_what_it_drew(tmp_path):
    def fit(ckpt_path=None):
        torch.manual_seed(ckpt_path is not None)
        module, behind = Module(), ModelCheckpoint(str(tmp_path), "{epoch}", save_top_k=-1, monitor="valid/loss")
        trainer = pl.Trainer(**QUIET, max_epochs=EPOCHS, check_val_every_n_epoch=2, callbacks=[behind])
        trainer.fit(module, series(), Stream(waves(90), 4, 10), ckpt_path=ckpt_path, weights_only=True)
        return module

    whole, resumed = fit(), fit(tmp_path / "epoch=1.ckpt")
    assert resumed.read == whole.read[-len(resumed.read) :]
    assert len(resumed.read) == len(whole.read) // EPOCHS


class Averages(Module):
    """One more metric than others have."""

    def __init__(self):
        super().__init__()
        self.rest = MeanMetric()


@pytest.mark.parametrize(
    ("processes", "module", "words"),
    [
        (2, Averages, r"of 2 processes, so with 1 these means over the epoch begin anew: .*, train/loss, train/mean$"),
        (1, Module, "the module has no rest any more, a metric in the checkpoint"),
    ],
    ids=["more processes", "a metric less"],
)
@pytest.mark.filterwarnings("ignore")
def test_means_that_do_not_go_on_are_named_in_one_line(processes, module, words, tmp_path):
    def fit(module, steps, ckpt_path=None):
        trainer = pl.Trainer(**QUIET, max_steps=steps, enable_checkpointing=False)
        trainer.fit(module, series(), ckpt_path=ckpt_path, weights_only=True)
        return trainer

    path = tmp_path / "some.ckpt"
    fit(Averages(), 3).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "means": checkpoint["means"] * processes}, path)
    with pytest.warns(UserWarning, match=words):
        fit(module(), 4, path)


class Saves(pl.Callback):
    """Not one of Lightning's kind for it, which are called last."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *others):
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("module", [Hooked, Module])
def test_a_file_that_leaves_out_the_hooks_behind_says_so_once(module, tmp_path, recwarn):
    trainer = pl.Trainer(**QUIET, max_steps=3, enable_checkpointing=False, callbacks=[Saves(tmp_path / "some.ckpt")])
    trainer.fit(module(), series())
    said = [str(warning.message) for warning in recwarn if "what they change is not in it" in str(warning.message)]
    assert [line.partition(": ")[0] for line in said] == [
        "a checkpoint is written in on_train_batch_end before the hooks of this name of Hooked"
    ] * (module is Hooked)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "steps", "lines"), [(Hooked, 5, 1), (Hooked, 11, 0), (Module, 5, 0)])
def test_hooks_of_an_epochs_end_in_its_middle_are_told_of(module, steps, lines, tmp_path):
    def fit(steps, ckpt_path=None):
        trainer = pl.Trainer(**QUIET, max_steps=steps, callbacks=[LastCheckpoint(str(tmp_path))])
        trainer.fit(module(), series(), ckpt_path=ckpt_path, weights_only=True)

    fit(steps)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(steps + 1, "last")
    assert sum("of an epoch's end have changed weights already" in str(line.message) for line in said) == lines


class ChangedByValidations(Module):
    def on_validation_end(self):
        self.head.weight.data.mul_(0.9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["validations", "epochs"])
def test_what_a_validation_changes_is_changed_once(kind, tmp_path):
    def fit(ckpt_path=None):
        torch.manual_seed(ckpt_path is not None)
        module, trainer = ChangedByValidations(), pl.Trainer(**QUIET, max_epochs=2, callbacks=[writer(kind, tmp_path)])
        trainer.fit(module, series(), Stream(waves(90), 4, 10), ckpt_path=ckpt_path, weights_only=True)
        assert trainer.num_sanity_val_steps == 2
        return module

    whole = fit()
    resumed = fit(min(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns))
    assert resumed.read == whole.read[-len(resumed.read) :] != []


@pytest.mark.filterwarnings("ignore")
def test_a_module_can_be_copied_and_pickled_in_a_fit_and_is_left_as_it_was(tmp_path):
    class Copies(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            for copy in (deepcopy(module), pickle.loads(pickle.dumps(module))):
                copy.on_train_batch_end(None, None, 0)
                copies.append(copy.slow.weight)

    copies, module, written = [], Hooked(), writer("steps", tmp_path)
    pl.Trainer(**QUIET, max_epochs=1, callbacks=[Copies(), written]).fit(module, series())
    assert torch.equal(*copies)
    assert not torch.equal(copies[0], module.slow.weight / 0.9)
    assert "on_train_batch_end" not in vars(module).keys() | vars(written).keys()
