"""Texts of any size become the same ids: in chunks or whole, in memory or in a file that is mapped."""

import os
import random
import subprocess
import sys

import pytest
import torch
from helpers.processes import ROOT
from helpers.runs import NO_PLOTS
from hypothesis import given
from hypothesis import strategies as st

from lm.language.data import TextFiles
from lm.language.generation import texts
from lm.text import Tokenizer, Vocabulary
from lm.text.chunks import Text, chunks_of, whole, without_end
from lm.text.encoding import IN_MEMORY, Recipe, encode, encode_files, worker_count
from lm.text.tokenizers import learn_bpe
from unroll import Stream
from unroll.cli.plan import in_kib
from unroll.errors import UserError

TEXT = st.text(st.sampled_from("aB é日\n\r\t 😀Σ'"), min_size=1).filter(str.strip)


def lines(size, seed=0):
    """Lines of made-up words, some of them not ASCII, `size` bytes and a few more."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyzéß日Ω", k=draw.randint(1, 9))) for _ in range(400)]
    content, length = [], 0
    while length < size:
        content.append(" ".join(draw.choices(words, k=12)).capitalize() + ".\n")
        length += len(content[-1].encode())
    return "".join(content)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "large.txt"
    path.write_text(lines(IN_MEMORY + 2**20), encoding="utf-8")
    return path


class TestPieces:
    @given(TEXT, st.integers(1, 20))
    def test_together_they_are_the_whole(self, tmp_path_factory, text, size):
        path = tmp_path_factory.getbasetemp() / "text.txt"
        path.write_bytes(text.encode())
        chunks = [chunk.read() for chunk in chunks_of(whole(path), size)]
        as_read = path.read_text(encoding="utf-8")
        assert "".join(chunks) == as_read
        for tokenizer in (Tokenizer("words", lower=True), Tokenizer("characters", lower=True)):
            assert [token for chunk in chunks for token in tokenizer.split(chunk)] == tokenizer.split(as_read)

    @given(TEXT, st.floats(0.01, 0.99))
    def test_what_is_without_end_is_the_end(self, tmp_path_factory, text, fraction):
        path = tmp_path_factory.getbasetemp() / "text.txt"
        path.write_bytes(text.encode())
        for words in (True, False):
            train, valid = without_end(whole(path), fraction, words)
            assert train.read() + valid.read() == path.read_text(encoding="utf-8")

    def test_words_are_not_cut(self, tmp_path):
        path = tmp_path / "text.txt"
        path.write_text("one two three four")
        train, valid = without_end(whole(path), 0.5, words=True)
        assert (train.read(), valid.read()) == ("one two three ", "four")


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        (Recipe("characters", False, 1), torch.uint8),
        pytest.param(Recipe("characters", True, 3), torch.uint8, marks=pytest.mark.slow),
        (Recipe("words", True, 2), torch.uint16),
        pytest.param(Recipe("bpe", False, 2, vocab_size=300), torch.uint16, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "tokenizer", None),
)
@pytest.mark.few(1)
def test_ids_from_files_are_those_from_memory(large, tmp_path, recipe, dtype):
    train, valid = without_end(whole(large), 0.1, words=True)
    kept = encode_files(train, valid, recipe, tmp_path)
    if recipe.tokenizer == "bpe":  # which cuts a run of blanks otherwise at the end of a chunk
        assert (
            kept.vocabulary.textify(kept.train[-5000:])
            == train.read()[-len(kept.vocabulary.textify(kept.train[-5000:])) :]
        )
    else:
        expected = encode(Text(train.read()), Text(valid.read()), recipe)
        assert kept.vocabulary.entries == expected.vocabulary.entries
        assert torch.equal(kept.train.long(), expected.train)
        assert torch.equal(kept.valid.long(), expected.valid)
    assert kept.train.dtype == dtype
    assert expected_bytes(tmp_path) == (len(kept.train) + len(kept.valid)) * dtype.itemsize


def expected_bytes(cache):
    return sum(path.stat().st_size for path in cache.glob("ids/*/*.bin"))


class TestCache:
    recipe = Recipe("characters", False, 1)

    def made(self, path, cache, recipe=recipe):
        """When the files of ids were made, by folder."""
        train, valid = without_end(whole(path), 0.1, words=False)
        encoded = encode_files(train, valid, recipe, cache)
        return encoded, {file.parent.name: file.stat().st_mtime_ns for file in cache.glob("ids/*/train.bin")}

    def test_a_second_start_makes_nothing(self, large, tmp_path):
        _, first = self.made(large, tmp_path)
        _, second = self.made(large, tmp_path)
        assert len(first) == 1
        assert second == first

    def test_a_copy_of_the_text_needs_no_other_ids_but_another_text_or_recipe_does(self, large, tmp_path):
        copy = tmp_path / "copy.txt"
        copy.write_bytes(large.read_bytes())
        self.made(large, tmp_path)
        assert len(self.made(copy, tmp_path)[1]) == 1
        assert len(self.made(copy, tmp_path, Recipe("characters", True, 1))[1]) == 2
        copy.write_bytes(b"X" + copy.read_bytes()[1:])
        encoded, made = self.made(copy, tmp_path)
        assert len(made) == 3
        assert encoded.vocabulary.textify(encoded.train[:1]) == "X"

    def test_a_damaged_one_is_made_again(self, large, tmp_path):
        expected, _ = self.made(large, tmp_path)
        ids = expected.train.clone()
        (file,) = tmp_path.glob("ids/*/train.bin")
        os.truncate(file, 1000)
        assert torch.equal(self.made(large, tmp_path)[0].train, ids)

    def test_bytes_that_are_no_text_are_named_and_nothing_is_left(self, tmp_path):
        path = tmp_path / "broken.txt"
        content = bytearray(lines(IN_MEMORY + 2**20).encode())
        content[3_000_000:3_000_001] = b"\xff"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"not UTF-8 text \(byte (3000000|2999999|2999998) "):
            self.made(path, tmp_path)
        assert [file for file in (tmp_path / "ids").iterdir() if file.suffix != ".lock"] == []

    @pytest.mark.slow
    def test_processes_that_start_at_once_make_it_once(self, large, tmp_path):
        code = (
            "import sys; from lm.text.encoding import *; from lm.text.chunks import *\n"
            "train, valid = without_end(whole(sys.argv[1]), 0.1, words=False)\n"
            "print(encode_files(train, valid, Recipe('characters', False, 1), sys.argv[2]).train.long().sum().item())"
        )
        command = [sys.executable, "-c", code, str(large), str(tmp_path)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
        both = [subprocess.Popen(command, **pipes) for _ in range(2)]
        (first, told), (second, told_too) = (process.communicate() for process in both)
        assert first == second != ""
        assert sorted(["of text once" in told, "of text once" in told_too]) == [False, True]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32])
def test_a_stream_of_small_integers_gives_the_same_windows(dtype):
    tokens = torch.arange(100) * 2
    expected = list(Stream(tokens, batch_size=4, bptt=7))
    for (inputs, targets, *_), (small_inputs, small_targets, *_) in zip(
        expected, Stream(tokens.to(dtype), batch_size=4, bptt=7), strict=True
    ):
        assert small_inputs.dtype == small_targets.dtype == torch.int64
        assert torch.equal(small_inputs, inputs)
        assert torch.equal(small_targets, targets)


class TestBytePairs:
    text = lines(50_000)

    def test_text_comes_back_and_nothing_is_unknown(self):
        tokenizer = learn_bpe([self.text], 400)
        vocabulary = Vocabulary.of_counts({}, tokenizer)
        assert len(vocabulary) == 400
        for text in (self.text, "x ≠ y: 日本語 😀\n\n  two blanks"):
            assert vocabulary.textify(vocabulary.encode(text)) == text
        assert len(vocabulary.encode(self.text)) < 0.8 * len(self.text)

    def test_the_same_text_gives_the_same_pairs(self):
        assert learn_bpe([self.text], 400) == learn_bpe([self.text], 400)

    def test_characters_of_several_tokens_are_shown_whole(self):
        vocabulary = Vocabulary.of_counts({}, learn_bpe(["plain text"], 256))
        tokens = vocabulary.encode("a é 😀").tolist()
        shown = list(texts(vocabulary, tokens))
        assert len(shown) == len(tokens)
        assert [text for text in shown if text] == ["a", " ", "é", " ", "😀"]

    def test_without_the_library_one_line_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(UserError, match=r"pip install .*\[bpe\]"):
            learn_bpe(["text"], 300)

    @pytest.mark.slow
    def test_a_run_on_pieces_of_words(self, train, program, tmp_path):
        (tmp_path / "text.txt").write_text(self.text, encoding="utf-8")
        settings = [
            "data=text",
            "data.train=text.txt",
            "data.tokenizer=bpe",
            "data.vocab_size=300",
            "data.batch_size=8",
        ]
        run = train(*settings, *NO_PLOTS, "trainer.max_epochs=1", "hydra.run.dir=run")
        assert run.returncode == 0, run.stderr
        resumed = train("resume=run", "trainer.max_epochs=2")
        assert resumed.returncode == 0, resumed.stderr
        generated = program("lm.generate", "run/checkpoints/last.ckpt", "--length", 20, "--prompt", "The ")
        assert generated.returncode == 0, generated.stderr
        assert generated.stdout.startswith("The ")


@pytest.mark.slow
def test_a_run_on_a_large_file_is_one_on_its_ids(large, train, tmp_path):
    settings = ["data=text", f"data.train={large}", "data.cache=cache", "data.batch_size=8", "model.hidden_size=8"]
    limits = ["trainer.limit_train_batches=20", "trainer.limit_val_batches=5", "trainer.max_epochs=1"]
    first = train(*settings, *limits, "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    assert "reading 5 MB of text once" in first.stderr
    second = train(*settings, *limits, "hydra.run.dir=second")
    assert "of text once" not in second.stderr
    assert (tmp_path / "first" / "metrics.csv").read_text() == (tmp_path / "second" / "metrics.csv").read_text()


@pytest.mark.parametrize(("system", "workers"), [("linux", 64), ("win32", 61)])
def test_windows_waits_for_61_processes(system, workers, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(sys, "platform", system)
    assert worker_count() == workers


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_reading_all_of_a_mapped_file_takes_no_memory(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(lines(2**20) * 100, encoding="utf-8")
    data = TextFiles(str(path), tokenizer="characters", bptt=70, batch_size=64, cache=str(tmp_path))
    before = in_kib("/proc/self/status", "VmRSS")
    most, tokens = before, 0
    for number, batch in enumerate(data.train):
        inputs = data.on_after_batch_transfer(batch, 0).inputs
        tokens += inputs.numel()
        if number % 1000 == 0:
            most = max(most, in_kib("/proc/self/status", "VmRSS"))
    assert tokens == len(data.train.layout.sequence) - 1 > 80_000_000
    assert most - before < 40_000  # KiB
