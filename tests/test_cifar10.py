"""CIFAR-10 as its authors hand it out: a small archive in their format, served, downloaded, checked and trained on."""

import hashlib
import io
import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pytest
import torch

from unroll.errors import UserError
from vision.checkpoint import TrainedImageClassifier
from vision.data import draw_shapes, read_cifar10
from vision.data.cifar10 import NAMES, TEST, TRAIN
from vision.data.data_modules import CIFAR10
from vision.data.shapes import NAMES as SHAPES

EACH = 24  # images in a file


def files_of_archive():
    """Ours hold shapes; names of classes stand one to a line, and a blank line ends them, as in the real one."""
    files = {NAMES: "\n".join([*SHAPES, "", ""]).encode()}
    for number, name in enumerate((*TRAIN, *TEST)):
        pixels, labels = draw_shapes(EACH, seed=number)
        records = numpy.concatenate([labels.numpy().astype("uint8")[:, None], pixels.flatten(1).numpy()], axis=1)
        files[name] = records.tobytes()
    return files


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar10")
    write_archive(folder / "cifar-10-binary.tar.gz", files_of_archive())
    return folder


class TestReading:
    def test_each_record_is_a_class_and_then_red_green_and_blue(self, folder):
        train, valid, names = read_cifar10(folder / "cifar-10-binary.tar.gz")
        assert names == SHAPES
        assert (train.pixels.dtype, train.pixels.shape) == (torch.uint8, (5 * EACH, 3, 32, 32))
        for split, seeds in ((train, range(5)), (valid, [5])):
            drawn = [draw_shapes(EACH, seed) for seed in seeds]
            assert torch.equal(split.pixels, torch.cat([images.pixels for images in drawn]))
            assert torch.equal(split.labels, torch.cat([images.labels for images in drawn]))

    def test_the_folder_that_it_unpacks_to_is_as_good(self, folder, tmp_path):
        with tarfile.open(folder / "cifar-10-binary.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        from_folder, from_archive = (
            read_cifar10(path) for path in (tmp_path / "cifar-10-batches-bin", folder / "cifar-10-binary.tar.gz")
        )
        assert torch.equal(from_folder[0].pixels, from_archive[0].pixels)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda files: files.pop("data_batch_3.bin"), "there is no data_batch_3.bin in it; give cifar-10-binary"),
            (lambda files: files.pop(NAMES), "there is no batches.meta.txt"),
            (lambda files: files.update({"test_batch.bin": b"123"}), "test_batch.bin has 3 bytes, not a whole number"),
            (lambda files: files.update({"test_batch.bin": b""}), "test_batch.bin has 0 bytes"),
            (lambda files: files.update({NAMES: b"cat dog"}), "an image of class 9, but names for 2 classes"),
        ],
    )
    def test_what_is_not_whole_is_named(self, tmp_path, change, words):
        files = files_of_archive()
        change(files)
        with pytest.raises(UserError, match=words):
            read_cifar10(write_archive(tmp_path / "some.tar.gz", files))

    @pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"not an archive"])
    def test_a_file_that_cannot_be_read_is_refused_in_one_line(self, folder, tmp_path, damage):
        path = tmp_path / "cifar-10-binary.tar.gz"
        path.write_bytes(damage((folder / "cifar-10-binary.tar.gz").read_bytes()))
        with pytest.raises(UserError, match=r"not an archive that can be read|there is no") as caught:
            read_cifar10(path)
        assert "\n" not in str(caught.value)

    def test_nothing_at_the_path(self, tmp_path):
        with pytest.raises(UserError, match=r"none.tar.gz: there is no such file"):
            read_cifar10(tmp_path / "none.tar.gz")
        with pytest.raises(UserError, match=r"there is no data_batch_1\.bin"):
            read_cifar10(tmp_path)


SHORT = ["model=conv_bn", "trainer.max_epochs=1", "data.batch_size=40", "data.valid_images=20"]
SHORT += ["callbacks.curves=null", "hydra.run.dir=run"]


class TestDownload:
    @pytest.fixture
    def served(self, folder):
        """The archive's address and sum, from a server of our own, and the requests that it has had."""
        requests = []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *arguments):
                requests.append(self.path)

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        content = (folder / "cifar-10-binary.tar.gz").read_bytes()
        url = f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
        yield [f"data.url={url}", f"data.sha256={hashlib.sha256(content).hexdigest()}", "data.cache=cache"], requests
        server.shutdown()

    def test_it_is_downloaded_once_checked_and_trained_on(self, train, served, tmp_path):
        overrides, requests = served
        finished = train(*SHORT, *overrides)
        assert finished.returncode == 0, finished.stderr
        assert "100 training and 20 validation images of 10 classes" in finished.stderr
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert (result["status"], result["steps"]) == ("finished", 3)
        assert set(result["metrics"]) == {"train/loss", "valid/loss", "valid/accuracy"}
        assert result["images_per_second"] * result["seconds"] == pytest.approx(100, rel=0.01)
        assert TrainedImageClassifier.load(tmp_path / "run" / "checkpoints" / "last.ckpt").classes == SHAPES
        again = train(*SHORT[:-1], *overrides)
        assert again.returncode == 0, again.stderr
        assert requests == ["/cifar-10-binary.tar.gz"]

    def test_another_file_than_the_one_that_is_meant_is_not_taken(self, train, served, tmp_path):
        (url, _, cache), _ = served
        refused = train(*SHORT, url, f"data.sha256={'0' * 64}", cache)
        assert refused.returncode == 1
        line = refused.stderr.splitlines()[-1]  # behind the download's bar
        assert "could not be downloaded (its checksum is not the expected one)" in line
        assert not list(tmp_path.glob("cache/*.gz"))

    def test_where_it_cannot_be_had_one_line_says_what_to_do(self, train):
        refused = train(*SHORT, "data.url=http://127.0.0.1:9/cifar-10-binary.tar.gz", "data.cache=cache")
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert line.startswith("error: http://127.0.0.1:9/cifar-10-binary.tar.gz could not be downloaded (Connection")
        assert line.endswith("try again when online, or give a copy: data.path=FILE (docs/images.md)")

    @pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar-10-batches-bin"])
    @pytest.mark.slow
    def test_a_copy_of_ones_own(self, train, folder, tmp_path, name):
        with tarfile.open(folder / "cifar-10-binary.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes((folder / "cifar-10-binary.tar.gz").read_bytes())
        finished = train(*SHORT, f"data.path={name}", "logger=none")
        assert finished.returncode == 0, finished.stderr


class TestParts:
    def data(self, folder, **settings):
        source = {"url": "", "sha256": "", "path": str(folder / "cifar-10-binary.tar.gz"), "cache": None}
        return CIFAR10(**source, batch_size=8, pad=0, flip=False, **settings)

    def test_the_same_training_images_are_held_out_for_every_seed(self, folder):
        whole = self.data(folder, valid_images=0).splits
        one, other = (self.data(folder, valid_images=30, seed=seed).splits for seed in (0, 1))
        assert torch.equal(one.valid.pixels, other.valid.pixels)
        every = torch.cat([one.train.pixels, one.valid.pixels]).flatten(1).tolist()
        assert sorted(every) == sorted(whole.train.pixels.flatten(1).tolist())
        assert torch.equal(one.test.pixels, whole.test.pixels)

    def test_the_test_images_are_evaluated_where_they_are_asked_for_or_nothing_is_held_out(self, folder):
        for data in (self.data(folder, valid_images=30, split="test"), self.data(folder, valid_images=0)):
            assert torch.equal(data.valid.pixels, data.splits.test.pixels)

    def test_more_than_there_are_cannot_be_held_out(self, folder):
        with pytest.raises(UserError, match=r"data.valid_images=120: must be less than 120, the training images"):
            self.data(folder, valid_images=5 * EACH).summary()
