"""`python train.py` on images: what a run leaves, what TensorBoard shows, and the verbs beside training."""

import csv
import json
import re

import pytest
import torch
from helpers.processes import train
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unroll.errors import UserError
from vision.callbacks import Mistakes
from vision.checkpoint import TrainedImageClassifier
from vision.classify import classify
from vision.data import draw_shapes
from vision.data.files import read_image
from vision.data.shapes import NAMES

SMALL = ["data=shapes", "data.train_images=160", "data.valid_images=60", "data.batch_size=32", "threads=1"]
SHORT = [*SMALL, "trainer.max_epochs=2", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder, and what it has printed."""
    folder = tmp_path_factory.mktemp("images")
    finished = train("model=conv_bn", *SHORT, "hydra.run.dir=run", folder=folder)
    assert finished.returncode == 0, finished.stderr
    return folder, finished


class TestRun:
    def test_the_run_directory_holds_what_the_contract_says(self, run):
        directory = run[0] / "run"
        result = json.loads((directory / "result.json").read_text())
        assert set(result) == {
            *("status", "metrics", "epochs", "steps", "images_per_second"),
            *("seconds", "parameters", "seed", "overrides", "precision", "stopped_early"),
        }
        assert set(result["metrics"]) == {"train/loss", "valid/loss", "valid/accuracy"}
        assert result["images_per_second"] * result["seconds"] == pytest.approx(2 * 160, rel=0.01)
        assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]

    def test_a_row_per_epoch_and_few_messages(self, run):
        header, *rows = run[1].stdout.splitlines()
        assert header.split()[:3] == ["epoch", "train", "loss"]
        assert [row.split()[0] for row in rows] == ["1", "2"]
        assert "ConvBN with 155,970 parameters; 160 training and 60 validation images of 10 classes" in run[1].stderr

    def test_metrics_are_sums_over_images(self, run):
        directory = run[0] / "run"
        with open(directory / "metrics.csv", newline="") as file:
            (*_, last) = [row for row in csv.DictReader(file) if row["valid/accuracy"]]
        right = float(last["valid/accuracy"]) * 60  # the last batch has 28
        assert right == pytest.approx(round(right), abs=1e-4)
        assert "valid/perplexity" not in last

    def test_the_checkpoint_alone_gives_the_trained_model(self, run):
        loaded = TrainedImageClassifier.load(run[0] / "run" / "checkpoints" / "last.ckpt")
        assert loaded.classes == NAMES
        assert loaded.model(loaded.normalise(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))).shape == (1, 10)

    def test_the_mistakes_that_it_was_surest_of(self, run):
        image = Image.open(run[0] / "run" / "mistakes.png").convert("L")
        assert image.width > 800
        assert len(image.getcolors()) > 50

    def test_tensorboard_has_images_and_speed(self, run):
        events = EventAccumulator(str(run[0] / "run"), size_guidance={"images": 0})
        events.Reload()
        assert set(events.Tags()["images"]) == {"first batch", "curves", "confusion", "mistakes"}
        assert {"images_per_second", "train/batch_loss", "valid/accuracy", "lr", "grad_norm"} <= set(
            events.Tags()["scalars"]
        )


def test_mistakes_are_wrong_guesses_of_the_whole_validation_the_surest_first():
    board = Mistakes("unused")
    board.on_validation_start(None, None)
    for batch, logits in enumerate(torch.tensor([[[9.0, 0], [0, 2], [1, 0]], [[0, 3], [5, 0], [0, 4]]])):
        images = torch.arange(3) + 3 * batch, torch.tensor([0, 0, 1])
        board.on_validation_batch_end(None, None, {"features": logits}, images, batch)
    found = [(guess, label, int(pixels)) for _, guess, label, pixels in board.mistakes]
    assert found == [(1, 0, 3), (1, 0, 1), (0, 1, 2)]
    assert [sure for sure, *_ in board.mistakes] == pytest.approx([0.9526, 0.8808, 0.7311], abs=1e-4)


class TestVerbs:
    def test_show_batch(self, run):
        folder = run[0]
        shown = train("task=show_batch", "model=conv_bn", *SMALL, folder=folder)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("5 batches of 32 images in an epoch; the first images are in outputs/tasks/")
        assert set(shown.stdout.splitlines()[1].split(", ")) <= set(NAMES)
        assert Image.open(folder / "outputs" / "tasks" / "show_batch" / "batch.png").width > 800

    def test_summary(self, run):
        shown = train("task=summary", "model=simple_net", *SMALL, folder=run[0])
        assert shown.returncode == 0, shown.stderr
        (row,) = [line for line in shown.stdout.splitlines() if "model.hidden" in line]
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[2:4] == ["Linear", "122 K"]
        assert cells[-1] == "[32, 40]"

    @pytest.mark.slow
    def test_lr_find(self, run):
        shown = train("task=lr_find", "model=conv_net", *SMALL, folder=run[0])
        assert shown.returncode == 0, shown.stderr
        assert re.search(r"The loss falls most steeply at optimizer\.lr=\d\.\de-0\d", shown.stdout)

    def test_plan(self, run):
        shown = train("task=plan", "model=conv_net", *SMALL, folder=run[0])
        assert shown.returncode == 0, shown.stderr
        header, row, _, advice, precision = shown.stdout.splitlines()
        assert header.split() == [f"batch_size={rows}" for rows in (16, 32, 64, 128)]
        assert row.count("/s, ") == 4
        assert re.match(r"The fastest is data\.batch_size=\d+; ", advice)
        assert precision == "All of it in trainer.precision=32-true, as the training would be."

    def test_evaluate_gives_what_training_said(self, run):
        folder, finished = run
        said = finished.stdout.splitlines()[2].split()
        found = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", folder=folder)  # with the run's own data
        assert found.returncode == 0, found.stderr
        metrics = dict(line.split() for line in found.stdout.splitlines())
        assert (metrics["valid/loss"], metrics["valid/accuracy"]) == (said[2], said[3])
        assert metrics["valid/images"] == "60"

    @pytest.mark.slow
    def test_evaluate_on_other_images(self, run):
        chosen = ["ckpt=run/checkpoints/last.ckpt", "model=conv_bn", "data=shapes", "data.valid_images=77"]
        more = train("task=evaluate", *chosen, folder=run[0])
        assert more.returncode == 0, more.stderr
        assert more.stdout.splitlines()[-1].split() == ["valid/images", "77"]
        other = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", "data=human_numbers", folder=run[0])
        assert other.returncode == 1
        assert "the data give tokens and the model takes images" in other.stderr


class TestClassify:
    def test_it_says_of_a_file_what_the_model_says_of_its_pixels(self, run, program, tmp_path):
        pixels = draw_shapes(2, seed=5).pixels
        for name, image in zip(("small.png", "large.png"), pixels, strict=True):
            size = 32 if name == "small.png" else 96
            image = Image.fromarray(image.permute(1, 2, 0).numpy())
            image.resize((size, size), Image.Resampling.NEAREST).save(tmp_path / name)
        checkpoint = run[0] / "run" / "checkpoints" / "last.ckpt"
        shown = program("vision.classify", checkpoint, "small.png", "large.png")
        assert shown.returncode == 0, shown.stderr
        loaded = TrainedImageClassifier.load(checkpoint)
        for line, sure in zip(shown.stdout.splitlines(), classify(loaded, pixels), strict=True):
            first, *others = line.split(": ")[1].split(", ")
            assert first == f"{NAMES[sure.argmax()]} {sure.max():.3f}"
            assert len(others) == 2

    @pytest.mark.parametrize(("name", "words"), [("none.png", "no such file"), ("text.png", "not an image")])
    def test_what_is_no_image_is_refused_in_one_line(self, tmp_path, name, words):
        (tmp_path / "text.png").write_text("an image")
        with pytest.raises(UserError, match=words):
            read_image(tmp_path / name, 32)


@pytest.mark.slow
def test_a_sweep_over_models_ends_with_one_table(tmp_path):
    sweep = ["-m", "experiment=ladder", *SHORT[1:], "model=simple_net,conv_bn", "hydra.sweep.dir=sweep"]
    finished = train(*sweep, "callbacks.curves=null", folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    header, _, *rows = [line for line in finished.stdout.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns == ["model", "finished", "valid/loss", "valid/accuracy", "train/loss", "seconds", "images/s"]
    accuracies = [float(row.split("|")[4]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row.split("|")[1].strip() for row in rows} == {"simple_net", "conv_bn"}


@pytest.mark.parametrize(("model", "precision"), [("conv_bn", "bf16-true"), ("resnet_preact", "bf16-mixed")])
@pytest.mark.slow
def test_less_precision(tmp_path, model, precision):
    settings = [*SMALL, "trainer.max_epochs=1", "callbacks.curves=null", f"trainer.precision={precision}"]
    finished = train(f"model={model}", *settings, "hydra.run.dir=run", folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["valid/loss"] < 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_ladder_leads_upwards(tmp_path):
    ladder = ["-m", "experiment=ladder", "hydra.sweep.dir=sweep"]
    finished = train(*ladder, folder=tmp_path, timeout=1100)
    assert finished.returncode == 0, finished.stderr
    accuracy = {}
    for row in csv.DictReader((tmp_path / "sweep" / "report.csv").open(newline="")):
        accuracy[row["model"]] = float(row["valid/accuracy"])
    assert accuracy["simple_net"] < accuracy["conv_net"] < accuracy["conv_bn"] < accuracy["resnet_preact"]
    assert accuracy["resnet_preact"] > 0.98
