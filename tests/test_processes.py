"""Several processes train one model: the same losses as one process, and the same answers to signals and mistakes."""

import csv
import signal

import pytest
import torch
from helpers.runs import EXACT, IMAGES, Run

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


# Masks are each process's own; sums are in another order, which in double precision does not show.
ALIKE = ["trainer.precision=64-true", "data.batch_size=16"]
NO_DROPOUT = ["model.input_dropout=0", "model.hidden_dropout=0", "model.output_dropout=0"]
CHOSEN = {
    "text": ["data.numbers.train=[1,1999]", "data.numbers.valid=[8001,8499]"],
    "images": [*IMAGES, "model.dropout=0", "trainer.precision=64-true"],
    "documents": [
        *["model=classifier", "data=documents", "data.train=reviews.jsonl", *ALIKE],
        *["model.embed_dropout=0", "model.head_dropout=0", *NO_DROPOUT],
    ],
    "labels": [
        "model=tagger",
        "data=columns",
        "data.train=words.txt",
        "data.columns=[word,pos,tag]",
        "model.word_dropout=0",
        *ALIKE,
        *NO_DROPOUT,
    ],
}


@pytest.fixture(
    scope="module",
    params=["text", *(pytest.param(name, marks=pytest.mark.slow) for name in ("images", "documents", "labels"))],
)
def two(request, tmp_path_factory):
    chosen = CHOSEN[request.param]
    run = Run(tmp_path_factory.mktemp("two"), "two", [*chosen, *TWO, "trainer.max_epochs=1", *EXACT])
    run.chosen = chosen
    run.finish()
    return run


def metrics(run, name):
    return [float(row[name]) for row in run.rows() if row[name]]


@pytest.mark.few(1)
def test_losses_and_metrics_are_those_of_one_process(two):
    one = Run(two.folder, "one", [*two.chosen, "trainer.max_epochs=1", *EXACT])
    one.finish()
    assert metrics(two, "train/batch_loss") == pytest.approx(metrics(one, "train/batch_loss"), abs=1e-4)
    for name in ("train/loss", "valid/loss", "valid/accuracy"):
        assert metrics(two, name) == pytest.approx(metrics(one, name), abs=1e-6)
    for name, tensor in one.weights().items():
        torch.testing.assert_close(two.weights()[name], tensor, atol=1e-4, rtol=0)


def test_only_one_process_writes(two):
    assert len(list(two.directory.glob("events.out.tfevents.*"))) == 1
    assert two.result()["overrides"] == two.first_command[:-1]
    with open(two.directory / "metrics.csv", newline="") as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["train/batch_loss"]]
    assert steps == [str(step) for step in range(two.result()["steps"])]


@pytest.mark.slow
@pytest.mark.parametrize("two", ["text"], indirect=True)
def test_stopped_by_a_signal_to_one_of_them_they_go_on_together(two):
    run = Run(two.folder, "stopped", two.first_command[:-1])
    status, errors = run.signal_when(lambda: run.step() >= two.result()["steps"] // 3, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM, errors
    run.finish()
    assert (run.directory / "metrics.csv").read_bytes() == (two.directory / "metrics.csv").read_bytes()
    assert all(torch.equal(tensor, two.weights()[name]) for name, tensor in run.weights().items())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "chosen", [[*CHOSEN["text"], *ALIKE[:1]], *(CHOSEN[name] for name in CHOSEN if name != "text")]
)
def test_a_run_is_resumed_with_more_and_with_fewer_processes(chosen, tmp_path):
    one = Run(tmp_path, "alone", [*chosen, "trainer.max_epochs=2", *EXACT])
    one.finish()
    run = Run(tmp_path, "elastic", [*chosen, "trainer.max_epochs=2", *EXACT])
    for processes in (2, 4, 1):
        begun = run.step()
        status, errors = run.signal_when(lambda begun=begun: run.step() > begun, signal.SIGTERM)
        assert status == 128 + signal.SIGTERM, errors
        run.resume_command = ["resume=elastic", f"trainer.devices={processes}", "trainer.accelerator=cpu"]
    run.finish()
    assert metrics(run, "train/batch_loss") == pytest.approx(metrics(one, "train/batch_loss"), abs=1e-9)
    for name in ("train/loss", "valid/loss"):  # Lightning logs them in single precision
        assert metrics(run, name) == pytest.approx(metrics(one, name), abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.batch_size=63"], "data.batch_size=63 can't be shared evenly by 2 processes"),
        (["data.batch_size=2"], "leaves the last of 2 processes without a row"),
        (["data.bptt=0"], "data.bptt=0"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_one_line(tmp_path, overrides, words):
    process = Run(tmp_path, "run", []).start(*TWO, *overrides)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert words in line
