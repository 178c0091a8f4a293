"""Bfloat16 where the device has instructions for it, and training in `bf16-mixed` where it has none."""

import json
import os
import platform
import subprocess
import sys
import warnings
from copy import deepcopy
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT
from helpers.configuration import CONFIG_DIR, composed
from helpers.first_steps import RECIPES, Forecaster
from helpers.samples import columns, reviews, sentences, some_numbers, some_text
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode

from unroll import CarriesState, IndependentWindows, LastCheckpoint, Window, fitting_precision, precision
from unroll.cli import build
from unroll.cli.processes import one_line, silence_lightning
from unroll.resume.lightning import root_device

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@pytest.fixture(params=[True, False], ids=["bfloat16", "no bfloat16"])
def has_bfloat16(request, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: request.param)
    monkeypatch.setattr(build, "cpu_has_bfloat16", lambda: request.param)
    return request.param


@pytest.fixture
def no_bfloat16(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)


@pytest.mark.parametrize("has", [True, False])
def test_a_torch_before_2_11_is_asked_in_another_way(has, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(_is_avx512_bf16_supported=lambda: has))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert precision.cpu_has_bfloat16.__wrapped__() == has


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_the_precision_of_a_cpu_is_that_of_its_instructions(accelerator, has_bfloat16, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert fitting_precision(accelerator) == ("bf16-mixed" if has_bfloat16 else "32-true")


@pytest.mark.parametrize(("major", "fitting"), [(7, "32-true"), (8, "bf16-mixed")])
def test_the_precision_of_a_gpu_is_that_of_its_generation(major, fitting, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or major > 7
    )
    assert fitting_precision("gpu") == fitting_precision("auto") == fitting


class TestLSTMsWithoutBfloat16:
    def test_compute_in_float32_under_autocast(self, no_bfloat16):
        layer = nn.LSTM(3, 4, 2, batch_first=True)
        x, state = torch.randn(2, 5, 3), (torch.randn(2, 2, 4), torch.randn(2, 2, 4))
        expected, (h, c) = layer(x, state)
        precision.guard_lstms(nn.Sequential(layer))
        precision.guard_lstms(nn.Sequential(layer))  # once more changes nothing
        for each in (layer, deepcopy(layer)):
            with torch.autocast("cpu", torch.bfloat16):
                outputs, after = each(x, state)
                lower, _ = each(x.bfloat16(), hx=tuple(part.bfloat16() for part in state))
            assert (outputs.dtype, lower.dtype) == (torch.float32, torch.float32)
            assert all(map(torch.equal, (outputs, *after), (expected, h, c)))
            assert torch.allclose(lower, expected, atol=2e-2)

    def test_take_packed_sequences(self, no_bfloat16):
        layer = nn.LSTM(3, 4, batch_first=True)
        packed = pack_padded_sequence(torch.randn(2, 5, 3), [5, 2], batch_first=True)
        expected, _ = layer(packed)
        precision.guard_lstms(layer)
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = layer(packed.to(torch.bfloat16))
        assert torch.allclose(outputs.data, expected.data, atol=2e-2)
        assert outputs.data.dtype == torch.float32

    def test_of_a_module_that_carries_a_state_are_guarded_by_themselves(self, no_bfloat16):
        module = Forecaster()
        assert isinstance(module, CarriesState)
        window = Window(torch.randn(2, 5, 1), torch.randn(2, 5, 1), torch.ones(2, dtype=torch.bool))
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = module.rnn(window.inputs, module.state(window))
        assert outputs.dtype == torch.float32

    @pytest.mark.parametrize("mixins", [(CarriesState,), ()])
    def test_of_a_fit_that_carries_no_state_are_guarded_too(self, no_bfloat16, tmp_path, mixins):
        class Windows(*mixins, pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.rnn = nn.LSTM(1, 4, batch_first=True)

            def training_step(self, window, index):
                outputs, _ = self.rnn(window.inputs)
                seen.append(outputs.dtype)
                return outputs.mean()

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters())

        seen = []
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        callbacks = [] if mixins else [LastCheckpoint(tmp_path)]
        trainer = pl.Trainer(
            max_steps=2, precision="bf16-mixed", callbacks=callbacks, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(Windows(), IndependentWindows(torch.randn(60, 1), 2, 5))
        assert seen == [torch.float32] * 2

    def test_are_left_alone_elsewhere(self, monkeypatch):
        monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
        layer = nn.LSTM(3, 4)
        precision.guard_lstms(layer)
        assert "forward" not in vars(layer)


class TestNote:
    def note(self, typed, tmp_path, before=None):
        config = composed(f"trainer.precision={typed}", "trainer.accelerator=cpu", f"run_dir={tmp_path}")
        checkpoint = tmp_path / "last.ckpt"
        if before is not None:
            torch.save({"callbacks": {"Result": {"precision": before}}}, checkpoint)
        checkpoint = None if before is None else checkpoint
        trainer = build.trainer(config, checkpoint, logger=False, callbacks=[])
        assert root_device(trainer).type == "cpu"
        return str(trainer.precision), build.note_on_precision(config, trainer, checkpoint)

    def test_of_a_new_run(self, has_bfloat16, tmp_path):
        used, note = self.note("auto", tmp_path)
        assert (used, note) == (
            ("bf16-mixed", "trainer.precision=auto: bf16-mixed, as the device has instructions for bfloat16")
            if has_bfloat16
            else ("32-true", "trainer.precision=auto: 32-true, as the device has no instructions for bfloat16")
        )
        assert self.note("32-true", tmp_path) == ("32-true", None)

    def test_of_a_slow_precision(self, has_bfloat16, tmp_path):
        slow = "trainer.precision=bf16-mixed: this CPU has no instructions for bfloat16; 32-true is faster"
        assert self.note("bf16-mixed", tmp_path) == ("bf16-mixed", None if has_bfloat16 else slow)

    @pytest.mark.parametrize("before", ["32-true", "bf16-true"])
    def test_of_a_run_that_is_continued(self, has_bfloat16, tmp_path, before):
        used, note = self.note("auto", tmp_path, before)
        assert used == before
        assert note is None or (before == "bf16-true" and not has_bfloat16)
        assert self.note("64-true", tmp_path, before) == ("64-true", None)


def test_a_run_records_what_it_used_and_a_resume_says_what_changed(train, tmp_path):
    fitting = fitting_precision("cpu")
    other = "32-true" if fitting == "bf16-mixed" else "bf16-mixed"
    small = ["model=rnn", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.accelerator=cpu"]
    plain = ["logger=none", *(f"callbacks.{name}=null" for name in ("curves", "hidden_state", "samples", "embedding"))]

    def recorded():
        return json.loads((tmp_path / "run" / "result.json").read_text())["precision"]

    first = train("trainer.precision=auto", "trainer.max_epochs=1", *small, *plain, "hydra.run.dir=run")
    assert f"trainer.precision=auto: {fitting}, as the device" in first.stderr
    assert recorded() == fitting
    second = train("resume=run", "trainer.max_epochs=2", f"trainer.precision={other}")
    assert f"precision={other} ({fitting} before)" in second.stderr
    assert recorded() == other


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The first steps of every recipe and of a library user's module, on a CPU without bfloat16 instructions."""
    folder = tmp_path_factory.mktemp("first_steps")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, **AVX2, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "helpers.first_steps", str(folder)]
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(str(file.relative_to(CONFIG_DIR).with_suffix("")) for file in RECIPES), "library"])
def test_first_steps_without_bfloat16_instructions(outcomes, name):
    assert outcomes["cpu_has_bfloat16"] is False
    assert outcomes[f"{name} auto"]["precision"] == "32-true", outcomes[f"{name} auto"]
    typed = outcomes[f"{name} bf16-mixed"]
    assert typed["precision"] == "bf16-mixed", typed
    assert typed["loss"] == pytest.approx(outcomes[f"{name} auto"]["loss"], rel=0.05)


class SeesFloats(TorchDispatchMode):
    """Notes which operations return floats of less than double precision."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        returned = operation(*arguments, **named or {})
        for part in returned if isinstance(returned, (tuple, list)) else [returned]:
            if isinstance(part, torch.Tensor) and part.is_floating_point() and part.dtype != torch.float64:
                self.found.add(str(operation))
        return returned


SMALL = ["model.hidden_size=8", "data.batch_size=4"]
SERIES = ["model=forecaster", "data=series", "data.train=numbers.csv", "data.series=name"]
IN_DOUBLE = {
    "text": ["model=awd_lstm", "model.embedding_size=8", "model.head=adaptive", "data=text", "data.train=text.txt"],
    "penalties": [
        "model=qrnn",
        "model.embedding_size=8",
        "model.ar=2",
        "model.tar=1",
        "data=text",
        "data.train=text.txt",
    ],
    "labels": ["model=tagger", "model.crf=true", "data=columns", "data.train=words.txt", "data.columns=[word,pos,tag]"],
    "documents": ["model=classifier", "data=documents", "data.train=reviews.jsonl"],
    "numbers": SERIES,
    "distributions": [*SERIES, "objective=student_t"],
    "images": ["model=simple_net", "data=shapes", "data.train_images=64", "data.valid_images=16", "tta=true"],
}


@pytest.mark.parametrize("name", IN_DOUBLE)
@pytest.mark.few(4)
def test_nothing_is_rounded_to_single_precision_in_double(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(some_text(4_000))
    (tmp_path / "numbers.csv").write_text(some_numbers())
    (tmp_path / "words.txt").write_text(columns(sentences(40)))
    (tmp_path / "reviews.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in reviews(80))
    )
    config = composed(*SMALL, *IN_DOUBLE[name], "trainer.precision=64-true", f"run_dir={tmp_path}")
    data = build.data(config)
    learner = build.learner(config, data)
    sees, step = SeesFloats(), learner.step

    def watched(*arguments):
        with sees:
            taken = step(*arguments)
            if taken.minimised.requires_grad:
                torch.autograd.grad(taken.minimised, [*learner.parameters()], retain_graph=True, allow_unused=True)
        return taken

    monkeypatch.setattr(learner, "step", watched)
    quiet = {"logger": False, "callbacks": [], "enable_checkpointing": False}
    trainer = build.trainer(config, max_steps=2, limit_val_batches=2, check_val_every_n_epoch=1, **quiet)
    trainer.fit(learner, datamodule=data)
    assert sees.found == set()


def test_a_run_on_the_cpu_is_not_told_of_a_gpu(monkeypatch):
    monkeypatch.setattr(pl.accelerators.CUDAAccelerator, "is_available", staticmethod(lambda: True))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        silence_lightning()
        pl.Trainer(accelerator="cpu", logger=False)
    assert not [line for line in said if "GPU" in str(line.message)]


def test_a_warning_to_who_types_a_command_is_one_line():
    assert one_line("so it is", UserWarning, "some.py", 3) == "warning: so it is\n"
    assert "some.py:3: FutureWarning" in one_line("so it was", FutureWarning, "some.py", 3)
