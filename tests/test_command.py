"""`python train.py` as people type it: real processes, in an empty folder, one of them from a fresh interpreter."""

import contextlib
import csv
import json
import os
import platform
import pty
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from helpers import processes
from helpers.runs import NO_PLOTS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lm.language.checkpoint import TrainedLanguageModel

SHORT = ["trainer.max_epochs=2", "trainer.limit_train_batches=15", "trainer.log_every_n_steps=5"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run of the main job, with its standard output and error."""
    folder = tmp_path_factory.mktemp("run")
    finished = processes.train("model=gru", "data=human_numbers", folder=folder)
    assert finished.returncode == 0, finished.stderr
    (directory,) = (folder / "outputs" / "human_numbers" / "gru").iterdir()
    return directory, finished.stdout, finished.stderr


class TestRun:
    def test_the_run_directory_holds_what_the_contract_says(self, run_dir):
        directory, _, _ = run_dir
        assert (directory / ".hydra" / "config.yaml").exists()
        assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
        assert list(directory.glob("events.out.tfevents.*"))

    def test_result_json(self, run_dir):
        directory, _, _ = run_dir
        result = json.loads((directory / "result.json").read_text())
        metrics = result.pop("metrics")
        assert set(metrics) == {"train/loss", "valid/loss", "valid/accuracy", "valid/perplexity"}
        assert metrics["valid/perplexity"] == pytest.approx(torch.tensor(metrics["valid/loss"]).exp().item(), rel=1e-4)
        seconds, speed = result.pop("seconds"), result.pop("tokens_per_second")
        assert speed * seconds == pytest.approx(10 * 50_078, rel=0.01)
        assert result.pop("tokens_per_second_after_50_steps") > 0.87 * speed
        assert result == {
            "status": "finished",
            "epochs": 10,
            "steps": 10 * 40,
            "parameters": 54_305,
            "precision": "32-true",
            "stopped_early": False,
            "seed": 0,
            "overrides": ["model=gru", "data=human_numbers"],
        }

    def test_it_reaches_the_lessons_level(self, run_dir):
        metrics = json.loads((run_dir[0] / "result.json").read_text())["metrics"]
        assert metrics["valid/accuracy"] > 0.78  # the lesson: 0.807; the mean over seeds is `benchmarks.lessons`'

    def test_one_row_per_epoch_goes_to_standard_output(self, run_dir):
        directory, stdout, _ = run_dir
        header, *rows = stdout.split("\n\n")[0].splitlines()
        assert header.split() == ["epoch", "train", "loss", "valid", "loss", "accuracy", "seconds"]
        assert [row.split()[0] for row in rows] == [str(epoch) for epoch in range(1, 11)]
        metrics = json.loads((directory / "result.json").read_text())["metrics"]
        last = [metrics["train/loss"], metrics["valid/loss"], metrics["valid/accuracy"]]
        assert [float(word) for word in rows[-1].split()[1:4]] == pytest.approx(last, abs=1e-4)

    def test_a_sample_ends_what_goes_to_standard_output(self, run_dir):
        _, stdout, _ = run_dir
        sample = stdout.split("\n\n")[1].split()
        assert sample[:4] == ["xxbos", "eight", "thousand", "one"]
        assert len(sample) == 8 + 100

    def test_tensorboard_has_a_sample_per_epoch(self, run_dir):
        events = EventAccumulator(str(run_dir[0]))
        events.Reload()
        assert len(events.Tensors("sample/text_summary")) == 10

    def test_messages_go_to_standard_error_and_are_few(self, run_dir):
        _, _, stderr = run_dir
        first, best, rest = stderr.splitlines()
        assert "54,305 parameters" in first
        assert "best.ckpt" in best
        assert "tensorboard --logdir outputs/human_numbers/gru/" in rest

    def test_tensorboard_has_loss_accuracy_perplexity_and_learning_rate(self, run_dir):
        events = EventAccumulator(str(run_dir[0]))
        events.Reload()
        names = ("train/batch_loss", "train/loss", "valid/loss", "valid/accuracy", "valid/perplexity", "lr")
        for name in names:
            assert len(events.Scalars(name)) >= 2, name

    def test_metrics_csv_ends_with_the_result(self, run_dir):
        directory, _, _ = run_dir
        with open(directory / "metrics.csv") as file:
            accuracies = [row["valid/accuracy"] for row in csv.DictReader(file) if row["valid/accuracy"]]
        metrics = json.loads((directory / "result.json").read_text())["metrics"]
        assert len(accuracies) == 10
        assert float(accuracies[-1]) == pytest.approx(metrics["valid/accuracy"])

    def test_the_checkpoint_alone_gives_the_trained_model(self, run_dir, tmp_path):
        moved = (run_dir[0] / "checkpoints" / "last.ckpt").read_bytes()
        (tmp_path / "moved.ckpt").write_bytes(moved)
        trained = TrainedLanguageModel.load(tmp_path / "moved.ckpt")
        vocabulary = trained.vocabulary
        after_eight, _ = trained.model(vocabulary.encode("nine hundred , eight").unsqueeze(0))
        assert vocabulary.decode([after_eight[0, -1].argmax()])[0] in vocabulary.entries
        assert len(vocabulary) == after_eight.size(-1) == 33


def test_on_a_terminal_a_bar_shows_loss_and_speed_and_the_rows_stay(tmp_path):
    screen, terminal = pty.openpty()
    command = [sys.executable, ROOT / "train.py", "model=unrolled", "trainer.max_epochs=2", "logger=none", *NO_PLOTS]
    command += ["trainer.limit_train_batches=100", "trainer.limit_val_batches=20"]
    command += ["callbacks.progress.refresh_seconds=0"]  # an epoch may be over in less than a quarter of a second
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # reading fails once the process has closed the terminal
        while piece := os.read(screen, 65536):
            shown += piece
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "\n")
    assert re.search(r"epoch 2/2 .* 100/100 loss \d\.\d{3} [\d,]+ tokens/s", text)
    rows = re.findall(r"^ +(\d)(?:  +[\d.]+){4}$", text, re.MULTILINE)
    assert rows == ["1", "2"]


@pytest.mark.parametrize(
    "model",
    [
        "unrolled",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("loop", "multi_output", "stateful", "rnn", "gru")),
    ],
)
@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics(train, tmp_path, model):
    def metrics(name):
        finished = train(f"model={model}", f"hydra.run.dir={name}", *SHORT, "logger=none", *NO_PLOTS)
        assert finished.returncode == 0, finished.stderr
        return json.loads((tmp_path / name / "result.json").read_text())["metrics"]

    assert metrics("first") == metrics("second")


def test_your_own_text(train, tmp_path):
    (tmp_path / "mine.txt").write_text("It was the best of times, it was the worst of times. " * 100)
    finished = train(
        "data=text", "data.train=mine.txt", "data.tokenizer=words", "data.batch_size=8", "trainer.max_epochs=2"
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "outputs" / "text" / "gru").is_dir()
    assert len(finished.stderr.splitlines()) == 3  # none of Lightning's, such as of fewer batches than are logged


def test_a_run_that_diverges_ends_with_advice_and_keeps_its_checkpoints(train, tmp_path):
    settings = ["schedule=steps", "schedule.epochs=[1]", "schedule.factor=1e30"]
    answer = train(*settings, "trainer.max_epochs=3", "hydra.run.dir=run", "logger=none", *NO_PLOTS)
    assert answer.returncode == 1
    line = answer.stderr.splitlines()[-1]
    assert re.match(r"error: the loss is not finite after step \d+ of epoch 2 \(learning rate ", line)
    assert "optimizer.lr" in line
    weights = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert not (tmp_path / "run" / "result.json").exists()


def test_warm_restarts_leave_a_checkpoint_at_each_cycles_end(train, tmp_path):
    (tmp_path / "mine.txt").write_text("It was the best of times, it was the worst of times. " * 100)
    settings = ["schedule=sgdr", "trainer.max_epochs=4", "trainer.limit_train_batches=3", "data.batch_size=8"]
    finished = train("data=text", "data.train=mine.txt", *settings, "hydra.run.dir=run", "logger=none", *NO_PLOTS)
    assert finished.returncode == 0, finished.stderr
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["best.ckpt", "cycle_0.ckpt", "cycle_1.ckpt", "last.ckpt"]
    assert torch.load(tmp_path / "run/checkpoints/cycle_1.ckpt", weights_only=True)["global_step"] == 3 * (1 + 2)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_the_stream(tmp_path):
    (tmp_path / "long.txt").write_text("one two three four five " * 5000)

    def peak(windows):
        overrides = ["data=text", "data.train=long.txt", "data.batch_size=8", "data.bptt=10", "trainer.max_epochs=1"]
        overrides += ["model.hidden_size=8", "callbacks=none", "logger=none"]
        command = [sys.executable, ROOT / "train.py", *overrides, f"trainer.limit_train_batches={windows}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        return usage.ru_maxrss

    assert peak(400) < 1.03 * peak(10)


class TestAnswers:
    """What is answered before anything heavy is imported."""

    QUICK = (
        "import runpy, sys; sys.argv = ['train.py', *sys.argv[1:]]\ntry: runpy.run_path({!r}, run_name='__main__')\n"
    )
    QUICK += "finally: print('torch' in sys.modules, file=sys.stderr)"

    @pytest.mark.parametrize("argument", ["--help", "--cfg=job", "data.bpt=3", "model=gruu", "trainer.max_epochs=0"])
    @pytest.mark.few(1)
    def test_torch_is_not_imported(self, command, argument):
        answer = command(
            "-c", self.QUICK.format(str(ROOT / "train.py")), *argument.split("=job"), *["job"] * ("job" in argument)
        )
        assert "False" in answer.stderr.splitlines()
        assert "True" not in answer.stderr.splitlines()

    def test_help_lists_the_choices(self, train):
        answer = train("--help")
        assert answer.returncode == 0
        assert (
            "gru, loop, min_gru, min_gru_blocks, min_lstm, min_lstm_blocks, mogrifier, multi_output, qrnn"
            in answer.stdout
        )
        assert "schedule: constant, cosine, one_cycle" in answer.stdout

    def test_cfg_job_prints_the_configuration(self, train):
        answer = train("--cfg", "job", "model=rnn")
        assert answer.returncode == 0
        assert "_target_: lm.language.RNN" in answer.stdout


def elsewhere(*case):
    """What tests of the part that refuses it, or of a command that is much like it, show by default."""
    return pytest.param(*case, marks=pytest.mark.slow)


class TestBadInput:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        contents = {
            "empty.txt": b"",
            "binary.bin": bytes(range(256)),
            "one.txt": b"a",
            "new.txt": b"x y z",
            "text.txt": b"a b " * 99,
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            elsewhere("data.bptt=0", "data.bptt=0"),
            ("data.batch_size=1000000", "larger than the data"),
            elsewhere("data=text", "data.train"),
            elsewhere("data=text data.train=empty.txt", "empty"),
            elsewhere("data=text data.train=missing.txt", "no such file"),
            elsewhere("data=text data.train=binary.bin", "not UTF-8 text"),
            ("data=text data.train=one.txt data.valid=text.txt", "at least 2 steps"),
            (
                "data=text data.train=text.txt data.valid=new.txt data.tokenizer=words data.batch_size=2",
                "validation split: none",
            ),
            elsewhere(
                "model=gruu",
                "gru, loop, min_gru, min_gru_blocks, min_lstm, min_lstm_blocks, mogrifier, multi_output, qrnn",
            ),
            elsewhere("optimizer.lr=-1", "optimizer.lr=-1"),
            elsewhere("optimizer.lr=abc", "optimizer.lr=abc"),
            ("optimizer=null", "a choice needs a name"),
            ("trainer.accelerator=abacus", "abacus"),
            ("trainer.val_check_interval=1000", "val_check_interval"),
            ("callbacks.best.monitor=valid/los trainer.max_epochs=1", "valid/los"),
            ("+data.colour=red", "colour"),
            ("data=nietzsche data.path=missing.txt", "no such file"),
            ("model=char_seq data.path=text.txt data.bptt=1000", "need 1001 tokens"),
            ("optimizer.groups={embed:{lr:-1}}", "optimizer.groups.embed.lr=-1"),
            ("optimizer.groups={embed:{colour:1}}", "optimizer.groups.embed.colour"),
            ("model=unrolled data.bptt=20", "data.bptt=3"),
            ("hydra.run.dir=one.txt/run", "one.txt"),
            ("data=shapes", "models that take images: conv_bn, conv_bn_deep, conv_layers, conv_net, resnet"),
            ("model=resnet data=nietzsche", "data that give images: cifar10, images, shapes"),
            ("model=resnet data=shapes data.bptt=3", "there is no data.bptt"),
            elsewhere("model=resnet data=shapes data.batch_size=1001", "larger than the data: there are 1000 images"),
            elsewhere("model=resnet data=shapes data.pad=40", "data.pad=40"),
            elsewhere("model=resnet data=shapes model.compile=graph", "one NVIDIA GPU"),
            elsewhere("model=resnet data.path=text.txt", "not an archive that can be read"),
            elsewhere("model=resnet data.path=.", "there is no data_batch_1.bin in it"),
        ],
    )
    @pytest.mark.few(8)
    def test_it_ends_in_one_clear_line(self, train, overrides, words):
        answer = train(*overrides.split(), *[] if "abacus" in overrides else ["trainer.accelerator=cpu"])
        assert answer.returncode == 1
        *before, last = answer.stderr.splitlines()
        assert last.startswith("error: ")
        assert words in last
        assert not [line for line in before if "parameters;" not in line]  # at most what every run begins with


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_memory_that_is_freed_is_kept_for_the_next_tensor(program, tmp_path):
    """Or else each step of training would take its large tensors from the system anew, page by page."""
    (tmp_path / "faults.py").write_text(
        "import resource, torch\n"
        "from unroll.cli.processes import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "def step():\n"
        "    tensors = [torch.ones(2**22) for _ in range(8)]\n"  # 16 MiB each: 4,096 pages
        "for _ in range(20): step()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): step()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    answer = program("faults.py")
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) < 4096


WRITER = """
import resource, signal, threading, time
from torch.utils.tensorboard import SummaryWriter
from unroll.cli.processes import exit_if_tensorboard_cannot_write

threading.excepthook = exit_if_tensorboard_cannot_write
thread = threading.Thread(target=lambda: open("missing"))
thread.start()
thread.join()
print("goes on", flush=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as on a full disk
SummaryWriter("board").add_text("text", "words " * 10_000, 0)
time.sleep(20)
print("it should have ended")
"""


def test_a_full_disk_ends_a_run_whose_board_waits_for_it_and_no_other_thread_does(program, tmp_path):
    (tmp_path / "writer.py").write_text(WRITER)
    answer = program("writer.py")
    assert answer.stdout == "goes on\n"
    assert answer.returncode == 1
    *before, last = answer.stderr.splitlines()
    assert last == "error: the run directory: File too large"
    assert any(line.startswith("FileNotFoundError") for line in before)


def test_torch_is_imported_when_it_is_settled_how_long_threads_wait():
    code = (
        "import os, sys\n"
        "from unroll.cli.processes import import_torch, let_threads_sleep\n"
        "assert 'torch' not in sys.modules\n"
        "import_torch()\n"
        "print(os.environ.pop('GOMP_SPINCOUNT'))\n"
        "os.environ['OMP_WAIT_POLICY'] = 'active'\n"
        "let_threads_sleep()\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "os.environ.pop('OMP_WAIT_POLICY')\n"
        "os.environ['GOMP_SPINCOUNT'] = '7'\n"
        "let_threads_sleep()\n"
        "print(os.environ['GOMP_SPINCOUNT'])\n"
    )
    silent = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    environment = {name: value for name, value in os.environ.items() if name not in silent} | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert answer.stdout.split() == ["2000", "None", "7"], answer.stderr
