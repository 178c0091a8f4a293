"""The library in programs that import `lightning.pytorch`, `pytorch_lightning`, or both.

Where the distribution `lightning` is not installed, it is made as its own project makes it: a copy of
`pytorch_lightning` and `lightning_fabric` under other names.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

PROGRAM = """
import json, sys
from functools import partial
import torch
from torch import nn
from unroll import CarriesState, CheckpointFiles, LastCheckpoint, MeanSquaredError, Stream, WindowLearner, one_cycle
from unroll.training.callbacks import Average

class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Numbers()
    def training_step(self, window, index):
        outputs, state = self.model(window.inputs, self.state(window))
        self.carry(state)
        return nn.functional.mse_loss(outputs, window.targets)
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

class Numbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1)
    def forward(self, inputs, state=None):
        outputs, state = self.rnn(inputs, state)
        return self.head(outputs), state

def learner():
    optimizer = partial(torch.optim.Adam, lr=1e-2, fused=True)
    return WindowLearner(Numbers(), MeanSquaredError(), optimizer=optimizer, schedule=one_cycle)

class Stop(pl.Callback):
    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == 9:
            raise ConnectionError

def fit(make, folder, callbacks=(), resume=None, **settings):
    torch.manual_seed(0)
    module, last = make(), LastCheckpoint(folder, every_n_steps=7)
    trainer = pl.Trainer(max_epochs=2, callbacks=[last, *callbacks], plugins=[CheckpointFiles()], logger=False,
                         enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", **settings)
    stream = Stream(torch.arange(400.0).mul(0.1).sin().unsqueeze(1), 4, 10)
    try:
        trainer.fit(module, stream, ckpt_path=resume, weights_only=True)
    except ConnectionError:
        return [], []
    return [parameter.tolist() for parameter in module.parameters()], trainer.checkpoint_callbacks

found = {}
for name, make, average, settings in (
    ("module", Forecaster, [], {}),
    ("learner", learner, [Average(0.2)], {"precision": "bf16-mixed", "gradient_clip_val": 0.1}),
):
    if name in NAMES:
        whole, checkpoints = fit(make, f"{name}/whole", average, **settings)
        fit(make, f"{name}/half", [*average, Stop()], **settings)
        resumed, _ = fit(make, f"{name}/half", average, f"{name}/half/last.ckpt", **settings)
        found[name] = resumed == whole, len(checkpoints)
found["imported"] = [name for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
print(json.dumps(found))
"""
IMPORT = {name: f"import {name} as pl\n" for name in ("lightning.pytorch", "pytorch_lightning")}
BOTH = ["module", "learner"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> list[Path]:
    """What a program needs on its path to import `lightning`."""
    if find_spec("lightning") is not None:
        return [ROOT]
    folder = tmp_path_factory.mktemp("copy")
    for name, copied in (("pytorch_lightning", "pytorch"), ("lightning_fabric", "fabric")):
        source = Path(find_spec(name).origin).parent
        for file in (*source.rglob("*.py"), *source.rglob("*.info")):
            text = file.read_text(encoding="utf-8")
            text = text.replace("pytorch_lightning", "lightning.pytorch").replace(
                "lightning_fabric", "lightning.fabric"
            )
            target = folder / "lightning" / copied / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    (folder / "lightning" / "__init__.py").touch()
    return [ROOT, folder]


@pytest.fixture
def run(path, tmp_path):
    """Runs a program in a fresh interpreter and an empty folder."""

    def run(program: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)

    return run


@pytest.mark.parametrize(
    ("imports", "imported"),
    [
        (["lightning.pytorch"], ["lightning.pytorch"]),
        pytest.param(["pytorch_lightning"], ["pytorch_lightning"], marks=pytest.mark.slow),
        pytest.param(["lightning.pytorch", "pytorch_lightning"], [*IMPORT], marks=pytest.mark.slow),
        pytest.param(["pytorch_lightning", "lightning.pytorch"], [*IMPORT], marks=pytest.mark.slow),
    ],
)
def test_modules_and_learners_resume_exactly(run, tmp_path, imports, imported):
    """With the Trainer of the copy that was imported first."""
    program = "".join(IMPORT[name] for name in [*imports, imports[0]]) + f"NAMES = {BOTH}" + PROGRAM
    finished = run(program)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == {
        "module": [True, 1],  # exact, and Lightning adds no checkpoint of its own
        "learner": [True, 1],
        "imported": imported,
    }
    assert ("both copies" in finished.stderr) == (len(imports) == 2)
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")}
    assert files == {f"{name}/{run}/last.ckpt" for name in BOTH for run in ("whole", "half")}


@pytest.mark.slow
@pytest.mark.parametrize("other", IMPORT)
def test_the_trainer_of_the_copy_imported_later(run, other):
    """A module of one's own is resumed exactly; a learner is refused, after a line that says what would be right."""
    (first,) = set(IMPORT) - {other}
    imports = IMPORT[first] + IMPORT[other]
    finished = run(imports + "NAMES = ['module']" + PROGRAM)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1])["module"] == [True, 1]
    finished = run(imports + "NAMES = ['learner']" + PROGRAM)
    assert finished.returncode == 1
    assert f"For {other}.Trainer import {other} before {first} and unroll" in finished.stderr


@pytest.mark.slow
def test_a_copy_imported_after_unroll_is_refused_in_one_line(run, tmp_path):
    finished = run("from unroll import LastCheckpoint\n" + IMPORT["lightning.pytorch"] + "NAMES = ['module']" + PROGRAM)
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == (
        "unroll.errors.UserError: this is a Trainer of lightning.pytorch, which was imported after unroll had taken "
        "pytorch_lightning; import lightning.pytorch before unroll"
    )
    assert not list(tmp_path.rglob("*.ckpt"))
