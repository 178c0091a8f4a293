"""What callbacks do at which step: throughput, divergence, and that no step between two logged ones waits for the
device."""

import json
import traceback
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT
from helpers.fits import QUIET, Numbers, text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import lm.language
from lm.language.learner import LanguageModel, NextToken
from unroll import LastCheckpoint, MeanSquaredError, Stream, UserError, WindowLearner, one_cycle
from unroll.resume import lightning
from unroll.state import detach
from unroll.training.callbacks import Average, BestCheckpoint, Progress, Result, StopWhenDiverged, Throughput, result
from unroll.training.compiled import read_window
from unroll.training.loggers import TensorBoard

EVERY = 5  # steps are logged
ROOMS = tuple(str(ROOT / name) for name in ("unroll", "lm", "vision", "series"))


def fit(*callbacks, sequences=None, accelerator="cpu", logger=False, max_epochs=1, **trainer):
    torch.manual_seed(0)
    learner = WindowLearner(
        Numbers(), MeanSquaredError(), optimizer=partial(torch.optim.AdamW, lr=1e-2), schedule=one_cycle, forget=0.1
    )
    sequences = torch.randn(4 * 2 * 32 + 1, 1) if sequences is None else sequences
    pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=max_epochs,
        logger=logger,
        log_every_n_steps=EVERY,
        gradient_clip_val=1.0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **trainer,
    ).fit(learner, Stream(sequences, batch_size=4, bptt=2), Stream(torch.randn(90, 1), batch_size=4, bptt=2))
    return learner


@pytest.mark.parametrize("accumulated", [1, 3, 4])
def test_throughput_is_written_once_per_logged_step_and_never_at_step_0(tmp_path, accumulated):
    fit(Throughput(), logger=TensorBoard(str(tmp_path), name="", version=""), accumulate_grad_batches=accumulated)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    steps = -(-32 // accumulated)
    assert [event.step for event in events.Scalars("steps_per_second")] == [*range(EVERY, steps + 1, EVERY)]


class Clock(pl.Callback):
    """A step takes 100 seconds, and from the 50th on a tenth of it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(result, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.now += 100 if trainer.global_step < 50 else 10


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_result_has_the_speed_without_the_first_steps_too(tmp_path, monkeypatch, epochs):
    fit(Clock(monkeypatch), Result(tmp_path, 0, []), max_epochs=epochs)
    found = json.loads((tmp_path / "result.json").read_text())
    later = found.get("steps_per_second_after_50_steps")
    assert later == (pytest.approx(4 * 2 / 10, rel=0.05) if epochs == 3 else None)
    assert found["steps_per_second"] < 0.2


class OnADevice(StopWhenDiverged):
    """As on a GPU: the callback is told so, everything else is on the CPU."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, SimpleNamespace(device=torch.device("cuda")), outputs, batch, batch_idx)


class TestDivergence:
    @pytest.mark.parametrize("accumulated", [1, 4])
    @pytest.mark.parametrize("max_epochs", [1, 4])
    def test_on_a_device_it_is_found_at_the_next_logged_step_however_short_epochs_are(self, accumulated, max_epochs):
        sequences = torch.randn(4 * 2 * 32 // max_epochs + 1, 1)
        sequences[5] = torch.inf  # in the first window already: every loss is not finite
        with pytest.raises(UserError, match=f"not finite after step {EVERY} "):
            fit(OnADevice(), sequences=sequences, max_epochs=max_epochs, accumulate_grad_batches=accumulated)

    def test_on_a_cpu_it_is_found_at_once(self):
        sequences = torch.randn(4 * 2 * 32 + 1, 1)
        sequences[5] = torch.inf
        with pytest.raises(UserError, match="not finite after step 3 "):
            fit(StopWhenDiverged(), sequences=sequences)


IN_PLACE_OF = [(lightning.__file__, name) for name in ("__call__", "with_call")]  # they call Lightning's own methods


class Reads(TorchDispatchMode):
    """Records which lines of this project ask a tensor for its value. On a GPU each would wait for the device."""

    WAIT = ("_local_scalar_dense", "nonzero", "equal", "unique", "masked_select", "bincount")

    def __init__(self):
        super().__init__()
        self.lines, self.copies = Counter(), Copies(self.record)

    def record(self):
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(ROOMS)]
        frames = [frame for frame in frames if (frame.filename, frame.name) not in IN_PLACE_OF]
        self.lines.update([f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].line}"] if frames else [])

    def __enter__(self):
        self.copies.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.copies.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(name in function.name() for name in self.WAIT):
            self.record()
        return function(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Calls `record` for each copy to the host or from it, which is no operation where a tensor is there already."""

    def __init__(self, record):
        self.record = record

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.new_tensor):
            self.record()
        return function(*args, **(kwargs or {}))


class BetweenLoggedSteps(pl.Callback):
    """Is in a context from the end of a step that was logged to the beginning of the next one that is."""

    def __init__(self, enter, leave):
        self.enter, self.leave, self.inside, self.steps = enter, leave, False, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        last = batch_idx + 2 >= trainer.num_training_batches  # validation and the epoch's metrics follow
        between = trainer.global_step > EVERY and (trainer.global_step + 1) % EVERY != 0 and not last
        self.steps += between
        if between != self.inside:
            (self.enter if between else self.leave)()
            self.inside = between


def every_callback(folder, divergence):
    return [Result(folder, 0, []), Progress(), divergence, Throughput(), Average(start=0.3)]


def test_between_two_logged_steps_no_value_is_asked_of_the_device(tmp_path):
    reads = Reads()
    between = BetweenLoggedSteps(reads.__enter__, lambda: reads.__exit__(None, None, None))
    fit(*every_callback(tmp_path, OnADevice()), between)
    assert between.steps > 15
    on_the_host = str(ROOT / "unroll" / "streams")  # a window's `starts` and `mask` are known there
    assert [line for line in reads.lines if not line.startswith(on_the_host)] == []


def test_a_value_that_is_asked_of_the_device_is_found(tmp_path):
    reads = Reads()
    between = BetweenLoggedSteps(reads.__enter__, lambda: reads.__exit__(None, None, None))
    fit(StopWhenDiverged(), between)  # on a CPU it asks in every step
    assert any("item()" in line for line in reads.lines)


def step(model, windows):
    """Forward and backward through windows of a stream, the second with a state."""
    state = None
    for window in windows:
        features, state, _ = read_window(model, window.inputs, detach(state), window.resets)
        NextToken()(model, features, window).minimised.backward()


@pytest.mark.parametrize("model_class", [getattr(lm.language, name) for name in lm.language.__all__])
def test_no_language_model_waits_for_the_device_within_a_step(model_class):
    windows = [*Stream(torch.randint(9, (4 * 9,)), batch_size=4, bptt=3)][:2]
    with Reads() as reads:
        step(model_class(9).train(), windows)
    assert not reads.lines


def test_an_adaptive_head_waits_once_whatever_its_clusters():
    model = lm.language.AWDLSTM(40, hidden_size=8, embedding_size=8, head="adaptive", cutoffs=[5, 10, 20])
    windows = [*Stream(torch.randint(40, (4 * 9,)), batch_size=4, bptt=3)][:2]
    with Reads() as reads:
        step(model.train(), windows)
    assert [*reads.lines.values()] == [2]  # in each window


@pytest.mark.gpu
def test_between_two_logged_steps_a_gpu_is_not_waited_for(tmp_path):
    between = BetweenLoggedSteps(
        lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode("default")
    )
    try:
        fit(*every_callback(tmp_path, StopWhenDiverged()), between, accelerator="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert between.steps > 15


@pytest.mark.parametrize("validated", [0, -1])
@pytest.mark.parametrize("factor", [1.0, 300.0])
def test_the_model_that_training_begins_with_may_be_the_best(tmp_path, capsys, validated, factor):
    """With a whole sanity check; and a fit is resumed from it."""

    def trained(ckpt_path=None):
        best = BestCheckpoint(str(tmp_path), "valid/loss")
        learner = LanguageModel(
            lm.language.GRU(9), optimizer=partial(torch.optim.AdamW, lr=1e-3 * factor), schedule=one_cycle
        )
        trainer = pl.Trainer(
            **QUIET | {"enable_checkpointing": True, "num_sanity_val_steps": validated},
            accelerator="cpu",
            max_epochs=2,
            callbacks=[Progress(), best, LastCheckpoint(tmp_path / "last")],
        )
        torch.manual_seed(0)
        train, valid = (Stream(text(500, seed) if factor > 1 else torch.arange(500) % 9, 4, 10) for seed in (0, 1))
        trainer.fit(learner, train, valid, ckpt_path=ckpt_path, weights_only=True)
        return learner, best

    learner, best = trained()
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    kept = torch.load(best.best_model_path, weights_only=True)
    score = best.best_model_score
    assert best.metrics["valid/loss"] == score
    untrained_is_best = validated == -1 and factor > 1
    assert (kept["global_step"] == 0) is untrained_is_best
    assert [number for number, _ in rows] == [*(["0"] if validated else []), "1", "2"]
    assert [loss for _, loss in rows].count("–") == (validated == -1)
    if untrained_is_best:
        again, best = trained(best.best_model_path)
        assert best.best_model_score == score == best.metrics["valid/loss"]
        for name, weights in learner.state_dict().items():
            assert torch.equal(weights, again.state_dict()[name])
