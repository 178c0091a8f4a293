"""What a newcomer stumbles over, typed as they would type it: each ends in one line, or in what they meant."""

import bz2
import csv
import gzip
import inspect
import json
import lzma
import re
import signal
import subprocess
import sys

import pytest
import pytorch_lightning as pl
from conftest import ROOT
from helpers.runs import NO_PLOTS, SHORT, Run
from omegaconf import OmegaConf

TEXT = "it was the best of times , it was the worst of times . " * 60
QUICK = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=2", "trainer.max_epochs=1"]
QUICK += ["logger=none", "callbacks=none"]
MINE = ["data=text", "data.batch_size=8", "data.bptt=20"]


@pytest.fixture
def answer(train):
    """The one line that a command ends in."""

    def run(*arguments, **settings):
        finished = train(*arguments, **settings)
        assert finished.returncode == 1, finished.stdout
        *before, last = finished.stderr.splitlines()
        assert last.startswith("error: ")
        assert not [line for line in before if "parameters;" not in line]
        return last.removeprefix("error: ")

    return run


CELL = """
from torch import nn

class Cell(nn.Module):
    def __init__(self, vocab_size, units):
        super().__init__()
        self.embed, self.cell = nn.Embedding(vocab_size, units), nn.GRUCell(units, units)
        self.head = nn.Linear(units, vocab_size)

    def forward(self, tokens, state=None):
        outputs = []
        for x in self.embed(tokens).unbind(1):
            state = self.cell(x, state)
            outputs.append(self.head(state))
        import torch
        return torch.stack(outputs, 1), state
"""


@pytest.mark.parametrize("units", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_a_state_with_its_rows_first_is_named_with_what_is_wanted(answer, tmp_path, units):
    (tmp_path / "cell.py").write_text(CELL)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "cell.yaml").write_text("_target_: cell.Cell\nunits: 64\n")
    line = answer("--config-dir", "conf", "model=cell", f"model.units={units}", *QUICK, path=tmp_path)
    assert line.startswith(f"the model returned a state of shape [64, {units}] for a window of 64 rows; axis 1 should")


class TestResume:
    @pytest.fixture
    def interrupted(self, tmp_path):
        run = Run(tmp_path, "run", [*SHORT, "trainer.max_epochs=4"])
        run.signal_when(lambda: run.step() >= 12, signal.SIGTERM)
        return run

    def files(self, run):
        kept = [run.directory / "result.json", run.directory / "metrics.csv"]
        return [path.read_bytes() for path in (*kept, *sorted((run.directory / ".hydra").iterdir()))]

    @pytest.mark.slow
    def test_one_that_is_refused_changes_nothing_about_the_run(self, interrupted):
        before = self.files(interrupted)
        process = interrupted.start("resume=run", "trainer.max_epochs=1")
        _, errors = process.communicate()
        assert process.returncode == 1
        line = errors.splitlines()[-1]
        assert "trainer.max_epochs=1: the run has finished epoch 1 and is in epoch 2; choose 2 or more" in line
        assert "Traceback" not in errors
        assert self.files(interrupted) == before
        interrupted.finish("resume=run/checkpoints/last.ckpt")  # a file in it is as good
        assert interrupted.result()["epochs"] == 4

    def test_no_batches_at_all(self, answer):
        assert answer("trainer.limit_train_batches=0").startswith(
            "trainer.limit_train_batches=0: must be a whole number"
        )


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["data=text"], "data.train is not given; write data.train=… (docs/configure.md)"),
        (["trainer.max_epoch=3"], "(did you mean max_epochs?) (docs/configure.md)"),
        (["resume=nowhere"], " (docs/resume.md)"),
        (["model=tagger", "data=columns", "data.train=mine.txt"], " (docs/tagging.md)"),
        (["model=classifier", "data=documents", "data.train=mine.txt"], " (docs/documents.md)"),
        (["model=forecaster", "data.train=mine.txt"], " (docs/series.md)"),
        (["experiment=fine_tune"], "init is not given; write init=…, a run of experiment=pretrain"),
        (["data.train=a.txt"], "there is no data.train; under data, choose from: "),
        (
            ["schedule=constant", "schedule.pct_start=0.3"],
            "the schedule that is chosen has no settings; schedule=one_cycle",
        ),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1: must be a number, 0 or more, or null"),
        (["data=text", "data.train=a.txt", "data.encoding=klingon"], "data.encoding=klingon: must be an encoding"),
        (["model=char_three", "data=text", "data.train=mine.txt"], "write data.layout=windows data.bptt=3"),
        (
            ["model=char_three", "data=text", "data.train=mine.txt", "data.bptt=3"],
            "write data.layout=windows data.bptt=3",
        ),
        (["data=text", "data.train=nowhere.txt"], "nowhere.txt: there is no such file"),
        (["optimizer.groups={embedding: {lr: 1e-4}}"], "optimizer.groups.embedding: the model has no such layer"),
        (["task=show_batch", "data=text", "data.train=nowhere.txt"], "nowhere.txt: there is no such file"),
        (["-m", "model.width=8,16"], "there is no model.width"),
        (["task=sing"], "task=sing: must be one of: train, show_batch, summary, lr_find, plan, evaluate"),
    ],
)
@pytest.mark.few(4)
def test_advice(answer, tmp_path, typed, words):
    (tmp_path / "mine.txt").write_text(TEXT)
    line = answer(*typed)
    assert words in line
    assert all((ROOT / page).is_file() for page in re.findall(r"\((docs/\S+)\)$", line))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestAStartThatFails:
    """It leaves no directory; `test_a_run_that_diverges…` shows that one which fails later keeps its own."""

    def test_leaves_a_directory_that_was_there_as_it_was(self, answer, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("mine")
        answer("data=text", "data.train=nowhere.txt", "hydra.run.dir=mine")
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["mine", "mine/notes.txt"]

    def test_leaves_the_runs_beside_it(self, answer, train, tmp_path):
        assert train(*QUICK).returncode == 0
        before = sorted(tmp_path.rglob("*"))
        answer("init=nowhere", *QUICK)
        assert sorted(tmp_path.rglob("*")) == before

    def test_nor_does_a_command_leave_a_folder_without_files(self, train, tmp_path):
        assert train("task=summary").returncode == 0
        assert not list(tmp_path.iterdir())


def test_a_model_of_fixed_windows_gets_them(train, tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT)
    windows = [*MINE, "data.train=mine.txt", "data.layout=windows", "data.bptt=3"]
    finished = train("model=char_three", *windows, *QUICK)
    assert finished.returncode == 0, finished.stderr


class TestUnknownWords:
    def test_the_unknown_word_is_learnt_by_default_and_its_share_is_said(self, train, tmp_path):
        (tmp_path / "mine.txt").write_text(TEXT + " ".join(f"rare{number}" for number in range(100)) + " " + TEXT)
        (tmp_path / "valid.txt").write_text(TEXT + " new words here " * 20)
        words = [*MINE, "data.train=mine.txt", "data.valid=valid.txt", "data.tokenizer=words"]
        learnt = train(*words, *QUICK)
        assert "unknown: 5.62% of the training and 6.67% of the validation tokens)" in learnt.stderr, learnt.stderr
        never = train(*words, *QUICK, "data.min_freq=1")
        assert "so the unknown token is not learnt; try data.min_freq=2" in never.stderr

    def test_characters_are_all_kept(self, train, tmp_path):
        (tmp_path / "mine.txt").write_text("Q" + TEXT)
        finished = train(*MINE, "data.train=mine.txt", *QUICK)
        assert "unknown" not in finished.stderr


class TestFiles:
    @pytest.mark.parametrize("name", ["(1) with spaces, emoji_ä.txt"])
    def test_any_path_can_be_typed(self, train, tmp_path, name):
        (tmp_path / name).write_text(TEXT)
        finished = train(*MINE, f"data.train={tmp_path / name}", *QUICK)
        assert finished.returncode == 0, finished.stderr

    @pytest.mark.slow
    def test_home_is_known(self, train, tmp_path, monkeypatch):
        (tmp_path / "x.txt").write_text(TEXT)
        monkeypatch.setenv("HOME", str(tmp_path))
        script = tmp_path / "home.py"
        script.write_text(
            "import os, runpy, sys\n"
            f"os.environ['HOME'] = {str(tmp_path)!r}\n"
            f"sys.argv = [{str(ROOT / 'train.py')!r}, *sys.argv[1:]]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        finished = train(*MINE, "data.train=~/x.txt", *QUICK, module="home.py")
        assert finished.returncode == 0, finished.stderr

    @pytest.mark.slow
    def test_compressed_texts_are_read_as_what_they_are(self, train, tmp_path):
        (tmp_path / "a.txt").write_text(TEXT)
        for ending, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
            (tmp_path / f"a.txt.{ending}").write_bytes(compress(TEXT.encode()))
        summaries = set()
        for name in ("a.txt", "a.txt.gz", "a.txt.bz2", "a.txt.xz"):
            finished = train(*MINE, f"data.train={name}", "data.cache=cache", *QUICK)
            assert finished.returncode == 0, finished.stderr
            summaries.add(next(line for line in finished.stderr.splitlines() if "parameters;" in line))
        assert len(summaries) == 1

    def test_half_of_one_is_refused(self, train, tmp_path):
        (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:60])
        refused = train(*MINE, "data.train=a.txt.gz", "data.cache=cache")
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("error: a.txt.gz: not a whole .gz file (")
        assert not list(tmp_path.glob("cache/texts/*.txt"))

    @pytest.mark.slow
    def test_another_encoding(self, train, answer, tmp_path):
        (tmp_path / "a.txt").write_bytes((TEXT + "für größe ").encode("latin-1") * 9)
        refused = answer(*MINE, "data.train=a.txt")
        assert "not UTF-8 text (byte " in refused
        assert "data.encoding=cp1252" in refused
        finished = train(*MINE, "data.train=a.txt", "data.encoding=cp1252", "data.cache=cache", *QUICK)
        assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_a_sweep_without_callbacks_is_reported(train, tmp_path):
    swept = train("-m", "seed=0,1", *QUICK, "hydra.sweep.dir=sweep")
    assert swept.returncode == 0, swept.stderr
    assert "| 2 of 2 " in swept.stdout
    left = {path.name for path in (tmp_path / "sweep" / "0").iterdir()}
    assert left == {".hydra", ".lock", "result.json", "metrics.json"}
    with open(tmp_path / "sweep" / "report.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished", "finished"]


@pytest.mark.slow
def test_a_report_that_nobody_reads_to_its_end_ends_quietly(train, tmp_path):
    assert train(*QUICK, "hydra.run.dir=runs/a").returncode == 0
    command = [sys.executable, "-m", "unroll.cli.report", "runs"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 1
    assert "BrokenPipe" not in errors
    assert str(tmp_path / "runs") in errors  # where the report is


class TestTrainer:
    def test_every_plain_argument_is_in_the_configuration(self):
        known = OmegaConf.load(ROOT / "conf" / "trainer" / "default.yaml")
        objects = {"self", "logger", "callbacks", "plugins"}
        assert set(inspect.signature(pl.Trainer.__init__).parameters) - set(known) - objects == set()

    @pytest.mark.parametrize(
        "typed",
        [
            ["trainer.fast_dev_run=true"],
            ["trainer.max_time=00:00:10:00"],
            ["trainer.profiler=simple"],
            ["trainer.overfit_batches=2", "trainer.max_epochs=2"],
            ["debug=fast"],
            ["debug=profile", "trainer.limit_train_batches=3"],
        ],
        ids=" ".join,
    )
    @pytest.mark.few(3)
    def test_what_lightning_users_type_works(self, train, tmp_path, typed):
        limits = NO_PLOTS if "overfit" in "".join(typed) or "fast" in "".join(typed) else QUICK
        finished = train(*limits, *typed, "trainer.limit_val_batches=2", "hydra.run.dir=run")
        assert finished.returncode == 0, finished.stderr
        assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"
        assert "fast" not in "".join(typed) or not [*tmp_path.rglob("*.ckpt")]

    @pytest.mark.slow
    def test_overfitting_takes_the_same_batches_again(self, train, tmp_path):
        finished = train("debug=overfit", "trainer.max_epochs=40", "logger=none", *NO_PLOTS, "hydra.run.dir=run")
        assert finished.returncode == 0, finished.stderr
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert result["steps"] == 80
        assert result["metrics"]["train/loss"] < 0.5


@pytest.mark.parametrize("imported", ["pathlib", "omegaconf", "torch"])
@pytest.mark.few(1)
def test_ctrl_c_while_it_starts_ends_it_without_a_traceback(tmp_path, imported):
    typed = ["trainer.max_epochs=1000", "logger=none", "hydra.run.dir=run"]
    command = [sys.executable, "-X", "importtime", ROOT / "train.py", *typed]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while (line := process.stderr.readline()) and line.split("|")[-1].strip() != imported:
        pass
    assert line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode in (-signal.SIGINT, 130)
    assert not list(tmp_path.iterdir())
    assert "Traceback" not in errors
