"""TensorBoard asked over HTTP for what its tabs show, and the images that a run leaves."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

import pytest
from helpers.processes import train
from PIL import Image

pytestmark = pytest.mark.slow  # it takes a run, a sweep and a server

SHORT = ["trainer.max_epochs=2", "trainer.limit_train_batches=20", "trainer.limit_val_batches=5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run and a sweep of two."""
    folder = tmp_path_factory.mktemp("board")
    for command in (["hydra.run.dir=logs/run"], ["-m", "data.bptt=8,20", "hydra.sweep.dir=logs/sweep"]):
        finished = train(*command, *SHORT, folder=folder)
        assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture(scope="module")
def ask(folder):
    """Asks TensorBoard's HTTP interface, once it has read everything."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        folder / "logs",
        "--port",
        "0",
        "--load_fast=false",
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if address := re.search(r"http://\S+", line):
            break

    def get(path, body=None, kind="application/json"):
        request = urllib.request.Request(f"{address[0]}data/plugin/{path}", data=body, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    deadline = time.monotonic() + 60
    while len(json.loads(get("images/tags"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.5)
    yield get
    server.terminate()
    server.communicate()


RUNS = {"run", "sweep/0", "sweep/1"}


def test_scalars(ask):
    tags = json.loads(ask("scalars/tags"))
    assert set(tags) == RUNS
    names = {"train/batch_loss", "train/loss", "valid/loss", "valid/accuracy", "valid/perplexity"}
    assert names | {"lr", "grad_norm", "tokens_per_second", "saturation"} <= set(tags["run"])
    speeds = json.loads(ask(f"scalars/scalars?run=run&tag={quote('tokens_per_second')}"))
    assert len(speeds) == 4
    assert all(value > 1000 for _, _, value in speeds)


def test_hparams_with_the_final_metrics(ask, folder):
    wanted = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING"]}
    names = [{"name": {"group": "", "tag": "valid/loss"}}]
    body = json.dumps({**wanted, "colParams": [{"metric": names[0]["name"]}], "startIndex": 0, "sliceSize": 10})
    groups = json.loads(ask("hparams/session_groups", body.encode()))["sessionGroups"]
    assert len(groups) == 3
    for group in groups:
        (session,) = group["sessions"]
        directory = folder / "logs" / session["name"]
        losses = {metric["name"]["tag"]: metric["value"] for metric in session["metricValues"]}
        result = json.loads((directory / "result.json").read_text())
        assert losses["valid/loss"] == pytest.approx(result["metrics"]["valid/loss"])
    assert {group["hparams"]["data.bptt"] for group in groups} == {8, 20}
    assert groups[0]["hparams"]["model"] == "GRU"


def test_the_settings_that_matter_most_are_the_first_columns(ask):
    found = json.loads(ask("hparams/experiment", json.dumps({"experimentName": ""}).encode()))
    names = [info["name"] for info in found["hparamInfos"]]
    assert names[:5] == ["data", "data.bptt", "model", "optimizer.lr", "seed"]
    assert "settings/model.hidden_size" in names


def test_text(ask):
    assert json.loads(ask("text/tags"))["run"] == ["sample/text_summary"]
    samples = json.loads(ask("text/text?run=run&tag=sample/text_summary"))
    assert len(samples) == 2
    assert "eight thousand" in samples[0]["text"]
    assert max(map(len, samples[0]["text"].splitlines())) < 120  # what is wider has to be scrolled


def test_images(ask):
    tags = json.loads(ask("images/tags"))["run"]
    assert set(tags) == {"curves", "activations"}
    (image,) = json.loads(ask("images/images?run=run&tag=activations&sample=0"))
    assert ask(f"images/individualImage?{image['query']}").startswith(b"\x89PNG")


def test_histograms(ask):
    assert set(json.loads(ask("histograms/tags"))["run"]) == {"hidden_state/layer_0", "hidden_state/layer_1"}


def test_projector(ask):
    assert "run" in json.loads(ask("projector/runs"))
    (embedding,) = json.loads(ask("projector/info?run=run"))["embeddings"]
    assert embedding["tensorName"] == "embedding"
    vectors = ask("projector/tensor?run=run&name=embedding")
    assert len(vectors) == 33 * 64 * 4
    tokens = ask("projector/metadata?run=run&name=embedding").decode().splitlines()
    assert len(tokens) == 33
    assert "thousand" in tokens


@pytest.mark.parametrize("name", ["curves", "activations"])
def test_the_images_show_something(folder, name):
    image = Image.open(folder / "logs" / "run" / f"{name}.png").convert("L")
    assert image.width >= 900
    assert len(image.getcolors()) > 50


def test_a_model_without_a_state_has_no_activations(tmp_path):
    finished = train("model=unrolled", "hydra.run.dir=run", *SHORT, folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert not (tmp_path / "run" / "activations.png").exists()
    assert (tmp_path / "run" / "curves.png").exists()
