"""A run that is killed or told to stop loses nothing: real `train.py` processes."""

import os
import random
import re
import shutil
import signal
import time
import zipfile

import pytest
import torch
from helpers.configuration import composed
from helpers.runs import EXACT, IMAGES, SHORT, SMALL, Run, assert_same, kill_and_resume
from helpers.samples import some_text

from lm.language.checkpoint import TrainedLanguageModel
from unroll.cli.run_directory import claim
from unroll.errors import UserError
from unroll.resume.checkpoint import KEY, write
from vision.checkpoint import TrainedImageClassifier

RUNS = {
    "gru, one cycle": [*SMALL, "trainer.max_epochs=3", "trainer.limit_train_batches=30"],
    "jitter, two validations per epoch": [
        *[*SMALL, "data.jitter=true", "trainer.max_epochs=2", "trainer.val_check_interval=0.5"],
    ],
    "lstm, warm restarts, dropout": [
        *["model=char_lstm", "data=text", "data.train=text.txt", "trainer.max_epochs=4"],
        *["model.hidden_size=32", "data.bptt=30", "data.batch_size=16"],
    ],
    "lstm, every dropout, forgetting, adaptive head, mean of the weights": [
        *[
            "model=awd_lstm",
            "data=human_numbers",
            "forget=0.2",
            "average=mean",
            "callbacks.average.start=0.3",
            "trainer.max_epochs=3",
        ],
        *["trainer.limit_train_batches=20", "trainer.val_check_interval=0.5", "model.hidden_size=16"],
        "model.head=adaptive",
    ],
    "qrnn, moving average of the weights": [
        *["model=qrnn", "average=moving", "data.jitter=true", "trainer.max_epochs=2", "trainer.limit_train_batches=30"],
    ],
    "images, shuffled and moved, dropout, moving average of the weights": [
        *IMAGES,
        *["average=moving", "trainer.max_epochs=2", "trainer.val_check_interval=0.5", "label_smoothing=0.1"],
    ],
    "windows, shuffled, an average that begins by itself": [
        *["model=char_seq", "data.path=text.txt", "data.batch_size=128", "data.split_among=null"],
        *["trainer.max_epochs=3", "trainer.val_check_interval=0.1"],
        *["average=nt_asgd", "callbacks.average.patience=1", "optimizer=sgd", "optimizer.lr=2"],
    ],
    "forecasts of several series, shuffled, warm-up": [
        *["model=forecaster", "data.train=numbers.csv", "data.series=name", "data.batch_size=4", "data.bptt=10"],
        *["data.warm_up=12", "model.dropout=0.2", "trainer.max_epochs=3"],
    ],
    "classes of documents": [
        *["model=classifier", "data=documents", "data.train=reviews.jsonl", "data.batch_size=8", "data.crop=20"],
        *["trainer.max_epochs=3", "average=moving", "schedule=unfreeze", "optimizer.discriminative=2.6"],
    ],
    "labels of words": [
        *["model=tagger", "data=columns", "data.train=words.txt", "data.columns=[word,pos,tag]", "data.batch_size=8"],
        *["model.crf=true", "trainer.max_epochs=3", "average=mean", "schedule=plateau"],
        *["schedule.patience=0", "schedule.threshold=0.99"],
    ],
}

LONG_VALIDATION = [
    *["data=text", "data.train=text.txt", "data.valid=valid.txt", "data.bptt=10", "data.batch_size=16"],
    *["trainer.max_epochs=2", "average=mean", "callbacks.average.start=0.3"],
    *[*SMALL, *EXACT],
]


RARER = (  # others have their parts
    "gru, one cycle",
    "jitter, two validations per epoch",
    "qrnn, moving average of the weights",
    "windows, shuffled, an average that begins by itself",
    "lstm, warm restarts, dropout",
    "forecasts of several series, shuffled, warm-up",
    "classes of documents",
    "labels of words",
    "images, shuffled and moved, dropout, moving average of the weights",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in RARER else name for name in RUNS]
)
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(tmp_path, name):
    kill_and_resume(tmp_path, RUNS[name], kills=2, seed=len(name))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [*RUNS, "accumulated gradients"])
def test_twenty_kills(tmp_path, name):
    accumulated = ["trainer.max_epochs=3", "trainer.accumulate_grad_batches=3", "trainer.check_val_every_n_epoch=2"]
    overrides = RUNS.get(name, accumulated)
    if name.startswith("images"):  # of few steps
        overrides = [*overrides, "trainer.max_epochs=4"]
    kill_and_resume(tmp_path, overrides, kills=20, seed=0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    (folder / "valid.txt").write_text(some_text(300_000))
    run = Run(folder, "undisturbed", LONG_VALIDATION)
    run.finish()
    return run


@pytest.fixture(scope="module", params=["text", pytest.param("images", marks=pytest.mark.slow)])
def finished(request, tmp_path_factory):
    chosen = IMAGES if request.param == "images" else []
    run = Run(tmp_path_factory.mktemp("finished"), "run", [*chosen, *SHORT, "trainer.max_epochs=1"])
    run.finish()
    run.load_model = (TrainedImageClassifier if chosen else TrainedLanguageModel).load
    return run


class TestSignals:
    def interrupted(self, undisturbed: Run, name: str, number: int, condition) -> Run:
        run = Run(undisturbed.folder, name, LONG_VALIDATION)
        status, errors = run.signal_when(lambda: condition(run), number)
        assert status == 128 + number, errors
        assert errors.splitlines()[-1].endswith(f"train.py resume={name}")
        assert "Traceback" not in errors
        assert run.result()["status"] == "interrupted"
        return run

    @pytest.mark.parametrize(("number", "epoch"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
    @pytest.mark.slow
    def test_in_the_middle_of_validation(self, undisturbed, number, epoch):
        last_step = undisturbed.result()["steps"] // 2 * epoch - 1
        run = self.interrupted(undisturbed, f"validation_{epoch}", number, lambda run: run.step() == last_step)
        assert run.step() == last_step
        assert len([row for row in run.rows() if row.get("valid/loss")]) == epoch - 1
        run.finish()
        assert_same(run, undisturbed)

    @pytest.mark.slow
    def test_in_the_middle_of_writing_a_checkpoint(self, undisturbed):
        def writing(run):
            return (run.directory / "checkpoints" / "last.ckpt.tmp").exists()

        run = self.interrupted(undisturbed, "writing", signal.SIGTERM, writing)
        run.finish()
        assert_same(run, undisturbed)

    def test_a_second_one_ends_the_run_at_once(self, tmp_path):
        run = Run(tmp_path, "run", ["trainer.accumulate_grad_batches=1000", "trainer.max_epochs=1000", "threads=1"])
        process = run.start()
        while run.step() < 0:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        while "once more" not in process.read(2):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=200)
        assert process.returncode == -signal.SIGINT
        assert "resume=" not in rest


class TestResume:
    @pytest.mark.parametrize(
        "chosen", [pytest.param([], id="text"), pytest.param(IMAGES, id="images", marks=pytest.mark.slow)]
    )
    def test_a_finished_run_says_so_and_can_be_extended(self, tmp_path, chosen):
        finished = Run(tmp_path, "run", [*chosen, *SHORT, "trainer.max_epochs=1"])
        finished.finish()
        assert "run: this run is finished" in finished.finish("resume=run")
        longer = Run(finished.folder, "longer", [*chosen, *SHORT, "trainer.max_epochs=3"])
        longer.finish()
        finished.finish("resume=run", "trainer.max_epochs=3")
        assert_same(finished, longer)
        assert finished.result()["overrides"] == [*chosen, *SHORT, "trainer.max_epochs=1", "trainer.max_epochs=3"]
        assert "this run is finished" in finished.finish("resume=run")

    @pytest.mark.slow
    def test_one_that_max_steps_cut_short_can_be_extended(self, tmp_path):
        run = Run(tmp_path, "run", ["trainer.max_steps=17", *SHORT])
        run.finish()
        run.finish("resume=run", "trainer.max_steps=25")
        longer = Run(tmp_path, "longer", ["trainer.max_steps=25", *SHORT])
        longer.finish()
        weights = longer.weights()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in run.weights().items())

    @pytest.mark.slow
    def test_an_average_of_the_last_part_is_begun_anew_when_the_run_is_extended(self, tmp_path):
        overrides = [*SHORT, "average=mean", "callbacks.average.start=0.5"]
        run, longer = Run(tmp_path, "run", overrides), Run(tmp_path, "longer", [*overrides, "trainer.max_epochs=4"])
        run.first_command.append("trainer.max_epochs=1")
        run.finish()
        run.finish("resume=run", "trainer.max_epochs=4")
        longer.finish()
        weights = longer.weights()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in run.weights().items())

    @pytest.mark.slow
    def test_more_epochs_than_a_one_cycle_schedule_was_made_for(self, tmp_path):
        run = Run(tmp_path, "run", ["trainer.limit_train_batches=10", "trainer.max_epochs=2", *EXACT])
        run.finish()
        run.finish("resume=run", "trainer.max_epochs=4")
        rates = [float(row["lr"]) for row in run.rows() if row["lr"]]
        assert len(rates) == 40
        assert max(rates[25:]) > 1e-3 > rates[19]
        assert rates[-1] == pytest.approx(1e-2 / 25 / 1e4, rel=0.1)

    @pytest.mark.slow
    def test_a_run_directory_that_moved_goes_on_with_its_best(self, tmp_path):
        run = Run(tmp_path, "before", [*SHORT, "trainer.max_epochs=1"])
        run.finish()
        checkpoint = torch.load(run.directory / "checkpoints" / "last.ckpt", weights_only=True)
        (best,) = (state for state in checkpoint["callbacks"].values() if "best_model_score" in state)
        best["best_model_score"].fill_(1e-3)
        best["kth_value"].fill_(1e-3)
        write(checkpoint, run.directory / "checkpoints" / "last.ckpt")
        run.directory.rename(tmp_path / "after")
        errors = run.finish("resume=after", "trainer.max_epochs=2")
        assert "dirpath has changed" not in errors
        assert "best checkpoint: after/checkpoints/best.ckpt (valid/loss 0.0010)" in errors

    @pytest.mark.slow
    def test_a_directory_is_not_overwritten_but_can_be_requeued(self, tmp_path):
        overrides = [*SHORT, "trainer.max_epochs=3", "checkpoint.requeue=true"]
        run = Run(tmp_path, "run", overrides)
        run.resume_command = run.first_command
        status, _ = run.signal_when(lambda: run.step() >= 12, signal.SIGTERM)
        assert status == 128 + signal.SIGTERM
        process = run.start("hydra.run.dir=run")
        assert "run holds a run already" in process.communicate()[1]
        process = run.start("seed=1", *run.first_command)
        assert "run with other settings (seed)" in process.communicate()[1]
        assert "continuing from run/checkpoints/last.ckpt" in run.finish(*run.first_command)
        assert "this run is finished" in run.finish(*run.first_command)
        undisturbed = Run(tmp_path, "undisturbed", overrides)
        undisturbed.finish()
        assert_same(run, undisturbed)

    @pytest.mark.slow
    def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(self, tmp_path):
        overrides = ["trainer.limit_train_batches=25", "trainer.max_epochs=1", "threads=1"]
        overrides += ["trainer.log_every_n_steps=1", "callbacks.curves=null", "trainer.limit_val_batches=4"]
        run = Run(tmp_path, "run", overrides)
        run.signal_when(lambda: run.step() >= 3, signal.SIGKILL)
        assert "no checkpoint yet" in run.finish()
        undisturbed = Run(tmp_path, "undisturbed", overrides)
        undisturbed.finish()
        assert_same(run, undisturbed)

    def test_last_ckpt_is_written_by_time_too(self, tmp_path):
        run = Run(tmp_path, "run", ["checkpoint.every_n_minutes=0.001", "trainer.log_every_n_steps=1", "threads=1"])
        last = run.directory / "checkpoints" / "last.ckpt"
        run.signal_when(lambda: run.step() >= 8 and last.exists(), signal.SIGKILL)
        checkpoint = torch.load(last, weights_only=True)
        assert checkpoint["epoch"] == 0
        assert 0 < checkpoint["global_step"] < 40

    def test_only_one_process_trains_in_a_directory(self, tmp_path):
        run = Run(tmp_path, "run", ["trainer.max_epochs=1000", *EXACT])
        process = run.start()
        while run.step() < 8:
            time.sleep(0.01)
        second = run.start("resume=run")
        _, errors = second.communicate(timeout=200)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert second.returncode == 1
        assert "another process is training in this directory" in errors.splitlines()[-1]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["resume=nowhere"], "not a run directory"),
            (["resume=run", "model=rnn"], "model=rnn: a resumed run keeps its settings"),
            (["resume=run", "data.batch_size=3"], "data.batch_size=3: a resumed run keeps its settings"),
            (["resume=run", "forget=0.1"], "forget=0.1: a resumed run keeps its settings"),
            (["hydra.run.dir=run", "checkpoint.requeue=true", "label_smoothing=0.1"], "other settings"),
            (["resume=run", "hydra.run.dir=x"], "hydra.run.dir=x: a resumed run keeps its settings"),
            (["resume=run", "logger=none"], "logger=none: a resumed run keeps its parts"),
            (["resume=run", "trainer.max_epoch=3"], "there is no trainer.max_epoch"),
            (["resume=run", "trainer.max_epochs=0"], "trainer.max_epochs=0: must be"),
            (["-m", "resume=run"], "not with -m"),
        ],
    )
    @pytest.mark.parametrize("finished", ["text"], indirect=True)
    @pytest.mark.few(4)
    def test_what_cannot_be_resumed_is_refused_in_one_line(self, finished, arguments, words):
        process = finished.start(*arguments)
        _, errors = process.communicate()
        assert process.returncode == 1
        (line,) = errors.splitlines()
        assert line.startswith("error: ")
        assert words in line


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch touched",)


class TestCheckpoints:
    """What `resume=` and `load_model` say to a file that is not what it should be."""

    @pytest.fixture
    def run(self, finished, tmp_path):
        run = Run(tmp_path, "run", [])
        run.load_model = finished.load_model
        shutil.copytree(finished.directory, run.directory)
        self.path = run.directory / "checkpoints" / "last.ckpt"
        return run

    def refusal(self, run: Run) -> str:
        before = (run.directory / "metrics.csv").read_bytes()
        process = run.start("resume=run", "trainer.max_epochs=2")
        _, errors = process.communicate()
        assert process.returncode == 1
        assert "Traceback" not in errors
        assert (run.directory / "metrics.csv").read_bytes() == before
        *_, line = errors.splitlines()
        return line

    def test_a_hundred_damaged_files_load_as_they_were_or_are_refused(self, run):
        whole = self.path.read_bytes()
        weights = run.load_model(self.path).model.state_dict()
        chance = random.Random(0)
        refused = 0
        for number in range(100):
            damaged = bytearray(whole)
            if number % 4 == 0:
                del damaged[chance.randrange(len(damaged)) :]
            else:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            self.path.write_bytes(damaged)
            try:
                model = run.load_model(self.path).model
            except UserError as error:
                refused += 1
                message = str(error)
                assert message.startswith(f"{self.path}: ") and "\n" not in message  # noqa: PT018
            else:
                assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
        assert refused > 50

    def test_resume_refuses_a_damaged_file(self, run):
        with zipfile.ZipFile(self.path) as file:
            largest = max(file.infolist(), key=lambda member: member.file_size)
        content = bytearray(self.path.read_bytes())
        content[largest.header_offset + largest.file_size] ^= 1
        self.path.write_bytes(content)
        assert re.match("error: .*last.ckpt: the file is damaged", self.refusal(run))

    def test_resume_runs_nothing_of_the_file(self, run):
        checkpoint = torch.load(self.path, weights_only=True)
        write({**checkpoint, "more": RunsCode()}, self.path)
        assert re.match("error: .*last.ckpt: not a checkpoint that can be read safely", self.refusal(run))
        assert not (run.folder / "touched").exists()

    @pytest.mark.parametrize(
        "arguments", [["resume=run", "trainer.max_epochs=2"], ["task=evaluate", "ckpt=run/checkpoints/last.ckpt"]]
    )
    def test_one_of_another_version_is_refused_before_its_configuration_is_used(self, run, arguments):
        checkpoint = torch.load(self.path, weights_only=True)
        checkpoint[KEY]["format_version"] -= 1
        write(checkpoint, self.path)
        config = run.directory / ".hydra" / "config.yaml"
        config.write_text(re.sub("_target_: (lm|vision)", "_target_: gone", config.read_text()))
        process = run.start(*arguments)
        _, errors = process.communicate()
        assert process.returncode == 1
        (line,) = errors.splitlines()
        assert re.match("error: run/checkpoints/last.ckpt: written by another version of this project", line)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda c: c[KEY]["data"].get("vocabulary", c[KEY]["data"].get("classes")).append("ten"),
                "differ in their",
            ),
            (lambda c: c["state_dict"].update({"model.head.weight": torch.zeros(3, 4)}), "head"),
            (lambda c: c["optimizer_states"][0]["param_groups"].clear(), "parameter group"),
            (lambda c: c["progress"].clear(), "has no progress"),
        ],
    )
    def test_resume_says_what_does_not_fit(self, run, change, words):
        checkpoint = torch.load(self.path, weights_only=True)
        change(checkpoint)
        write(checkpoint, self.path)
        line = self.refusal(run)
        assert line.startswith("error: ")
        assert words in line


class TestDisk:
    @pytest.mark.slow
    def test_a_full_disk_leaves_the_last_checkpoint_whole(self, tmp_path):
        run = Run(tmp_path, "run", ["trainer.max_epochs=1", *SHORT])
        run.finish()
        weights = run.weights()
        process = run.start("resume=run", "trainer.max_epochs=2", largest_file=300_000)
        _, errors = process.communicate()
        assert process.returncode == 1
        line = errors.splitlines()[-1]
        assert re.match("error: .*ckpt: the checkpoint can't be written .*; the one before it is whole", line)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in run.weights().items())
        run.finish("resume=run", "trainer.max_epochs=2")

    def test_an_outputs_folder_that_cannot_be_written_to(self, tmp_path):
        (tmp_path / "outputs").write_text("not a folder")
        process = Run(tmp_path, "run", []).start("trainer.max_epochs=1")
        _, errors = process.communicate()
        assert process.returncode == 1
        assert re.match("error: .*outputs.*", errors.splitlines()[-1])

    def test_runs_that_start_in_the_same_second_get_directories_of_their_own(self, tmp_path):
        config = composed(f"hydra.run.dir={tmp_path}/now", return_hydra_config=True)
        directories = []
        for _ in range(3):
            mine = config.copy()
            claim(mine, "run")
            directories.append(mine.hydra.run.dir)
        assert directories == [f"{tmp_path}/{name}" for name in ("now", "now_2", "now_3")]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["now", "now_2", "now_3"]
