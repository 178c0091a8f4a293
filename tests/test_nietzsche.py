"""The Nietzsche corpus: the lesson's exact facts, and how it is had."""

import functools
import hashlib
import http.server
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT
from helpers.configuration import composed

from lm.language.corpora import lines_between
from lm.language.data import Nietzsche
from unroll.errors import UserError
from unroll.training.cache import download

CORPUS = ROOT.parent / "shared" / "data" / "nietzsche.txt"
SHA256 = "23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647"

needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the real text is not beside this checkout")


def windows(**settings):
    data = Nietzsche(
        url="",
        sha256="",
        path=str(CORPUS),
        cache=None,
        layout="windows",
        tokenizer="characters",
        unknown=False,
        batch_size=512,
        valid_fraction=0.2,
        split_seed=42,
        split_among=settings.pop("among", None),
        seed=0,
        **settings,
    )
    return data


@needs_corpus
class TestFacts:
    def test_characters_and_entries(self):
        data = windows(bptt=8, stride=8)
        assert len(CORPUS.read_text()) == 600_893
        assert hashlib.sha256(CORPUS.read_bytes()).hexdigest() == SHA256
        assert len(data.vocabulary) == 85
        assert data.vocabulary.entries[0] == "\0"

    @pytest.mark.parametrize(("bptt", "stride", "number"), [(3, 3, 200_297), (8, 1, 600_885), (8, 8, 75_111)])
    def test_the_number_of_windows(self, bptt, stride, number):
        data = windows(bptt=bptt, stride=stride)
        assert len(data.train.windows) == number
        assert len(data.valid.chosen) == number // 5

    def test_the_lessons_validation_windows(self):
        np.random.seed(42)
        lessons = np.random.permutation(75_111 - 8 - 1)[: int(0.2 * 75_102)]  # fastai's get_cv_idxs(len(xs)-cs-1)
        assert windows(bptt=8, stride=8, among=75_102).valid.chosen.tolist() == sorted(lessons)

    def test_the_first_rows_as_the_lesson_encodes_them(self):
        first = windows(bptt=8, stride=8).train.windows
        assert first[:8, :8].tolist() == [
            [40, 42, 29, 30, 25, 27, 29, 1],
            [1, 1, 43, 45, 40, 40, 39, 43],
            [33, 38, 31, 2, 73, 61, 54, 73],
            [2, 44, 71, 74, 73, 61, 2, 62],
            [72, 2, 54, 2, 76, 68, 66, 54],
            [67, 9, 9, 76, 61, 54, 73, 2],
            [73, 61, 58, 67, 24, 2, 33, 72],
            [2, 73, 61, 58, 71, 58, 2, 67],
        ]
        assert first[0, 1:].tolist() == [42, 29, 30, 25, 27, 29, 1, 1]

    def test_the_stream_has_56_entries(self):
        data = Nietzsche(
            url="",
            sha256="",
            path=str(CORPUS),
            cache=None,
            lines={"train": (0, 0.8), "valid": (0.8, 1)},
            tokenizer="characters",
            lower=True,
            min_freq=3,
            bptt=8,
            batch_size=64,
        )
        assert len(data.vocabulary) == 54 + 2
        assert len(data.train.layout.sequence) + len(data.valid.layout.sequence) == 600_893


def test_a_recipe_is_searched_for_on_the_training_lines_alone():
    lesson, search = (composed(f"data={name}").data for name in ("nietzsche", "nietzsche_search"))
    text = "".join(f"line {number}\n" for number in range(1000))
    train, valid = (lines_between(text, *search.lines[split]) for split in ("train", "valid"))
    assert train + valid == lines_between(text, *lesson.lines.train)
    assert valid.count("\n") == 160


def test_lines_are_split_in_order_and_none_is_lost():
    text = "".join(f"line {number}\n" for number in range(10))
    train, valid = lines_between(text, 0, 0.8), lines_between(text, 0.8, 1)
    assert train + valid == text
    assert valid == "line 8\nline 9\n"


class TestDownload:
    TEXT = b"PREFACE\n\n\nSUPPOSING that Truth is a woman--what then?\n" * 500
    SUM = hashlib.sha256(TEXT).hexdigest()

    @pytest.fixture
    def server(self, tmp_path):
        """A server of this machine's own; the address of a good file, a wrong one and one that breaks off."""
        folder = tmp_path / "served"
        folder.mkdir()
        (folder / "text.txt").write_bytes(self.TEXT)
        (folder / "other.txt").write_bytes(self.TEXT[:-1] + b"!")

        class Handler(http.server.SimpleHTTPRequestHandler):
            asked = 0

            def do_GET(self):
                Handler.asked += 1
                if self.path != "/broken.txt":
                    return super().do_GET()
                self.send_response(200)
                self.send_header("Content-Length", str(len(TestDownload.TEXT)))
                self.end_headers()
                self.wfile.write(TestDownload.TEXT[:1000])

            def log_message(self, *arguments):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.handler = Handler
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()

    def test_it_comes_once_and_is_cached(self, server, tmp_path):
        for _ in range(2):
            assert download(f"{server}/text.txt", self.SUM, tmp_path / "cache").read_bytes() == self.TEXT
        assert self.handler.asked == 1

    @pytest.mark.parametrize("name", ["other.txt", "broken.txt", "missing.txt"])
    def test_another_or_half_a_file_is_refused_and_leaves_nothing(self, server, tmp_path, name):
        with pytest.raises(UserError, match=r"could not be downloaded.*data\.path=FILE"):
            download(f"{server}/{name}", self.SUM, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_offline_says_what_to_do(self, tmp_path):
        with pytest.raises(UserError, match=r"could not be downloaded.*data\.path=FILE"):
            download("http://127.0.0.1:9/text.txt", self.SUM, tmp_path / "cache")

    def test_a_file_that_went_bad_in_the_cache_is_noticed(self, server, tmp_path):
        path = download(f"{server}/text.txt", self.SUM, tmp_path / "cache")
        path.write_bytes(self.TEXT[:100])
        with pytest.raises(UserError, match="delete it"):
            download(f"{server}/text.txt", self.SUM, tmp_path / "cache")

    def test_a_file_address(self, tmp_path):
        path = tmp_path / "my text.txt"
        path.write_bytes(self.TEXT)
        assert download(path.as_uri(), self.SUM) == path
        with pytest.raises(UserError, match="not the expected file"):
            download(path.as_uri(), "0" * 64)
        with pytest.raises(UserError, match="cannot be read"):
            download((tmp_path / "none.txt").as_uri(), self.SUM)

    def test_two_at_once_do_not_trip_over_each_other(self, server, tmp_path):
        script = "import sys; from unroll.training.cache import download; print(download(*sys.argv[1:]))"
        command = [sys.executable, "-c", script, f"{server}/text.txt", self.SUM, str(tmp_path / "cache")]
        processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)]
        assert [process.wait() for process in processes] == [0] * 4
        assert [path.read_bytes() for path in (tmp_path / "cache").iterdir()] == [self.TEXT]

    @pytest.mark.slow
    def test_train_py_downloads_trains_and_answers_a_failed_download_in_one_line(self, server, train, tmp_path):
        text = ["model=char_three", f"data.url={server}/text.txt", f"data.cache={tmp_path}/cache"]
        finished = train(*text, f"data.sha256={self.SUM}", "data.batch_size=64", "trainer.max_epochs=1", "logger=none")
        assert finished.returncode == 0, finished.stderr
        failed = train(*text, "data.url=http://127.0.0.1:9/x.txt")
        assert failed.returncode == 1
        assert failed.stderr.startswith("error: http://127.0.0.1:9/x.txt could not be downloaded")
        assert len(failed.stderr.splitlines()) == 1
