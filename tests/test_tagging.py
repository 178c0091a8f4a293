"""A label for every word: the conditional random field, runs, and labels for text."""

import itertools
import json

import pytest
import torch
from helpers.samples import columns, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.tagging.checkpoint import TrainedTagger
from lm.tagging.command import Reader, redacted
from lm.tagging.crf import CRF
from lm.tagging.model import LAYERS, Tagger
from lm.tagging.schemes import Scheme
from lm.tagging.spans import count
from lm.tagging.words import Place
from lm.text.words import WORD
from unroll.streams import WholeSequences


@pytest.fixture
def file(tmp_path):
    (tmp_path / "train.txt").write_text(columns(sentences(200)))
    (tmp_path / "test.txt").write_text(columns(sentences(40, seed=1)))
    return tmp_path / "train.txt"


def test_the_conditional_random_field_is_the_sum_and_the_maximum_over_all_sequences():
    torch.manual_seed(0)
    labels, lengths = 3, [4, 1, 3]
    crf = CRF(labels).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    scores = torch.randn(3, 4, labels)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    truth = torch.randint(labels, (3, 4))

    def score(row, sequence):
        own = sum(scores[row, at, label] for at, label in enumerate(sequence))
        steps = sum(crf.transitions[pair] for pair in itertools.pairwise(sequence))
        return own + steps + crf.first[sequence[0]] + crf.last[sequence[-1]]

    expected = 0.0
    for row, length in enumerate(lengths):
        every = {sequence: score(row, sequence) for sequence in itertools.product(range(labels), repeat=length)}
        expected += torch.stack(list(every.values())).logsumexp(0) - every[tuple(truth[row, :length].tolist())]
        best = max(every, key=lambda sequence: every[sequence].item())
        assert crf.decode(scores, mask)[row].tolist() == [*best, *[0] * (4 - length)]
    assert crf.nll(scores, truth, mask).item() == pytest.approx(expected.item())


class TestWholeSequences:
    @given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 8), st.booleans(), st.integers(0, 3))
    def test_each_is_in_one_batch_whole(self, lengths, batch_size, shuffle, epoch):
        batch_size = min(batch_size, len(lengths))
        whole = torch.arange(sum(lengths))
        parts = whole.split(lengths)
        batches = WholeSequences(parts, parts, batch_size, shuffle)
        batches.set_epoch(epoch)
        found = []
        for window in batches:
            mask = torch.ones_like(window.inputs, dtype=torch.bool) if window.mask is None else window.mask
            assert window.starts.all()
            assert torch.equal(window.inputs, window.targets)
            assert not window.inputs[~mask].any()
            found += [tuple(row[counted].tolist()) for row, counted in zip(window.inputs, mask, strict=True)]
        assert sorted(found) == [tuple(part.tolist()) for part in parts]
        assert len(list(batches)) == len(batches)

    @given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 3))
    def test_of_longer_ones_a_part_is_read(self, lengths, crop, epoch):
        parts = torch.arange(sum(lengths)).split(lengths)
        batches = WholeSequences(parts, parts, 1, shuffle=True, crop=crop)
        batches.set_epoch(epoch)
        read = [window.inputs[0] for window in batches]
        assert sorted(map(len, read)) == sorted(min(length, crop) for length in lengths)
        for row in read:
            (part,) = [part for part in parts if row[0] in part]
            assert set(row.tolist()) <= set(part.tolist())
            assert torch.equal(row, torch.arange(int(row[0]), int(row[0]) + len(row)))
        assert all(torch.equal(window.targets, window.inputs) for window in batches)

    def test_the_part_is_another_one_in_each_epoch_and_any_place_can_be_drawn(self):
        batches = WholeSequences([torch.arange(10)], torch.zeros(1), 1, shuffle=True, crop=7)
        first = []
        for epoch in range(60):
            batches.set_epoch(epoch)
            (window,) = batches
            batches.set_epoch(epoch)
            (again,) = batches
            assert torch.equal(window.inputs, again.inputs)
            first.append(int(window.inputs[0, 0]))
        assert set(first) == {0, 1, 2, 3}

    def test_those_of_like_length_are_together(self):
        draw = torch.Generator().manual_seed(0)
        lengths = torch.randint(1, 60, (2000,), generator=draw).tolist()
        parts = torch.zeros(sum(lengths)).split(lengths)
        batches = WholeSequences(parts, parts, 20, shuffle=True)
        steps = sum(window.inputs.numel() for window in batches)
        assert sum(lengths) / steps > 0.9


@pytest.mark.parametrize("body", LAYERS)
def test_in_one_direction_a_stream_gives_what_the_whole_gives(body):
    torch.manual_seed(0)
    model = Tagger(30, 4, 20, [5], body=body, bidirectional=False, hidden_size=8, num_layers=2).eval()
    inputs = torch.randint(1, 5, (3, 12, 8))
    whole, _ = model(inputs)
    state, parts = None, []
    for part in inputs.split([1, 5, 6], dim=1):
        scores, state = model(part, state)
        parts.append(scores)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


@pytest.mark.parametrize("body", LAYERS)
@settings(deadline=None)
@given(st.integers(1, 6))
def test_in_both_directions_padding_changes_nothing(body, length):
    torch.manual_seed(length)
    model = Tagger(30, 4, 20, body=body, hidden_size=8, num_layers=2, character_size=4, filters=4).eval()
    inputs = torch.randint(1, 5, (2, 6, 7))
    inputs[0, length:] = 0
    torch.testing.assert_close(model(inputs)[0][0, :length], model(inputs[:1, :length])[0][0])


@pytest.fixture
def trained(train, file):
    def run(*overrides):
        return train(
            "model=tagger", "data=columns", f"data.train={file}", "data.columns=[word,pos,tag]", "data.batch_size=8",
            "model.hidden_size=16", "model.embedding_size=16", "threads=1", "hydra.run.dir=run", "optimizer.lr=1e-2",
            "callbacks.curves=null",
            *overrides,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("small", [False, True])
def test_how_long_vectors_are_at_first(small):
    model = Tagger(500, 3, 80, [40], small_vectors=small)
    for embed in (model.embed, model.characters.embed, *model.extras):
        lengths = embed.weight.detach().norm(dim=1)
        expected = 1 if small else embed.embedding_dim**0.5
        assert lengths[0] == 0  # padding
        assert lengths[1:].mean() == pytest.approx(expected, rel=0.1)


def test_a_run_its_test_part_and_labels_for_text(trained, train, program, file, tmp_path):
    finished = trained("model.crf=true", "trainer.max_epochs=3", f"data.test={tmp_path / 'test.txt'}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split()[:7] == ["epoch", "train", "loss", "valid", "loss", "accuracy", "f1"]
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["valid/f1"] > 0.95
    assert set(metrics) == {
        "train/loss",
        *(f"valid/{name}" for name in ("loss", "accuracy", "precision", "recall", "f1", "strict_f1")),
    }

    tested = train("task=evaluate", "ckpt=run", "data.split=test")
    assert tested.returncode == 0, tested.stderr
    reader = Reader(TrainedTagger.load(tmp_path / "run" / "checkpoints" / "best.ckpt"))
    text = sentences(40, seed=1)
    guesses = [reader.label([word for word, *_ in sentence]) for sentence in text]
    counts = count([[label for *_, label in sentence] for sentence in text], guesses, Scheme())
    assert float(tested.stdout.split("valid/f1")[1].split()[0]) == pytest.approx(counts.f1, abs=1e-4)

    tagged = program("lm.tag", "run", input="The green car runs.\n")
    assert tagged.returncode == 0, tagged.stderr
    assert [line.split("\t")[0] for line in tagged.stdout.split("\n")[:5]] == ["The", "green", "car", "runs", "."]
    black = program("lm.tag", "run", "--redact", "NP", input="red house runs.\n")
    assert black.stdout == "█████████ runs.\n"
    wrong = program("lm.tag", "run", "--redact", "NN")
    assert wrong.stderr == "error: --redact NN: choose from: NP, VP\n"


@pytest.mark.slow
def test_a_stream_in_one_direction(trained, train, program, file, tmp_path):
    whole = trained("data.layout=stream", "model.crf=true")
    assert whole.returncode != 0
    assert "data.layout=stream: needs model.bidirectional=false model.crf=false" in whole.stderr
    finished = trained(
        "data.layout=stream", "model.bidirectional=false", "model.crf=false", "trainer.max_epochs=5", "data.extra=[pos]"
    )
    assert finished.returncode == 0, finished.stderr
    loaded = TrainedTagger.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    valid = sentences(200)[180:]
    reader, guesses, truth = Reader(loaded), [], []
    for sentence in valid:  # the state is carried from one to the next
        guesses += reader.label([word for word, *_ in sentence], {"pos": [pos for _, pos, _ in sentence]})
        truth += [label for *_, label in sentence]
    counts = count([truth], [guesses], Scheme())
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["valid/precision"] == pytest.approx(counts.correct / counts.predicted)
    assert metrics["valid/recall"] == pytest.approx(counts.correct / counts.true)
    refused = program("lm.tag", "run", input="red car\n")
    assert refused.stderr.startswith("error: the model reads pos too: give a word per line and --columns word,pos")
    both = program("lm.tag", "run", "--columns", "word,pos", "--redact", "NP", input="red JJ\n")
    assert both.stderr == "error: --redact blacks out running text; leave --columns out\n"
    given_them = program("lm.tag", "run", "--columns", "word,pos", input="red JJ\ncar NN\n\nruns VB\n")
    assert [line.split("\t")[:2] for line in given_them.stdout.splitlines() if line] == [
        ["red", "JJ"], ["car", "NN"], ["runs", "VB"],
    ]  # fmt: skip


def test_spans_are_blacked_out_with_the_blanks_in_them():
    text = "My name is  Ann Lee, hi."
    words = [Place(*match.span()) for match in WORD.finditer(text)]
    assert redacted(text, words, ["O", "O", "O", "B-P", "I-P", "O", "B-P", "O"], "P", Scheme()) == (
        "My name is  ███████, ██."
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.label=tags", "there is no column tags; data.columns names word, pos, tag"),
        ("data.train=none.txt", "none.txt: there is no such file"),
        ("model.body=tcn", "model.body=tcn: must be one of: lstm, gru, rnn, qrnn, min_gru, min_lstm"),
        ("data.split=test", "data.split=test: there is no test part; give one: data.test=FILE"),
        ("data.encoding=latin-99", "data.encoding=latin-99: must be an encoding that Python knows"),
    ],
)
def test_mistakes_are_answered_in_one_line(trained, override, words):
    finished = trained(override)
    assert finished.returncode != 0
    assert words in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
