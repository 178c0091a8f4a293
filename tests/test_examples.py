"""The programs in examples/ run as they stand there, and show what they say."""

import random
import re
import shutil
import signal
import time

import pytest
import torch
from conftest import ROOT
from helpers.processes import TrainProcess, train

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture
def run(tmp_path):
    """Runs an example in an empty folder; returns what it prints."""

    def example(name, *arguments):
        shutil.copy(ROOT / "examples" / name, tmp_path)
        finished = train(*arguments, folder=tmp_path, module=name)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return example


@pytest.mark.slow
def test_a_carried_state_forecasts_better_than_windows_without_one(run):
    shown = run("forecast.py")
    naive, windows, carried = (float(value) for value in re.findall(r"  +(\d+\.\d{4})", shown))
    assert carried < windows < naive


def test_a_column_of_a_file_can_be_forecast(run, tmp_path):
    values = torch.arange(2500).mul(0.1).sin()
    (tmp_path / "wave.csv").write_text("\n".join(["wave", *map(str, values.tolist())]))
    shown = run("forecast.py", tmp_path / "wave.csv", "wave", 4)
    assert shown.startswith("mean absolute error, 4 steps ahead")


@pytest.mark.slow
def test_documents_are_learnt(run):
    losses = [float(loss) for loss in re.findall(r": (\d\.\d+) nats", run("documents.py"))]
    assert len(losses) == 3
    assert losses[-1] < losses[0] < 5.55  # nats of 256 equally likely bytes


def test_a_loop_without_lightning_trains_and_goes_on_from_a_saved_state(run):
    shown = run("plain_loop.py")
    assert float(re.search(r"squared error: (\S+)", shown)[1]) < 0.01
    assert "as if never stopped: True" in shown


@pytest.mark.slow
def test_a_policy_learns_to_remember(run):
    assert float(re.findall(r": (\d\.\d\d) of the turns", run("rollouts.py"))[-1]) > 0.9


def test_forecasts_while_readings_arrive_are_those_of_reading_all_again(run):
    shown = run("online.py")
    assert "as if all was read again: True" in shown
    ours, simple = map(float, re.search(r"error (\S+), that nothing changes (\S+)", shown).groups())
    assert ours < simple


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_needs_unroll_alone(name):
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert not re.search(r"^(?:import|from) (?:lm|vision|hydra|series|unroll\.cli)", text, re.MULTILINE)


@pytest.mark.slow
def test_documents_killed_at_random_and_resumed_end_the_same(tmp_path):
    def last(name):
        (tmp_path / name).mkdir(exist_ok=True)
        shutil.copy(ROOT / "examples" / "documents.py", tmp_path / name)
        return tmp_path / name / "checkpoints" / "last.ckpt"

    whole, killed = last("whole"), last("killed")
    finished = train(folder=tmp_path / "whole", module="documents.py")
    assert finished.returncode == 0, finished.stderr
    delays, kills = random.Random(0), 0
    for _ in range(40):
        arguments = ["--resume"] if killed.exists() else []
        process = TrainProcess(*arguments, folder=tmp_path / "killed", module="documents.py")
        began, before = time.monotonic(), killed.stat().st_mtime_ns if killed.exists() else 0
        while process.poll() is None and (not killed.exists() or killed.stat().st_mtime_ns == before):
            assert time.monotonic() - began < 100
            time.sleep(0.01)
        time.sleep(delays.random())
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.process.join()
        kills += 1
    assert kills >= 5
    assert process.returncode == 0, process.read(2)
    ours, theirs = (torch.load(path, weights_only=True) for path in (killed, whole))
    assert ours["global_step"] == theirs["global_step"]
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(tensor, ours["state_dict"][name]), name
