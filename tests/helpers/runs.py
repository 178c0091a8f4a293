"""Real `train.py` processes that are killed, told to stop, and resumed."""

import csv
import json
import random
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.processes import TrainProcess
from helpers.samples import columns, reviews, sentences, some_numbers, some_text

# One thread, as the tests run side by side.
EXACT = ["threads=1", "trainer.log_every_n_steps=1", "checkpoint.every_n_steps=7", "callbacks.curves=null"]

IMAGES = [
    *["model=resnet_preact", "model.widths=[4,8]", "data=shapes"],
    *["data.train_images=230", "data.valid_images=40", "data.batch_size=24"],
]

NO_PLOTS = ["callbacks.curves=null", "callbacks.hidden_state=null"]  # they take most of so short a run

# Enough to see a bit that differs, and no plots.
SMALL = ["model.hidden_size=16", "model.embedding_size=16", "callbacks.hidden_state=null"]

SHORT = ["schedule=constant", "trainer.limit_train_batches=10", "trainer.limit_val_batches=4", *EXACT]


class Run:
    """A run in a directory of its own, and the `train.py` process that is at it."""

    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path, name: str, overrides: list[str]) -> None:
        self.folder = folder
        self.directory = folder / name
        self.first_command = [*overrides, f"hydra.run.dir={name}"]
        self.resume_command = [f"resume={name}"]
        (folder / "text.txt").write_text(some_text(16_000))
        (folder / "numbers.csv").write_text(some_numbers())
        documents = [{"text": text, "label": label} for text, label in reviews(160)]
        (folder / "reviews.jsonl").write_text("\n".join(map(json.dumps, documents)))
        (folder / "words.txt").write_text(columns(sentences(200)))

    def start(self, *arguments: str, **settings: Any) -> TrainProcess:
        if not arguments:
            arguments = tuple(self.resume_command if self.directory.exists() else self.first_command)
        # TensorBoard reads event files in the order of their names: the second, then the process number as text.
        while any(int(time.time()) <= int(file.name.split(".")[3]) for file in self.directory.glob("events.*")):
            time.sleep(0.05)
        return TrainProcess(*arguments, folder=self.folder, **self.settings, **settings)

    def finish(self, *arguments: str) -> str:
        process = self.start(*arguments)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        return errors

    def signal_when(self, condition, number: int) -> tuple[int, str]:
        """Starts the run, or goes on with it, and sends it a signal as soon as the condition holds."""
        process = self.start()
        while process.poll() is None and not condition():
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be stopped"
        process.send_signal(number)
        _, errors = process.communicate(timeout=200)
        return process.returncode, errors

    def rows(self) -> list[dict[str, str]]:
        try:
            with open(self.directory / "metrics.csv", newline="") as file:
                return list(csv.DictReader(file))
        except OSError:
            return []

    def step(self) -> int:
        """The step that was logged last."""
        try:
            lines = (self.directory / "metrics.csv").read_text().splitlines()
        except OSError:
            return -1
        columns = [line.split(",") for line in lines[:1] + lines[-1:]]
        return int(dict(zip(*columns, strict=False)).get("step") or -1) if len(lines) > 1 else -1

    def weights(self) -> dict[str, torch.Tensor]:
        """Those of the checkpoint, and where they are an average, those that training goes on with."""
        checkpoint = torch.load(self.directory / "checkpoints" / "last.ckpt", weights_only=True)
        trained = checkpoint.get("current_model_state", {})
        return checkpoint["state_dict"] | {f"trained {name}": tensor for name, tensor in trained.items()}

    def result(self) -> dict:
        return json.loads((self.directory / "result.json").read_text())

    def scalars(self) -> dict[str, list[tuple[int, float | None]]]:
        events = EventAccumulator(str(self.directory))
        events.Reload()
        return {
            tag: [(event.step, None if tag.endswith("_per_second") else event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }


def assert_same(run: Run, undisturbed: Run) -> None:
    weights, ours = undisturbed.weights(), run.weights()
    assert weights.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, weights[name]), name
    assert (run.directory / "metrics.csv").read_bytes() == (undisturbed.directory / "metrics.csv").read_bytes()
    assert run.scalars() == undisturbed.scalars()
    result, expected = run.result(), undisturbed.result()
    for key in ("status", "metrics", "epochs", "steps", "parameters", "seed"):
        assert result[key] == expected[key]


def kill_and_resume(folder: Path, overrides: list[str], kills: int, seed: int) -> None:
    undisturbed = Run(folder, "undisturbed", [*overrides, *EXACT])
    undisturbed.finish()
    steps = undisturbed.result()["steps"]
    moments = sorted(random.Random(seed).sample(range(1, steps - 3), kills))
    run = Run(folder, "killed", [*overrides, *EXACT])
    for moment in moments:
        status, errors = run.signal_when(lambda moment=moment: run.step() >= moment, signal.SIGKILL)
        assert status == -signal.SIGKILL, errors
        assert "Traceback" not in errors
    run.finish()
    assert_same(run, undisturbed)
