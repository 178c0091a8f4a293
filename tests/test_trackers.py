"""MLflow and Weights & Biases: metrics, samples, plots and settings; a run that is resumed goes on in the same one."""

import csv
import json
import signal
import time
from collections import Counter

import pytest
from helpers.processes import TrainProcess

from unroll.training.trackers import LoggedSteps

SHORT = ["trainer.limit_train_batches=20", "trainer.limit_val_batches=2", "trainer.log_every_n_steps=1"]
SMALL = ["model.hidden_size=8", "model.embedding_size=8", "checkpoint.every_n_steps=3", "hydra.run.dir=run"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


class TestLoggedSteps:
    def test_what_was_logged_is_not_logged_twice(self, tmp_path):
        logged = LoggedSteps(tmp_path / "a.json")
        assert logged.not_yet_logged({"loss": 1.0, "lr": 2.0}, 5) == {"loss": 1.0, "lr": 2.0}
        logged.add("some-id", {"loss": 1.0}, 5)
        again = LoggedSteps(tmp_path / "a.json")
        assert again.id == "some-id"
        assert again.not_yet_logged({"loss": 1.0, "lr": 2.0}, 5) == {"lr": 2.0}
        assert again.not_yet_logged({"loss": 1.0}, 6) == {"loss": 1.0}


def killed_after(rows, *arguments, folder):
    """A run that is killed when its metrics.csv has so many rows."""
    process = TrainProcess(*arguments, folder=folder)
    path = folder / "run" / "metrics.csv"
    while process.poll() is None and not (path.exists() and len(path.read_text().splitlines()) > rows):
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()


class TestMLflow:
    @pytest.fixture
    def client(self, tmp_path):
        mlflow = pytest.importorskip("mlflow")
        return lambda: mlflow.MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")

    @pytest.mark.slow
    def test_a_run_that_is_killed_goes_on_in_the_same_run_with_no_metric_twice(self, tmp_path, client, train):
        killed_after(25, "logger=mlflow", *SHORT, *SMALL, "trainer.max_epochs=3", folder=tmp_path)
        note = tmp_path / "run" / "mlflow.json"
        noted = json.loads(note.read_text())
        noted["steps"]["train/batch_loss"] -= 1  # as if it was killed after it sent a metric and before it noted that
        note.write_text(json.dumps(noted))
        resumed = train("resume=run")
        assert resumed.returncode == 0, resumed.stderr
        (run,) = client().search_runs(["1"])
        assert run.info.status == "FINISHED"
        assert run.data.params["data.bptt"] == "20"
        with open(tmp_path / "run" / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        for name in ("train/batch_loss", "train/loss", "valid/accuracy", "lr"):
            expected = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            history = sorted((point.step, point.value) for point in client().get_metric_history(run.info.run_id, name))
            assert history == expected
        kept = tmp_path / "outputs" / "mlflow" / run.info.run_id / "artifacts"
        assert {"curves.png", "activations.png"} <= {path.name for path in kept.iterdir()}
        assert len(list((kept / "sample").iterdir())) == 3
        assert list((tmp_path / "run").glob("events.out.tfevents.*"))

    @pytest.mark.slow
    def test_a_sweep_leaves_its_report_there(self, tmp_path, client, train):
        swept = ["-m", "model.hidden_size=4,8", "hydra.sweep.dir=sweep", "logger=mlflow", "logger.tensorboard=null"]
        finished = train(*swept, *SHORT, "trainer.max_epochs=1")
        assert finished.returncode == 0, finished.stderr
        runs = client().search_runs(["1"])
        assert Counter(run.info.run_name for run in runs) == {f"{tmp_path.name}/sweep": 1, "sweep/0": 1, "sweep/1": 1}
        report = next(run for run in runs if run.info.run_name.endswith("/sweep"))
        kept = tmp_path / "outputs" / "mlflow" / report.info.run_id / "artifacts"
        assert sorted(path.name for path in kept.iterdir()) == ["report.csv", "report.md", "report.png"]
        assert not list((tmp_path / "sweep").rglob("events.out.tfevents.*"))


@pytest.mark.slow
class TestWandb:
    def test_a_run_that_is_killed_goes_on_in_the_same_run(self, tmp_path, train):
        pytest.importorskip("wandb")
        typed = ["logger=wandb", "logger.wandb.offline=true", "logger.tensorboard=null", *SHORT, *SMALL]
        killed_after(25, *typed, "trainer.max_epochs=3", folder=tmp_path)
        before = json.loads((tmp_path / "run" / "wandb.json").read_text())
        resumed = train("resume=run")
        assert resumed.returncode == 0, resumed.stderr
        after = json.loads((tmp_path / "run" / "wandb.json").read_text())
        assert after["id"] == before["id"]
        assert after["steps"]["train/batch_loss"] == 59 > before["steps"]["train/batch_loss"]
        folders = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
        assert [folder.name.rpartition("-")[2] for folder in folders] == [before["id"]] * 2
        media = [path.name for path in (tmp_path / "run" / "wandb").rglob("media/*/*")]
        assert any(name.startswith("sample") for name in media)
        assert any(name.startswith("curves") for name in media)
        assert not list((tmp_path / "run").glob("events.out.tfevents.*"))

    def test_each_run_of_a_sweep_is_one_of_its_own_and_so_is_the_report(self, tmp_path, train):
        pytest.importorskip("wandb")
        typed = ["logger=wandb", "logger.wandb.offline=true", "model.hidden_size=4,8", "hydra.sweep.dir=sweep", *SHORT]
        finished = train("-m", *typed, "trainer.max_epochs=1")
        assert finished.returncode == 0, finished.stderr
        folders = [tmp_path / "sweep" / name for name in ("", "0", "1")]
        ids = [json.loads((folder / "wandb.json").read_text())["id"] for folder in folders]
        assert len(set(ids)) == 3
        for folder, name in zip(folders, ids, strict=True):
            assert len(list(folder.glob(f"wandb/offline-run-*-{name}/*.wandb"))) == 1


@pytest.mark.slow
def test_nothing_of_them_is_imported_unless_it_is_chosen(command):
    modules = "unroll.training.loggers, unroll.training.callbacks, lm.language.callbacks"
    code = f"import sys, {modules}; print({{'mlflow', 'wandb'}} & {{*sys.modules}})"
    assert command("-c", code).stdout == "set()\n"


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_without_the_library_one_line_says_how_to_install_it(name, monkeypatch, tmp_path):
    from unroll import errors
    from unroll.errors import UserError
    from unroll.training import trackers

    monkeypatch.setattr(errors, "find_spec", lambda library: None)
    make = {
        "mlflow": lambda: trackers.MLflow("run", "a", "sqlite:///a.db"),
        "wandb": lambda: trackers.Wandb("run", "a"),
    }
    with pytest.raises(UserError, match=rf"logger={name} needs the {name} library: pip install .*\[{name}\]"):
        make[name]()
