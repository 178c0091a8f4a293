"""What Lightning's users combine, stopped and resumed: the same windows, validations and weights, bit for bit.

The cases are generated; a few are run by default, all of them by `pytest -m slow -k every_combination`.
"""

import itertools
import os
import random
import signal
from functools import cache, partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

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


LOADERS = {
    "series": series,
    "jitter": partial(series, jitter=True),
    "documents": documents,
    "loader": lambda: DataLoader(documents(), batch_size=None),
    "stateful loader": lambda: StatefulDataLoader(documents(), batch_size=None),
    "dict": lambda: {"a": documents(), "b": Stream(waves(100, 2), 4, 6)},
    "min_size": lambda: CombinedLoader([documents(), Stream(waves(200, 2), 4, 6)], "min_size"),
    "max_size": lambda: CombinedLoader({"a": documents(), "b": Stream(waves(100, 2), 4, 6)}, "max_size"),
}
AVERAGES = {"no average": list, "ema": lambda: [EMAWeightAveraging(decay=0.9)]}
STEPS = {"each": {}, "accumulated": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1}}
PRECISIONS = {"32": {}, "bf16": {"precision": "bf16-mixed"}, "64": {"precision": "64-true"}}
VALIDATIONS = {
    "epochs": {},
    "within": {"val_check_interval": 4},
    "across": {"val_check_interval": 7, "check_val_every_n_epoch": None},
}
# Who writes the file, and how the fit is stopped.
STOPS = {
    "last, in a step": ("last", "step", "exception"),
    "last, after a step": ("last", "between", "exception"),
    "last, SIGTERM": ("last", "between", "signal"),
    "last, SIGTERM in a validation": ("last", "validation", "signal"),
    "last, at an epoch's end": ("last", "epoch end", "exception"),
    "last, max_steps": ("last", None, "max_steps"),
    "last, fewer epochs": ("last", None, "max_epochs"),
    "every step": ("steps", "step", "exception"),
    "every epoch": ("epochs", "step", "exception"),
    "on exception, in a step": ("exception", "step", "exception"),
    "on exception, after a step": ("exception", "between", "exception"),
}
AT = 17  # the batch in which it is stopped, counted over all epochs: in the second of three


class Module(CarriesState, pl.LightningModule):
    """Dropout draws random numbers; each loader has a state of its own; what it reads and logs is kept."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.rnn, self.drop, self.head = nn.GRU(1, 4, batch_first=True), nn.Dropout(0.2), nn.Linear(4, 1)
        self.read, self.validated, self.fail_at = [], [], fail_at

    def loss(self, window, split):
        outputs, state = self.rnn(window.inputs, self.state(window, split))
        self.carry(state, split)
        errors = (self.head(self.drop(outputs)) - window.targets).square().squeeze(2)[window.full_mask]
        return errors.sum() / max(1, len(errors))

    def training_step(self, batch, index):
        if hasattr(batch, "starts"):
            windows = {"train": batch}
        else:
            windows = batch if isinstance(batch, dict) else dict(zip("ab", batch, strict=True))
        windows = {name: window for name, window in windows.items() if window is not None}
        loss = sum(self.loss(window, name) for name, window in windows.items())
        if self.fail_at == len(self.read):
            raise InterruptedError
        read = [(name, window.inputs.sum().item(), window.starts.tolist()) for name, window in windows.items()]
        self.read.append((self.current_epoch, index, read, loss.item()))
        return loss

    def validation_step(self, window, index):
        loss = self.loss(window, "validate")
        self.log("valid/loss", loss, batch_size=window.num_targets)
        if index == 0 and not self.trainer.sanity_checking:
            self.validated.append((len(self.read), self.global_step, loss.item()))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)]


class Stop(pl.Callback):
    def __init__(self, place, how):
        self.place, self.how = place, how

    def stop(self):
        if self.how == "exception":
            raise InterruptedError
        os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_end(self, trainer, module, *others):
        if self.place == "between" and len(module.read) == AT:
            self.stop()

    def on_train_epoch_end(self, trainer, module):
        if self.place == "epoch end" and trainer.current_epoch == 1:
            self.stop()

    def on_validation_batch_end(self, trainer, module, outputs, batch, index, loader=0):
        if self.place == "validation" and len(module.read) >= AT and index == 1:
            self.stop()


def writer(kind, folder):
    if kind == "last":
        return LastCheckpoint(str(folder), every_n_steps=2)
    if kind == "exception":
        return OnExceptionCheckpoint(str(folder), "some")
    often = {"every_n_train_steps": 1} if kind == "steps" else {"every_n_epochs": 1, "save_on_train_epoch_end": True}
    return ModelCheckpoint(str(folder), save_top_k=-1, **often)


def fitted(case, folder, stopped=False, ckpt_path=None):
    loaders, average, steps, precision, validation, stop = case
    kind, place, how = STOPS[stop]
    torch.manual_seed(1 if ckpt_path else 0)
    module = Module(fail_at=AT if stopped and place == "step" else None)
    settings = {"max_epochs": EPOCHS, **QUIET, **STEPS[steps], **PRECISIONS[precision], **VALIDATIONS[validation]}
    if stopped and how in ("max_steps", "max_epochs"):
        settings[how] = 2 if how == "max_epochs" else 9 if steps == "each" else 3
    callbacks = [*AVERAGES[average](), *([Stop(place, how)] if stopped else []), writer(kind, folder)]
    trainer = pl.Trainer(**settings, callbacks=callbacks)
    try:
        trainer.fit(module, LOADERS[loaders](), Stream(waves(90), 4, 10), ckpt_path=ckpt_path, weights_only=True)
    except (InterruptedError, SystemExit):
        assert stopped
    return module


@cache
def undisturbed(*case):
    """What a fit reads, validates and ends with if it is not stopped."""
    return fitted((*case, "last, SIGTERM"), "undisturbed")


def holds(case, folder):
    """Whether a fit that is stopped and resumed is the undisturbed one, told in words if it is not."""
    whole = undisturbed(*case[:-1])
    before = fitted(case, folder, stopped=True)
    files = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    resumed = fitted(case, folder, ckpt_path=files[-1])
    rest = len(whole.read) - len(resumed.read)
    if not 0 < rest <= len(before.read):
        return f"read {len(resumed.read)} of {len(whole.read)} windows after {len(before.read)}"
    if whole.read[rest:] != resumed.read:
        return "other windows or losses"
    validated = [(batches - rest, step, loss) for batches, step, loss in whole.validated]
    if validated[len(validated) - len(resumed.validated) :] != resumed.validated:
        return f"other validations: {resumed.validated} where {validated} were"
    if sum(at > 0 for at, *_ in validated) > len(resumed.validated):
        return f"a validation is missing: {resumed.validated} where {validated} were"
    ours, theirs = whole.state_dict(), resumed.state_dict()
    different = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    return f"other weights: {different}" if different else None


EVERY = [*itertools.product(LOADERS, AVERAGES, STEPS, PRECISIONS, VALIDATIONS, STOPS)]


def one_of_each(cases, count):
    """So many of the cases, drawn with a fixed seed, in which each choice comes at least once."""
    drawn = random.Random(0).sample(cases, len(cases))
    missing = {(place, value) for case in cases for place, value in enumerate(case)}
    chosen = []
    for case in drawn:
        if missing & {*enumerate(case)}:
            missing -= {*enumerate(case)}
            chosen.append(case)
    return chosen + [case for case in drawn if case not in chosen][: count - len(chosen)]


@pytest.mark.parametrize("case", one_of_each(EVERY, 24), ids="; ".join)
@pytest.mark.filterwarnings("ignore")
def test_a_fit_that_is_stopped_and_resumed_is_the_undisturbed_one(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert holds(case, tmp_path / "run") is None


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (
            lambda: DataLoader(documents(), batch_size=None, num_workers=1),
            "num_workers=1: a worker can't tell the epoch",
        ),
        (lambda: StatefulDataLoader(documents(), batch_size=None, num_workers=1), "use num_workers=0"),
    ],
)
def test_an_order_that_a_worker_would_draw_is_refused_in_one_line(loader, words, tmp_path):
    with pytest.raises(UserError, match=words) as caught:
        pl.Trainer(**QUIET, callbacks=[LastCheckpoint(str(tmp_path))]).fit(Module(), loader())
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_stochastic_weight_averaging_that_has_begun_is_refused_in_one_line(tmp_path):
    def fit(epochs, ckpt_path=None):
        average = StochasticWeightAveraging(swa_lrs=1e-2, swa_epoch_start=1)
        trainer = pl.Trainer(**QUIET, max_epochs=epochs, callbacks=[average, LastCheckpoint(str(tmp_path))])
        trainer.fit(Module(), series(), ckpt_path=ckpt_path, weights_only=True)

    fit(2)
    with pytest.raises(UserError, match="after StochasticWeightAveraging had begun, which Lightning can't go on with"):
        fit(3, "last")


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
def test_the_best_model_is_asked_of_the_callback_that_has_it(tmp_path):
    best = ModelCheckpoint(str(tmp_path / "best"), monitor="valid/loss")
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[LastCheckpoint(str(tmp_path)), best])
    trainer.fit(Module(), series(), series())
    assert trainer.checkpoint_callback.best_model_path == best.best_model_path != ""


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
def test_every_combination(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    failures = {case: said for number, case in enumerate(EVERY) if (said := holds(case, tmp_path / str(number)))}
    with capsys.disabled():
        print(f"\n{len(EVERY)} combinations, {len(EVERY) - len(failures)} held")
    assert not failures
