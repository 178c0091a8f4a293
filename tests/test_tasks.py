"""The commands beside training."""

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers import processes
from helpers.runs import NO_PLOTS
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from lm.language.show import show_batch
from lm.text import Tokenizer, Vocabulary
from unroll import Stream
from unroll.cli.commands import RisingRate, steepest

TEXT = "It was the best of times, it was the worst of times. " * 100


def written(folder):
    """A text in a folder, and what reads it."""
    (folder / "mine.txt").write_text(TEXT)
    return ["data=text", "data.train=mine.txt", "data.batch_size=8", "data.bptt=20"]


@pytest.fixture
def mine(tmp_path):
    return written(tmp_path)


def test_show_batch_shows_that_batches_join_up(train, mine, tmp_path):
    shown = train("task=show_batch", *mine)
    assert shown.returncode == 0, shown.stderr
    rows = [line for line in shown.stdout.splitlines() if line.startswith(("row", "target"))]
    assert len(rows) == 8
    first = "".join(cell.rstrip("\n")[:20] for cell in re.split(r" +\| ", rows[0][7:]))
    assert TEXT.startswith(first[:19])
    assert "Each row continues in the next batch: yes" in shown.stdout
    assert not list(tmp_path.rglob(".hydra"))


def test_show_batch_notices_when_they_do_not():
    stream = Stream(torch.arange(300), 4, 10)
    vocabulary = Vocabulary.build(map(str, range(300)), Tokenizer("words"))
    assert "Each row continues in the next batch: yes" in show_batch(stream, vocabulary)
    stream.batches = lambda first: reversed(list(Stream.batches(stream, first)))
    assert "Each row continues in the next batch: no" in show_batch(stream, vocabulary)


@pytest.mark.parametrize(("model", "parameters"), [("gru", "54.3 K"), ("unrolled", "8.5 K")])
def test_summary_gives_layers_shapes_and_parameters(train, model, parameters):
    shown = train("task=summary", f"model={model}")
    assert shown.returncode == 0, shown.stderr
    rows = {line.split("|")[1].strip(): line for line in shown.stdout.splitlines() if line.count("|") > 3}
    assert parameters in rows["model"]
    assert "2.1 K" in rows["model.embed"]
    if model == "gru":
        assert "[64, 20, 64]" in rows["model.embed"]
        assert "[[64, 20, 64], [2, 64, 64]]" in rows["model.rnn"]  # outputs and state


class TestLearningRate:
    def test_the_suggestion_is_where_the_loss_falls_most(self):
        assert steepest([1, 2, 3, 4], [5.0, 4.5, 3.0, 3.1]) == 2
        assert steepest([1, 2, 3], [1.0, 2.0, 3.0]) is None

    def test_each_group_of_parameters_keeps_its_share_of_the_rate(self):
        model = nn.Linear(2, 2)
        groups = [{"params": [model.weight], "lr": 0.05}, {"params": [model.bias]}]
        trainer = SimpleNamespace(optimizers=[torch.optim.SGD(groups, lr=0.1)], should_stop=False)
        rising = RisingRate(lowest=0.01, highest=1.0, steps=3)
        rising.on_train_start(trainer, None)
        for rate in (0.01, 0.1, 1.0):
            rising.on_train_batch_start(trainer, None, None, 0)
            assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([rate / 2, rate])
            rising.on_train_batch_end(trainer, None, {"loss": 1.0}, None, 0)

    def test_from_the_command_line(self, train, mine, tmp_path):
        shown = train("task=lr_find", *mine)
        assert shown.returncode == 0, shown.stderr
        rows = re.findall(r"^ *(\S+e-?\d+)  (\S+)$", shown.stdout, re.MULTILINE)
        rates, losses = zip(*(map(float, row) for row in rows), strict=True)
        assert list(rates) == sorted(rates)
        assert rates[0] == 1e-6
        assert min(losses) < losses[0] - 0.5
        found = re.search(r"The loss falls most steeply at optimizer\.lr=(\S+)", shown.stdout)
        assert 1e-4 < float(found[1]) < 1e-1
        assert Image.open(tmp_path / "outputs" / "tasks" / "lr_find" / "lr_find.png").size == (840, 480)
        assert [path.name for path in tmp_path.rglob("*.ckpt")] == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    mine = written(folder)
    run = processes.train(*mine, *NO_PLOTS, "trainer.max_epochs=1", "hydra.run.dir=run", folder=folder)
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


@pytest.fixture
def said(finished, tmp_path):
    """What a run in the folder `run` has printed."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return finished[1]


class TestEvaluate:
    @pytest.mark.few(1)
    def test_it_gives_what_training_said(self, train, said):
        row = said.splitlines()[1].split()
        found = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt")  # with the run's own data
        assert found.returncode == 0, found.stderr
        metrics = dict(line.split() for line in found.stdout.splitlines())
        assert metrics["valid/loss"] == row[2]
        assert metrics["valid/accuracy"] == row[3]
        other = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", "data=human_numbers")
        assert other.returncode == 1
        assert "differ in their vocabulary" in other.stderr.splitlines()[-1]

    @pytest.mark.slow
    def test_on_another_text_with_the_settings_of_the_run(self, train, said, tmp_path):
        (tmp_path / "other.txt").write_text(TEXT[:501])
        whole = train("task=evaluate", "ckpt=run", "data.valid=other.txt", "data.batch_size=1", "data.bptt=500")
        windows = train("task=evaluate", "ckpt=run/checkpoints/best.ckpt", "data.valid=other.txt", "data.batch_size=1")
        assert windows.returncode == 0, windows.stderr
        assert whole.stdout == windows.stdout  # whatever the windows
        assert whole.stdout.splitlines()[-1].split() == ["valid/tokens", "500"]

    def test_another_model_than_the_checkpoints_is_refused(self, train, said):
        answer = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", "model=rnn")
        assert answer.returncode == 1
        (line,) = answer.stderr.splitlines()
        assert line.startswith("error: run/checkpoints/last.ckpt: ")

    def test_what_a_strangers_run_directory_names_is_not_imported(self, train, said, tmp_path):
        (tmp_path / "stranger.py").write_text("open('touched', 'w').close()\n")
        path = tmp_path / "run" / ".hydra" / "config.yaml"
        settings = OmegaConf.load(path)
        settings.trainer.profiler = {"_target_": "stranger.Profiler"}
        OmegaConf.save(settings, path)
        answer = train("task=evaluate", "ckpt=run", path=tmp_path)
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: trainer.profiler: the run names stranger.Profiler, which no file in ")
        assert not (tmp_path / "touched").exists()
        assert train("task=evaluate", "ckpt=run", "trainer.profiler=null", path=tmp_path).returncode == 0

    @pytest.mark.parametrize("arguments", [["task=evaluate"], ["ckpt=some.ckpt"], ["task=sing"]])
    def test_bad_input(self, train, tmp_path, arguments):
        answer = train(*arguments)
        assert answer.returncode == 1
        (line,) = answer.stderr.splitlines()
        assert line.startswith("error: task")
        assert not (tmp_path / "outputs").exists()
