"""A model, and a whole task, of the user's own: a module and a folder of yaml files, nothing in the checkout."""

import csv
import json

import pytest
import torch
from conftest import ROOT

from lm.language.checkpoint import TrainedLanguageModel
from unroll.errors import UserError

MODEL = """
from torch import nn
from unroll.checks import Size, checked


class TinyGRU(nn.Module):
    @checked
    def __init__(self, vocab_size: int, units: Size = 8):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, units)
        self.rnn = nn.GRU(units, units, batch_first=True)
        self.head = nn.Linear(units, vocab_size)

    def forward(self, tokens, state=None):
        outputs, state = self.rnn(self.embed(tokens), state)
        return self.head(outputs), state
"""

# A regression on numbers: every part of it is the user's.
TASK = '''
import torch
from torch import nn
from unroll import Data, Objective, Scored, Stream, WindowLearner


class Waves(Data):
    """A noisy sine."""

    def __init__(self, length, batch_size, bptt):
        super().__init__()
        self.length, self.batch_size, self.bptt = length, batch_size, bptt

    def wave(self, first):
        return torch.arange(first, first + self.length, dtype=torch.float32).mul(0.3).sin().unsqueeze(1)

    @property
    def train(self):
        return self.__dict__.setdefault("_train", Stream(self.wave(0), self.batch_size, self.bptt))

    @property
    def valid(self):
        return self.__dict__.setdefault("_valid", Stream(self.wave(10_000), self.batch_size, self.bptt))

    def model_arguments(self):
        return {"features": 1}

    def description(self):
        return {"features": ["wave"]}

    def summary(self):
        return f"{self.length} steps"

    def show(self, folder):
        return str(next(self.train.batches(0)).inputs[0, :, 0])



class Forecaster(nn.Module):
    def __init__(self, features, units):
        super().__init__()
        self.rnn = nn.LSTM(features, units, batch_first=True)
        self.head = nn.Linear(units, features)

    def forward(self, inputs, state=None):
        outputs, state = self.rnn(inputs, state)
        return self.head(outputs), state


class Explained(Objective):
    """Squared error, and the share of targets that are met: more of it is better."""

    metrics = {"loss": "min", "met": "max"}
    columns = ("loss", "met")

    def __init__(self, within):
        self.within = within

    def score(self, model, features, targets):
        loss = nn.functional.mse_loss(features, targets)
        return Scored(loss, loss, {"met": ((features - targets).abs() < self.within).float().mean(-1).sum()})


class Regression(WindowLearner):
    unit = "steps"
'''

MODEL_YAML = """
# @package _global_
defaults:
  - override /data: human_numbers

model:
  _target_: mine.TinyGRU
  units: 16
"""

TASK_YAML = {
    "data/waves.yaml": "_target_: task.Waves\ngives: waves\nlength: 2000\nbatch_size: 8\nbptt: 25\n",
    "data/long_waves.yaml": "defaults:\n  - waves\n\nlength: 3000\n",
    "learner/regression.yaml": """
# @package _global_
learner:
  _target_: task.Regression
  takes: waves
  objective:
    _target_: task.Explained
    within: 0.1
""",
    "model/wave_lstm.yaml": """
# @package _global_
defaults:
  - override /data: waves
  - override /learner: regression

model:
  _target_: task.Forecaster
  units: 16
objective: valid/met
""",
    "recipe/waves/wave_lstm.yaml": "# @package _global_\noptimizer:\n  lr: 1e-2\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project of the user's own: its module is found by PYTHONPATH, its choices by --config-dir."""
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "task.py").write_text(TASK)
    for name, content in {"model/tiny.yaml": MODEL_YAML, **TASK_YAML}.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(content)
    return tmp_path


@pytest.fixture
def run(folder, train):
    """`PYTHONPATH=. python train.py --config-dir conf …`"""

    def run(*arguments):
        return train("--config-dir", "conf", *arguments, path=folder)

    return run


SHORT = ["trainer.limit_train_batches=15", "trainer.max_epochs=2", "logger.tensorboard=null"]


def test_a_model_does_all_that_ours_do(run, train, program, folder, monkeypatch):
    trained = run("model=tiny", *SHORT, "callbacks.curves=null", "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    assert "TinyGRU with " in trained.stderr
    resumed = run("resume=run", "trainer.max_epochs=3")
    assert resumed.returncode == 0, resumed.stderr

    result = json.loads((folder / "run" / "result.json").read_text())["metrics"]
    refused = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", path=folder)  # nor what the run names
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: model: the run names mine.TinyGRU, which no file in ")
    evaluated = run("task=evaluate", "ckpt=run/checkpoints/last.ckpt")
    assert evaluated.returncode == 0, evaluated.stderr
    assert dict(line.split() for line in evaluated.stdout.splitlines())["valid/loss"] == f"{result['valid/loss']:.4f}"

    for checkpoint in ("run", "run/checkpoints/last.ckpt"):
        refused = program("lm.generate", checkpoint)  # nothing that the run directory names is imported
        assert refused.returncode == 1
        assert "--model MODULE.TinyGRU" in refused.stderr
        written = program(
            "lm.generate", checkpoint, "--model", "mine.TinyGRU", "--prompt", "eight thousand", "--length", 5
        )
        assert written.returncode == 0, written.stderr
        assert written.stdout.startswith("eight thousand ")

    (folder / "alone.ckpt").write_bytes((folder / "run" / "checkpoints" / "last.ckpt").read_bytes())
    monkeypatch.syspath_prepend(folder)
    from mine import TinyGRU

    loaded = TrainedLanguageModel.load(folder / "alone.ckpt", model=TinyGRU)
    assert isinstance(loaded.model, TinyGRU)
    assert loaded.model.rnn.hidden_size == 16
    with pytest.raises(UserError, match=r"load\(path, model=TinyGRU\)"):
        TrainedLanguageModel.load(folder / "alone.ckpt")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["model.unit=3"], "there is no model.unit; under model, choose from: compile, units (did you mean units?)"),
        (["model.units=0"], "model.units=0: must be a whole number, 1 or more"),
        (["model=tinny"], "did you mean tiny?"),
        (["data=shapes"], "the data give images and the model takes tokens"),
    ],
)
@pytest.mark.few(2)
def test_mistakes_are_answered_in_one_line(run, typed, words):
    answer = run("model=tiny", *typed)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert words in line


BROKEN = """
import mine

class KeyOfAConfig(mine.TinyGRU):
    def __init__(self, vocab_size, units=8):
        super().__init__(vocab_size, {"units": units}["unit"])

class Refusing(mine.TinyGRU):
    def __init__(self, vocab_size, units=8):
        raise ValueError("units")

class Misspelt(mine.TinyGRU):
    def __init__(self, vocab_size, units=8):
        super().__init__(vocab_size, size=units)

class Vocabulary(mine.TinyGRU):
    def __init__(self, vocabulary_size, units=8):
        super().__init__(vocabulary_size, units)

class Late(mine.TinyGRU):
    def named_parameters(self, *arguments, **settings):
        raise ValueError("late")  # when the optimizer is made
"""


class TestErrorsInAModel:
    @pytest.fixture
    def fail(self, folder, run):
        def fail(target, *arguments):
            (folder / "broken.py").write_text(BROKEN)
            (folder / "halfway.py").write_text("class Model:\n    pass\n\nraise RuntimeError('halfway')\n")
            (folder / "conf" / "model" / "own.yaml").write_text(
                f"# @package _global_\nmodel:\n  _target_: {target}\n  units: 4\n"
            )
            answer = run("model=own", *SHORT, "callbacks=none", *arguments)
            assert answer.returncode == 1
            return answer.stderr.splitlines()

        return fail

    @pytest.mark.parametrize(
        ("target", "error", "line_of_code"),
        [
            ("broken.KeyOfAConfig", "KeyError: 'unit'", '    super().__init__(vocab_size, {"units": units}["unit"])'),
            ("broken.Refusing", "ValueError: units", '    raise ValueError("units")'),
            (
                "broken.Misspelt",
                "TypeError: unexpected keyword argument 'size'",
                "    super().__init__(vocab_size, size=units)",
            ),
            ("halfway.Model", "RuntimeError: halfway", "    raise RuntimeError('halfway')"),
        ],
    )
    @pytest.mark.few(1)
    def test_a_bug_keeps_its_traceback_below_a_line_that_says_where_it_came_from(
        self, fail, target, error, line_of_code
    ):
        first, second, *others = fail(target)
        assert first.startswith(f"while building model ({target}): {error[:9]}")
        assert first.endswith(error[-9:])
        assert second == "Traceback (most recent call last):"
        assert others[-1] == first.removeprefix(f"while building model ({target}): ")
        assert any(line.endswith(line_of_code) for line in others)
        assert "InstantiationException" not in "".join(others)

    @pytest.mark.slow
    def test_so_does_one_that_comes_up_when_a_run_is_resumed(self, folder, run):
        assert run("model=tiny", *SHORT, "callbacks.curves=null", "hydra.run.dir=run").returncode == 0
        with open(folder / "mine.py", "a") as file:
            file.write("\n    def named_parameters(self, *arguments, **settings):\n        raise ValueError('late')\n")
        answer = run("resume=run", "trainer.max_epochs=3")
        assert answer.stderr.splitlines()[-1] == "ValueError: late"
        assert "can't be resumed from" not in answer.stderr

    def test_so_does_one_that_comes_up_when_training_begins(self, fail):
        *_, code, error = [line for line in fail("broken.Late") if "^" not in line]
        assert (code.strip(), error) == ('raise ValueError("late")  # when the optimizer is made', "ValueError: late")

    @pytest.mark.parametrize(
        ("target", "typed", "words"),
        [
            (
                "mine.TinyGRU",
                ["+model.unit=3"],
                "model.unit: TinyGRU takes no such argument; choose from: vocab_size, units",
            ),
            ("broken.Vocabulary", [], "model: it is given vocab_size=…, but Vocabulary takes no such argument; choose"),
            ("mine.TinyGRUU", [], "model: there is no mine.TinyGRUU"),
            ("mine.TinyGRU", ["~model._target_"], "model: has no _target_, the class or function that builds it"),
            ("myne.TinyGRU", [], "model: there is no myne; modules of your own are found in the folders of PYTHONPATH"),
            (
                "mine.TinyGRU",
                ["+learner.colour=1"],
                "learner.colour: LanguageModel takes no such argument; choose from: ",
            ),
            ("mine.TinyGRU", ["+optimizer.colour=1"], "optimizer.colour: AdamW takes no such argument; choose from: "),
            ("mine.TinyGRU", ["~data.bptt"], "data.bptt is not given; HumanNumbers takes numbers, bptt"),
        ],
    )
    @pytest.mark.few(2)
    def test_a_signature_mistake_is_one_line(self, fail, target, typed, words):
        (line,) = fail(target, *typed)
        assert line.startswith(f"error: {words}")


@pytest.mark.slow
def test_a_task_brings_its_own_metrics(run, train, program, folder):
    trained = run("model=wave_lstm", "trainer.max_epochs=6", "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    header, *rows = trained.stdout.splitlines()[:7]
    assert header.split() == ["epoch", "train", "loss", "valid", "loss", "met", "seconds"]
    met = [float(row.split()[3]) for row in rows]
    assert met[-1] > 0.5

    result = json.loads((folder / "run" / "result.json").read_text())
    assert set(result["metrics"]) == {"train/loss", "valid/loss", "valid/met"}
    assert result["metrics"]["valid/met"] == pytest.approx(met[-1], abs=1e-4)
    assert result["steps_per_second"] * result["seconds"] == pytest.approx(6 * 1999, rel=0.01)
    best = torch.load(folder / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == met.index(max(met))  # more of it is better
    assert f"best.ckpt (valid/met {max(met):.4f})" in trained.stderr
    with open(folder / "run" / "metrics.csv", newline="") as file:
        assert "valid/met" in csv.DictReader(file).fieldnames

    evaluated = run("task=evaluate", "ckpt=run/checkpoints/last.ckpt")
    assert f"valid/met         {met[-1]:.4f}" in evaluated.stdout
    for typed, steps in ((["data=long_waves"], "2,999"), (["data=long_waves", "data.length=1000"], "999")):
        longer = run("task=evaluate", "ckpt=run", *typed)
        assert longer.stdout.splitlines()[-1].split() == ["valid/steps", steps], longer.stderr
    other = run("task=evaluate", "ckpt=run", "experiment=choose_bptt")
    assert other.stderr.startswith("error: experiment=…: an evaluation has the settings of the run")
    summary = run("task=summary", "model=wave_lstm")
    assert "LSTM" in summary.stdout
    plan = run("task=plan", "model=wave_lstm", "data.batch_size=4")
    assert plan.returncode == 0, plan.stderr


@pytest.mark.slow
def test_a_sweep_of_it_is_ranked_in_its_direction(run, folder):
    swept = run(
        "-m", "model=wave_lstm", "optimizer.lr=1e-5,1e-2", *SHORT, "callbacks.curves=null", "hydra.sweep.dir=sweep"
    )
    assert swept.returncode == 0, swept.stderr
    with open(folder / "sweep" / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["optimizer.lr"]) for row in rows] == [1e-2, 1e-5]
    assert list(rows[0])[3:6] == ["valid/loss", "valid/met", "train/loss"]
    assert float(rows[0]["steps/s"]) > 0


@pytest.mark.slow
def test_a_killed_run_of_it_ends_the_same(folder):
    from helpers.runs import Run, assert_same

    overrides = ["--config-dir", "conf", "model=wave_lstm", "trainer.max_epochs=3", "checkpoint.every_n_steps=3"]
    overrides += ["threads=1", "trainer.log_every_n_steps=1"]
    undisturbed, killed = (Run(folder, name, overrides) for name in ("undisturbed", "killed"))
    for each in (undisturbed, killed):
        each.settings = {"path": folder}
    undisturbed.finish()
    status, errors = killed.signal_when(lambda: killed.step() >= 13, 9)
    assert status == -9, errors
    killed.finish()
    assert_same(killed, undisturbed)


def test_nothing_of_it_is_in_the_checkout():
    assert not [path for path in (ROOT / "conf").rglob("*.yaml") if path.stem in ("tiny", "waves", "wave_lstm")]
