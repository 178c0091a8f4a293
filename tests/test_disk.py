"""Hard on the disk: full at each write, read-only, a download that is killed, two runs in one directory."""

import hashlib
import http.server
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from helpers.processes import TrainProcess
from helpers.processes import server as server_of_processes
from helpers.runs import SHORT, SMALL, Run
from helpers.samples import some_text
from helpers.small_models import save_language_model
from PIL import Image

import lm.language
from lm.language.generation import main as generate
from lm.text import encoding
from lm.text.chunks import whole
from lm.text.encoding import Recipe, encode_files
from lm.text.files import plain_text
from unroll import load_state, save_state
from unroll.cli.report.__main__ import main as report
from unroll.errors import UserError
from unroll.files import write_json
from unroll.resume.checkpoint import read, write
from unroll.training.cache import download
from unroll.training.loggers import MetricsFile
from vision.data.files import decode

LARGEST = 3000  # bytes of a file; what is beyond fails as on a full disk, with another number


@contextmanager
def full_disk():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


# What writes a file, with few values and with many; and what reads it.
FILES = {
    "some.json": (write_json, lambda path: json.loads(path.read_text()), {"a": 1}, {"a": "1" * LARGEST}),
    "state.npz": (lambda path, state: save_state(state, path), load_state, torch.ones(3), torch.ones(LARGEST)),
    "some.ckpt": (lambda path, found: write(found, path), read, {"a": [1]}, {"a": torch.ones(LARGEST)}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_there_before_stays_whole(name, tmp_path):
    write_it, read_it, few, many = FILES[name]
    path = tmp_path / name
    write_it(path, few)
    before = path.read_bytes()
    with full_disk(), pytest.raises((OSError, UserError), match=name):
        write_it(path, many)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]
    write_it(path, many)
    read_it(path)


def test_a_row_of_the_log_for_which_there_is_no_room_ends_with_the_files_name(tmp_path):
    log = MetricsFile(str(tmp_path / "metrics.csv"))
    log.log_metrics({"loss": 1.0}, 0)
    log.path.write_text(log.path.read_text() * 400)  # there is no room for a row more
    with full_disk(), pytest.raises(OSError, match=r"metrics\.csv"):
        log.log_metrics({"loss": 1.0}, 1)


class TestCaches:
    @pytest.mark.slow
    def test_the_ids_of_a_text(self, tmp_path, monkeypatch):
        monkeypatch.setattr(encoding, "IN_MEMORY", 0)
        (tmp_path / "some.txt").write_text(some_text(20_000))
        text = whole(tmp_path / "some.txt")

        def ids():
            return encode_files(text, text, Recipe("characters", False, 1), tmp_path / "cache").train

        with full_disk(), pytest.raises(OSError, match="cache/ids/"):
            ids()
        assert not [file for file in (tmp_path / "cache" / "ids").iterdir() if file.suffix != ".lock"]
        whole_ids = ids().clone()
        (description,) = (tmp_path / "cache" / "ids").glob("*/vocabulary.json")
        changes = [{"dtype": "load"}, {"bytes": [1]}, {"entries": [1]}, {"entries": None}]
        for content in ["[]", "{", *(json.dumps({**json.loads(description.read_text()), **some}) for some in changes)]:
            description.write_text(content)
            assert torch.equal(ids(), whole_ids)  # it is made again

    def test_the_plain_text_of_a_compressed_one(self, tmp_path):
        import gzip

        with gzip.open(tmp_path / "some.txt.gz", "wt") as file:
            file.write(some_text(20_000))
        with full_disk(), pytest.raises(OSError, match="cache/texts/"):
            plain_text(tmp_path / "some.txt.gz", cache=tmp_path / "cache")
        copy = plain_text(tmp_path / "some.txt.gz", cache=tmp_path / "cache")
        assert copy.read_text() == some_text(20_000)

    def test_the_pixels_of_images(self, tmp_path):
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        files = sorted(tmp_path.glob("*.png"))
        with full_disk(), pytest.raises(OSError, match="cache/images/"):
            decode(files, 32, tmp_path / "cache")
        assert {file.suffix for file in (tmp_path / "cache" / "images").iterdir()} == {".lock"}
        pixels = decode(files, 32, tmp_path / "cache").pixels.clone()
        (path,) = (tmp_path / "cache" / "images").glob("*.bin")
        for damage in (lambda: os.truncate(path, 5), path.unlink, lambda: path.with_suffix(".json").write_text("[1]")):
            damage()
            assert torch.equal(decode(files, 32, tmp_path / "cache").pixels, pixels)


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends the first half of a file, and the rest when it may."""

    content = b"some text " * 100_000
    go_on = threading.Event()
    half_sent = threading.Event()

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(self.content)))
        self.end_headers()
        half = len(self.content) // 2
        self.wfile.write(self.content[:half])
        self.half_sent.set()
        if self.go_on.wait(30):
            self.wfile.write(self.content[half:])

    def log_message(self, *arguments):
        pass


def test_a_killed_download_is_made_again(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/some.txt"
    arguments = (address, hashlib.sha256(Slow.content).hexdigest(), tmp_path)
    killed = server_of_processes.Process(target=download, args=arguments)  # a fork of this one would share tqdm's lock
    killed.start()
    assert Slow.half_sent.wait(30)
    killed.kill()
    killed.join()
    assert not (tmp_path / "some.txt").exists()
    Slow.go_on.set()
    assert download(*arguments).read_bytes() == Slow.content
    (tmp_path / "some.txt").write_bytes(Slow.content[:1000])  # not by us
    with pytest.raises(UserError, match=r"some\.txt: not the expected file, or incomplete .*delete it"):
        download(*arguments)
    server.shutdown()


def refusal(main, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).isprintable()
    return ended.value.code


class TestCommands:
    def test_an_answer_that_nobody_can_write_down(self, tmp_path, monkeypatch):
        save_language_model(tmp_path / "some.ckpt", lm.language.GRU)
        with open("/dev/full", "w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            message = refusal(generate, monkeypatch, tmp_path / "some.ckpt", "--length", "3")
            monkeypatch.undo()
        assert message == "error: standard output: No space left on device"

    @pytest.mark.slow
    def test_a_directory_that_is_read_only(self, tmp_path, train, monkeypatch, capsys):
        run = Run(tmp_path, "run", ["trainer.max_epochs=1", *SHORT, *SMALL, "logger.tensorboard=null"])
        run.finish()
        before = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
        with read_only(run.directory):
            refused = train("resume=run", "trainer.max_epochs=2")
            assert refused.returncode == 1
            assert refused.stderr.splitlines()[-1] in (
                f"error: {path}: {why}"
                for path in ("run/.lock",)
                for why in ("Read-only file system", "Permission denied")
            )
            assert refusal(report, monkeypatch, run.directory).startswith(f"error: {run.directory}/report.")
            monkeypatch.setattr(sys, "argv", ["report", str(run.directory), "--folder", str(tmp_path / "report")])
            report()
            assert (tmp_path / "report" / "report.md").exists()
            monkeypatch.setattr(sys, "argv", ["generate", str(run.directory), "--length", "3"])
            generate()
            evaluated = train("task=evaluate", "ckpt=run")
            assert evaluated.returncode == 0, evaluated.stderr
        assert {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()} == before


@contextmanager
def read_only(folder):
    """Permissions do not hold the superuser; a mount does."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    mounts = (["--bind", folder, folder], ["-o", "remount,bind,ro", folder])
    if any(subprocess.run(["mount", *options], capture_output=True).returncode for options in mounts):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_second_run_in_a_directory_changes_nothing_in_it(tmp_path):
    typed = ["hydra.run.dir=run", *SMALL, *SHORT, "logger.tensorboard=null", "trainer.max_epochs=1000"]
    first = TrainProcess(*typed, folder=tmp_path)
    while not (tmp_path / "run" / "metrics.csv").exists() and first.poll() is None:
        time.sleep(0.05)
    config = (tmp_path / "run" / ".hydra" / "config.yaml").read_bytes()
    for others in (["hydra.run.dir=run", "seed=3"], ["hydra.run.dir=run", "seed=3", "checkpoint.requeue=true"]):
        second = TrainProcess(*others, folder=tmp_path)
        _, errors = second.communicate()
        assert (second.returncode, errors) == (
            1,
            "error: run: another process is training in this directory (docs/resume.md)\n",
        )
    assert (tmp_path / "run" / ".hydra" / "config.yaml").read_bytes() == config
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate()
    assert first.returncode == 128 + signal.SIGTERM, errors


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_disk_that_is_full_at_any_write(tmp_path):
    """A run on a file system that has a few blocks less than it needs, from none to all; each is then resumed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    overrides = ["trainer.max_epochs=1", *SHORT, *SMALL]
    try:
        undisturbed = Run(disk, "run", overrides)
        undisturbed.finish()
        weights = undisturbed.weights()
        needed = sum(-(-path.stat().st_size // 4096) for path in disk.rglob("*") if path.is_file()) + 40
        shutil.rmtree(disk / "run")
        refused = tried = 0
        for blocks in range(1, needed, 2):
            free = os.statvfs(disk).f_bavail
            (disk / "ballast").write_bytes(bytes(4096 * max(0, free - blocks)))
            process = undisturbed.start(*undisturbed.first_command)
            _, errors = process.communicate()
            (disk / "ballast").unlink()
            tried += 1
            if process.returncode:
                refused += 1
                assert process.returncode == 1, errors
                assert errors.splitlines()[-1].startswith("error: "), errors
                assert "Traceback" not in errors
                if (disk / "run" / "checkpoints" / "last.ckpt").exists() or (disk / "run" / ".hydra").exists():
                    resumed = undisturbed.start("resume=run")
                    _, errors = resumed.communicate()
                    if resumed.returncode:  # its configuration could not be written
                        assert "not a file that a run has written" in errors or "not a run directory" in errors, errors
                    else:
                        found = undisturbed.weights()
                        assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
            shutil.rmtree(disk / "run", ignore_errors=True)
        print(f"{tried} fillings of the disk, {refused} refused in one line")
        assert 0 < refused < tried
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
