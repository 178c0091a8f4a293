"""Sweeps that can be trusted: what they leave, what they say of failures, and how they go on."""

import csv
import json
import signal
import time

import pytest
from helpers.processes import ROOT, TrainProcess
from PIL import Image

from unroll.cli.report.runs import find_runs
from unroll.cli.report.statistics import ranked_settings, swept_keys
from unroll.cli.report.tables import markdown
from unroll.cli.report.write import write_report
from unroll.errors import UserError

SHORT = ["trainer.limit_train_batches=12", "trainer.limit_val_batches=4", "trainer.log_every_n_steps=4"]
SHORT += ["callbacks.curves=null", "callbacks.hidden_state=null"]  # plots take most of so short a run


def rows(folder):
    with open(folder / "report.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_one_value_that_fails_leaves_the_others_alone(train, tmp_path):
    sweep = ["-m", "model=gru", "data.bptt=8,0,20", "trainer.max_epochs=1", "hydra.sweep.dir=sweep", *SHORT]
    finished = train(*sweep)
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert finished.stderr.splitlines()[-1].startswith("error: 1 of the sweep's jobs failed")
    assert len(list(tmp_path.glob("sweep/*/result.json"))) == 2
    status = {row["data.bptt"]: row["status"] for row in rows(tmp_path / "sweep")}
    assert status == {"8": "finished", "0": "failed", "20": "finished"}
    assert "sweep/1: failed (data.bptt=0: must be a whole number, 1 or more)" in finished.stderr
    assert "data.bptt=0: must be a whole number" in (tmp_path / "sweep" / "report.md").read_text()

    other = train("-m", "model=gru", "data.bptt=8,20", "hydra.sweep.dir=sweep")
    assert other.returncode == 1
    (line,) = other.stderr.splitlines()
    assert line.startswith("error: sweep holds another sweep (model=gru data.bptt=8,0,20 ")


STOPPED_EARLY = [
    *["+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping", "+callbacks.stop.monitor=valid/loss"],
    *["+callbacks.stop.patience=1", "+callbacks.stop.min_delta=100"],
]


@pytest.mark.slow
def test_a_job_that_was_stopped_early_is_finished(train, tmp_path):
    sweep = ["-m", "seed=0", *STOPPED_EARLY, "hydra.sweep.dir=sweep", *SHORT]
    assert train(*sweep).returncode == 0
    result = (tmp_path / "sweep" / "0" / "result.json").read_text()
    assert json.loads(result)["epochs"] == 2
    assert "sweep/0: this run is finished: it was stopped early" in train(*sweep).stderr
    assert (tmp_path / "sweep" / "0" / "result.json").read_text() == result


@pytest.mark.slow
def test_a_job_that_was_stopped_early_can_be_extended(train, tmp_path):
    def epochs_after(*typed):
        process = train(*typed)
        assert process.returncode == 0, process.stderr
        return json.loads((tmp_path / "sweep" / "0" / "result.json").read_text())["epochs"], process.stderr

    sweep = ["-m", "seed=0", *STOPPED_EARLY, "hydra.sweep.dir=sweep", *SHORT]
    assert epochs_after(*sweep)[0] == 2
    assert epochs_after("resume=sweep/0", "callbacks.stop.patience=2")[0] == 3
    epochs, errors = epochs_after(*sweep)  # with the patience of before again
    assert epochs == 3
    assert "EarlyStopping of valid/loss had ended this fit" in errors


@pytest.mark.slow
def test_the_best_is_what_the_objective_says(train, tmp_path):
    sweep = ["-m", "model=gru", "label_smoothing=0,0.9", "trainer.max_epochs=1", "hydra.sweep.dir=sweep", *SHORT]
    assert train(*sweep, "objective=valid/accuracy").returncode == 0
    found = [float(row["valid/accuracy"]) for row in rows(tmp_path / "sweep")]
    assert found == sorted(found, reverse=True)
    text = (tmp_path / "sweep" / "report.md").read_text()
    assert "Best valid/accuracy first. `python -m unroll.cli.report sweep --metric valid/accuracy`" in text


@pytest.fixture(scope="module")
def killed_sweep(tmp_path_factory):
    """A sweep of six runs that was killed in its third, started again, and told to stop in its fifth."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep = ["-m", "model=gru", "data.bptt=8,20,70", "seed=0,1", "trainer.max_epochs=2", "hydra.sweep.dir=sweep"]

    def stop_when(job, number):
        process = TrainProcess(*sweep, "checkpoint.every_n_steps=5", *SHORT, folder=folder)
        while process.poll() is None and not (folder / "sweep" / job / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.001)
        process.send_signal(number)
        process.communicate()
        results = {path.parent.name: path.read_text() for path in folder.glob("sweep/*/result.json")}
        return process, {job: text for job, text in results.items() if json.loads(text)["status"] == "finished"}

    killed, before = stop_when("2", signal.SIGKILL)
    stopped, between = stop_when("4", signal.SIGINT)
    process = TrainProcess(*sweep, "checkpoint.every_n_steps=5", *SHORT, folder=folder)
    process.communicate()
    return folder / "sweep", (killed, before), (stopped, between), process


@pytest.mark.slow
class TestSweepThatWasKilled:
    def test_what_was_finished_is_not_run_again(self, killed_sweep):
        sweep, (killed, before), (stopped, between), last = killed_sweep
        assert killed.returncode == -signal.SIGKILL
        assert set(before) == {"0", "1"}
        assert stopped.returncode == 128 + signal.SIGINT
        assert {"0", "1", "2", "3"} <= set(between) < {"0", "1", "2", "3", "4", "5"}
        for job, text in (before | between).items():
            assert (sweep / job / "result.json").read_text() == text
        assert last.returncode == 0, last.read(2)

    def test_what_was_begun_goes_on_from_its_checkpoint(self, killed_sweep):
        _, _, (stopped, _), last = killed_sweep
        assert "continuing from sweep/2/checkpoints/last.ckpt" in stopped.read(2)
        assert "continuing from sweep/4/checkpoints/last.ckpt" in last.read(2)
        assert "to resume: python" in stopped.read(2)
        assert "hydra.sweep.dir=sweep" in stopped.read(2)

    def test_the_report_is_complete(self, killed_sweep):
        sweep, *_, last = killed_sweep
        found = rows(sweep)
        assert [(row["status"], float(row["tokens/s"]) > 0) for row in found] == [("finished", True)] * 6
        assert {(row["data.bptt"], row["seed"]) for row in found} == {(b, s) for b in ("8", "20", "70") for s in "01"}
        losses = [float(row["valid/loss"]) for row in found]
        means = [sum(losses[at : at + 2]) / 2 for at in (0, 2, 4)]
        assert means == sorted(means)
        shown = [line for line in last.read(1).splitlines() if line.startswith("|")]
        assert len(shown) == 2 + 3
        assert f"{means[0]:.4f} ± " in shown[2]
        assert "\n".join(shown) in (sweep / "report.md").read_text()

    def test_the_image_shows_something(self, killed_sweep):
        image = Image.open(killed_sweep[0] / "report.png").convert("L")
        assert image.size == (1200, 675)
        assert len(image.getcolors()) > 20


class TestEngines:
    SWEEP = ("-m", "trainer.max_epochs=1", "trainer.limit_val_batches=10", *SHORT)

    @pytest.mark.slow
    def test_two_at_a_time_give_what_one_after_the_other_gives(self, train, command, tmp_path):
        two = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        together = command(ROOT / "train.py", *self.SWEEP, "seed=0,1,2", *two, "hydra.sweep.dir=together")
        assert together.returncode == 0, together.stderr
        train(*self.SWEEP, "seed=0,1,2", "hydra.sweep.dir=alone")
        for seed in "012":
            metrics = [(tmp_path / sweep / seed / "metrics.csv").read_bytes() for sweep in ("together", "alone")]
            assert metrics[0] == metrics[1]

    @pytest.mark.slow
    def test_optuna_searches_and_goes_on_with_what_is_missing(self, train, tmp_path):
        search = [*self.SWEEP, "experiment=search_gru", "hydra.sweep.dir=search"]
        assert train(*search, "hydra.sweeper.n_trials=2").returncode == 0
        longer = train(*search, "hydra.sweeper.n_trials=3")
        assert longer.returncode == 0, longer.stderr
        assert longer.stderr.count("this run is finished") == 2
        found = rows(tmp_path / "search")
        assert len({(row["optimizer.lr"], row["data.bptt"], row["model.hidden_size"]) for row in found}) == 3
        assert all(1e-3 <= float(row["optimizer.lr"]) <= 5e-2 for row in found)

    @pytest.mark.slow
    def test_submitit_runs_jobs_on_this_machine(self, command, tmp_path):
        local = ["hydra/launcher=submitit_local", "hydra.sweep.dir=sweep"]
        finished = command(ROOT / "train.py", *self.SWEEP, "seed=0,1", *local)
        assert finished.returncode == 0, finished.stderr
        assert [row["status"] for row in rows(tmp_path / "sweep")] == ["finished"] * 2

    def test_slurm_is_composed_and_missed_in_one_line(self, train):
        slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"]
        composed = train("--cfg", "hydra", *slurm)
        assert "SlurmLauncher" in composed.stdout
        assert "partition: gpu" in composed.stdout
        missed = train(*self.SWEEP, "seed=0,1", *slurm)
        assert missed.returncode == 1
        assert missed.stderr.splitlines()[-1].startswith("error: hydra/launcher=submitit_slurm: there is no Slurm here")

    def test_the_lessons_question_is_a_recipe(self, train):
        composed = train("--cfg", "hydra", "experiment=choose_bptt")
        assert "data.bptt: 8,20,35,70" in composed.stdout

    def test_another_engine_is_named_with_what_it_takes(self, train):
        answer = train("-m", "hydra/launcher=ray", "seed=0,1")
        assert answer.returncode == 1
        (line,) = answer.stderr.splitlines()
        assert "there is no hydra/launcher=ray; choose from: basic" in line
        assert "pip install -c constraints.txt -e '.[sweep]'" in line


class TestReport:
    @pytest.fixture
    def run_of(self, tmp_path):
        def make(name, typed, loss=1.0, model="gru", **result):
            hydra = tmp_path / name / ".hydra"
            hydra.mkdir(parents=True)
            (hydra / "overrides.yaml").write_text("".join(f"- {override}\n" for override in typed) or "[]")
            (hydra / "config.yaml").write_text("seed: 0\ndata: {bptt: 20}\nmodel: {_target_: lm.language.GRU}\n")
            (hydra / "hydra.yaml").write_text(f"hydra: {{runtime: {{choices: {{model: {model}}}}}}}\n")
            metrics = {"valid/loss": loss, "valid/accuracy": 10 - loss}
            content = {"status": "finished", "metrics": metrics, "seconds": 2.0, "tokens_per_second": 10.0, **result}
            (tmp_path / name / "result.json").write_text(json.dumps(content))
            directions = {"train/loss": "min", "valid/loss": "min", "valid/accuracy": "max"}
            (tmp_path / name / "metrics.json").write_text(json.dumps(directions))
            return tmp_path / name

        return make

    def test_what_differs_is_found_and_what_was_not_typed_looked_up(self, run_of, tmp_path):
        run_of("a", ["data.bptt=8"])
        run_of("b", ["model=rnn"], model="rnn")
        runs = find_runs([tmp_path])
        assert swept_keys(runs) == ["data.bptt", "model"]
        assert [[run.value(key) for key in ("data.bptt", "model")] for run in runs] == [[8, "gru"], [20, "rnn"]]

    @pytest.mark.parametrize(
        ("typed", "in_config"),
        [
            ("false", "false"),
            ("null", "null"),
            ("1e-3", "0.001"),
            ("[1,2]", "[1, 2]"),
            ("'8'", "'8'"),
            ("word", "word"),
        ],
    )
    def test_a_value_that_is_typed_and_the_same_untyped_are_one_setting(self, run_of, tmp_path, typed, in_config):
        run_of("a", [f"data.jitter={typed}", "seed=0"])
        run_of("b", ["data.jitter=true"])
        untyped = run_of("c", ["seed=1"])
        (untyped / ".hydra" / "config.yaml").write_text(f"data: {{jitter: {in_config}}}\n")
        runs = find_runs([tmp_path])
        ranked = ranked_settings(runs, swept_keys(runs), "valid/loss")
        assert sorted(len(setting.runs) for setting in ranked) == [1, 2]
        assert [line.split()[1] for line in markdown(ranked, ["data.jitter"]).splitlines()].count("true") == 1

    def test_seeds_are_brought_together_and_the_best_comes_first(self, run_of, tmp_path):
        for seed, loss in ((0, 1.0), (1, 3.0)):
            run_of(f"a{seed}", ["data.bptt=8", f"seed={seed}"], loss)
        run_of("b", ["data.bptt=20"], 1.5)
        run_of("c", ["data.bptt=70"], 0.1, status="interrupted")
        ranked = ranked_settings(find_runs([tmp_path]), ["data.bptt"], "valid/loss")
        assert [setting.values for setting in ranked] == [(20,), (8,), (70,)]
        lines = markdown(ranked, ["data.bptt"]).splitlines()
        assert "2.0000 ± 1.4142" in lines[3]
        assert "0 of 1" in lines[4]
        assert "0.1" not in lines[4]
        by_accuracy = ranked_settings(find_runs([tmp_path]), ["data.bptt"], "valid/accuracy")
        assert [setting.values for setting in by_accuracy] == [(20,), (8,), (70,)]

    @pytest.mark.parametrize(
        "swept",
        [
            [["data.bptt=8"], ["data.bptt=70"]],
            [["data.bptt=8", "model=rnn"], ["data.bptt=70", "model=rnn"], ["data.bptt=8", "model=gru"]],
            [["data.bptt=8", "optimizer.lr=0.1"], ["data.bptt=70", "optimizer.lr=0.01"]],
            [["model=rnn"], ["model=gru"]],
            [["a=1", "b=1", "c=x"], ["a=2", "b=2", "c=y"]],
            [["a=1", "b=true"], ["a=2", "b=false"], ["a=1", "b=null"]],
            [["seed=1"], ["seed=2"]],
        ],
    )
    def test_every_kind_of_sweep_has_a_image(self, run_of, tmp_path, swept):
        for number, typed in enumerate(swept):
            run_of(str(number), typed, loss=1.0 + number)
        write_report([tmp_path], tmp_path)
        assert len(Image.open(tmp_path / "report.png").convert("L").getcolors()) > 20
        assert len(rows(tmp_path)) == len(swept)

    def test_no_run_is_one_clear_line(self, program, tmp_path):
        with pytest.raises(UserError, match="no runs in"):
            find_runs([tmp_path])
        answer = program("unroll.cli.report", ".")
        assert answer.returncode == 1
        assert answer.stderr == "error: no runs in .\n"

    def test_any_folders_can_be_given(self, run_of, program, tmp_path):
        run_of("runs/one/a", ["data.bptt=8"])
        run_of("runs/two/b", ["data.bptt=20"], 0.5)
        both = ["runs/one", "runs/two", "--metric", "valid/accuracy"]
        for folder, further in (("runs", []), ("here", ["--folder", "here"])):
            answer = program("unroll.cli.report", *both, *further)
            assert answer.returncode == 0, answer.stderr
            assert [row["data.bptt"] for row in rows(tmp_path / folder)] == ["20", "8"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "runs"]
