"""`task=plan`: what is measured, and what is said of it."""

from functools import partial

import pytest
import torch
from pytorch_lightning.plugins import HalfPrecision, MixedPrecision

from lm.language import GRU, CharThree
from lm.language.data import HumanNumbers
from lm.language.learner import LanguageModel
from unroll.cli import plan
from unroll.cli.plan import MIB, Trial, advice, table, with_peak_memory
from unroll.resume import random_state

CPU = torch.device("cpu")


def human_numbers():
    data = HumanNumbers(bptt=20, batch_size=64)
    return data


def test_it_measures_each_window_and_batch_size(train):
    shown = train("task=plan", "model.hidden_size=4", "data.batch_size=4", "trainer.precision=bf16-mixed")
    assert shown.returncode == 0, shown.stderr
    header, *rows = shown.stdout.split("\n\n")[0].splitlines()
    assert header.split() == ["data.bptt", "batch_size=2", "batch_size=4", "batch_size=8", "batch_size=16"]
    assert [int(row.split()[0]) for row in rows] == list(plan.LENGTHS)
    assert all(row.count("/s, ") == 4 for row in rows)
    assert "At data.batch_size=4 the longest window is data.bptt=560" in shown.stdout
    assert shown.stdout.endswith("All of it in trainer.precision=bf16-mixed, as the training would be.\n")


@pytest.mark.slow
def test_longer_windows_and_more_rows_take_more_memory(monkeypatch):
    monkeypatch.setattr(plan, "LONGEST_STEP", float("inf"))  # however slow the machine is
    data = human_numbers()
    module = LanguageModel(GRU(33, hidden_size=64), optimizer=partial(torch.optim.AdamW, lr=1e-2))
    before = random_state.get()["torch"]
    trials = plan.plan(module, data, [64, 512], CPU, lengths=(8, 140))
    assert torch.equal(random_state.get()["torch"], before)
    small, large = trials[8, 64], trials[140, 512]
    assert isinstance(small, Trial)
    assert isinstance(large, Trial)
    activations = 2 * 140 * 512 * 5 * 64 * 4  # bytes: two layers keep three gates and two more of 64 numbers each
    assert large.memory - small.memory > 0.8 * activations


@pytest.mark.parametrize(
    "plugin", [MixedPrecision("bf16-mixed", "cpu"), HalfPrecision("bf16-true")], ids=["mixed", "true"]
)
def test_steps_are_computed_in_the_precision_of_the_training(plugin):
    module = LanguageModel(GRU(33, hidden_size=8), optimizer=partial(torch.optim.AdamW, lr=1e-2))
    found = []
    module.model.head.register_forward_hook(lambda head, inputs, scores: found.append(scores.dtype))
    trials = plan.plan(module, human_numbers(), [4], CPU, lengths=(8,), precision=plugin)
    assert isinstance(trials[8, 4], Trial)
    assert set(found) == {torch.bfloat16}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_the_peak_is_of_the_function_alone():
    def fill(mebibytes):
        return float(torch.ones(mebibytes * 2**18).sum())

    _, high = with_peak_memory(lambda: fill(400), CPU)
    _, low = with_peak_memory(lambda: fill(50), CPU)
    assert 300 * MIB < high - low < 400 * MIB


def test_a_model_of_one_window_is_said_to_be_one():
    trials = plan.plan(LanguageModel(CharThree(33), optimizer=torch.optim.Adam), human_numbers(), [4], CPU)
    assert set(trials.values()) == {"–"}
    assert advice(trials, 4, CPU) == "The model reads windows of one length only."


@pytest.mark.parametrize(
    ("beyond", "words"),
    [
        ("too large", "longer ones do not fit in memory"),
        ("slow", "a step of longer ones takes seconds"),
        (None, "longer ones were not tried"),
    ],
)
def test_it_says_why_there_is_no_longer_window(beyond, words):
    trials = {(8, 4): Trial(100.0, MIB), (16, 4): Trial(90.0, 2 * MIB)}
    if beyond:
        trials[32, 4] = beyond
    assert f"longest window is data.bptt=16: {words}." in advice(trials, 4, CPU)
    assert "The fastest is data.bptt=8 data.batch_size=4." in advice(trials, 4, CPU)
    assert "90/s, 2 MiB" in table(trials)
