"""Documents with a class: files, reading in windows, memory, runs, and classes for text."""

import json
import re
import zipfile

import pytest
import torch
from helpers.samples import reviews
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lm.documents.checkpoint import TrainedClassifier
from lm.documents.command import classify
from lm.documents.data import MovieReviews
from lm.documents.files import read_documents
from lm.documents.learner import Classes
from lm.documents.model import BODIES, Classifier
from unroll.errors import UserError


class TestFiles:
    def test_the_same_from_every_kind_of_file(self, tmp_path, reviews_file):
        expected = read_documents(str(reviews_file), "text", "label").documents
        documents = reviews(160)
        assert [tuple(document) for document in expected] == documents
        (tmp_path / "a.csv").write_text("label,text\n" + "".join(f'{label},"{text}"\n' for text, label in documents))
        (tmp_path / "a.tsv").write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in documents))
        for name in ("a.csv", "a.tsv"):
            assert read_documents(str(tmp_path / name), "text", "label").documents == expected
        for number, (text, label) in enumerate(documents):
            (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / label / f"{number:03}.txt").write_text(text)
        found = read_documents(str(tmp_path / "folder"), "text", "label").documents
        assert sorted(found) == sorted(expected)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("a.csv", "text,class\nx,y\n", "there is no column label; choose from: text, class"),
            ("a.csv", "text,label\nx,y\n,y\n", "a.csv, line 3: the document is empty; leave it out"),
            ("a.csv", "text,label\nx,\n", "a.csv, line 2: has no class in the column label"),
            ("a.jsonl", '{"text": "x"}\n', "a.jsonl: there is no column label; choose from: text"),
            ("a.jsonl", '{"text": "x", "label": "y"}\nno\n', "a.jsonl, line 2: not JSON"),
            ("a.csv", b"text,label\n\xff,y\n", r"not UTF-8 text \(byte 11 cannot be read\); as cp1252 it reads “ÿ,y”"),
            ("a.pdf", "x", "must be a .csv, .tsv, .jsonl or .parquet file, or a folder with a folder per class"),
            ("a.csv", "text,label\n", "has no documents"),
            (
                "a.csv",
                "text,label\nx,1\ny,1.0\n",
                "line 3: the column label has 1.0, and 1 in line 2; write it one way",
            ),
            (
                "a.jsonl",
                '{"text": "x", "label": true}\n{"text": "y", "label": 1}\n',
                "2: the column label has 1, and true",
            ),
            (
                "a.jsonl",
                '{"text": "x", "label": 0}\n{"text": "y", "label": false}\n',
                "label has false, and 0 in line 1",
            ),
            ("a.jsonl", '{"text": "x", "label": "1"}\n{"text": "y", "label": 1.0}\n', "has 1.0, and 1 in line 1"),
            ("a.csv", "text,label\nx,True\ny,true\n", "the column label has true, and True in line 2"),
        ],
    )
    def test_what_cannot_be_read_is_refused_in_one_line(self, tmp_path, name, content, words):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=words) as error:
            read_documents(str(tmp_path / name), "text", "label")
        assert "\n" not in str(error.value)


def test_an_encoding_that_there_is_not_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,y\n")
    with pytest.raises(UserError, match="encoding=utf-9: must be an encoding that Python knows"):
        read_documents(str(tmp_path / "a.csv"), "text", "label", encoding="utf-9")


def test_the_folds_of_the_reviews_are_those_in_the_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "movie_reviews.zip", "w") as archive:
        for number in range(0, 1000, 20):
            for label in ("neg", "pos"):
                archive.writestr(f"movie_reviews/{label}/cv{number:03}_1.txt", f"{label} {number}")
    source = {"url": "", "sha256": "", "cache": None, "path": str(tmp_path / "movie_reviews.zip")}

    def numbers(documents):
        return {int(document.text.split()[1]) // 100 for document in documents}

    held = MovieReviews(**source, fold=9).splits
    assert [numbers(split) for split in held] == [set(range(1, 9)), {0}, {9}]
    every = MovieReviews(**source, fold=2, hold_out=False).splits
    assert [numbers(split) for split in every] == [set(range(10)) - {2}, {2}, {2}]


@pytest.mark.parametrize("body", BODIES)
def test_reading_in_windows_gives_what_reading_whole_gives(body):
    torch.manual_seed(0)
    model = Classifier(50, 3, body, 8, 8, 2, bptt=7, max_tokens=1000).eval()
    lengths = [40, 3, 21, 7]
    tokens = torch.randint(50, (4, 40))
    pooled = model.pooled(tokens, torch.tensor(lengths))
    pooled.sum().backward()
    streamed = [parameter.grad.clone() for parameter in model.body.parameters()]
    model.zero_grad()
    model.windows = 2  # of six that have gradients: the values are the same
    torch.testing.assert_close(model.pooled(tokens, torch.tensor(lengths)), pooled)
    for row, length in enumerate(lengths):
        outputs = model.body.features(tokens[row : row + 1, :length])[0][0]
        whole = torch.cat([outputs[-1], outputs.amax(0), outputs.mean(0)])
        torch.testing.assert_close(pooled[row], whole, atol=1e-5, rtol=1e-4)
        whole.sum().backward()
    for ours, theirs in zip(streamed, model.body.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_scores_have_the_precision_of_the_weights(dtype):
    model = Classifier(50, 2, "awd_lstm", 8, 8, 1, bptt=5, max_tokens=10).to(dtype)
    assert model(torch.randint(50, (3, 33)), torch.tensor([33, 4, 17])).dtype == dtype


def test_gradients_reach_through_the_last_tokens_alone():
    torch.manual_seed(0)
    model = Classifier(30, 2, "awd_lstm", 8, 8, 1, bptt=5, max_tokens=10).eval()
    tokens = torch.cat([torch.arange(20), torch.arange(20, 30)])[None]  # each once
    model.pooled(tokens, torch.tensor([30])).sum().backward()
    reached = model.body.embed.weight.grad.abs().sum(1) > 0
    assert torch.equal(reached, torch.arange(30) >= 20)


def test_memory_is_flat_in_the_length_of_a_document():
    model = Classifier(100, 2, "awd_lstm", 16, 32, 1, bptt=50, max_tokens=100)
    kept = []
    for length in (200, 2000, 20_000):
        saved = 0

        def count(tensor):
            nonlocal saved
            saved += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(torch.randint(100, (2, length)), torch.tensor([length, length])).sum()
        kept.append(saved)
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([0, 1, 1, 2, 0, 1], (2 * 1 / 4 + 2 * 2 / 5 + 2 * 1 / 3) / 3),
        ([0, 1, 1, 0, 0, 1], (2 * 1 / 5 + 2 * 2 / 5 + 0) / 3),
    ],
    ids=["all classes", "one that is predicted alone"],
)
def test_macro_f1_is_the_mean_of_the_classes_as_in_scikit_learn(targets, expected):
    guesses = [0, 0, 1, 2, 2, 1]
    outputs = torch.eye(5)[guesses]  # of which two classes are neither there nor predicted
    objective = Classes()
    means = {name: float(value) / 6 for name, value in objective.sums(outputs, torch.tensor(targets)).items()}
    assert objective.derived(means)["macro_f1"] == pytest.approx(expected)


@pytest.fixture
def trained(train, reviews_file):
    def run(*overrides):
        return train(
            "model=classifier", "data=documents", f"data.train={reviews_file}", "data.batch_size=8", "data.min_freq=1",
            "model.hidden_size=16", "model.embedding_size=16", "model.bptt=20", "threads=1", "optimizer.lr=2e-2",
            "callbacks.curves=null", *overrides,
            *([] if any("run.dir" in typed for typed in overrides) else ["hydra.run.dir=run"]),
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_a_run_its_test_part_and_classes_for_text(trained, train, program, tmp_path):
    (tmp_path / "test.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in reviews(40, seed=1))
    )
    finished = trained("trainer.max_epochs=6", f"data.test={tmp_path / 'test.jsonl'}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split()[:7] == ["epoch", "train", "loss", "valid", "loss", "accuracy", "macro_f1"]
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["valid/accuracy"] > 0.8
    assert (tmp_path / "run" / "confusion.png").stat().st_size > 1000
    assert (tmp_path / "run" / "mistakes.md").read_text().startswith("# The surest mistakes")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    shown = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("validation/text_summary")]
    assert len(shown) == 6
    assert re.search(r"\*\*(good|bad) [01]\.\d{3}\*\* \(\d+ tokens\)", shown[-1])

    tested = train("task=evaluate", "ckpt=run", "data.split=test")
    assert tested.returncode == 0, tested.stderr
    loaded = TrainedClassifier.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    right = [loaded.classes[int(classify([loaded], text).argmax())] == label for text, label in reviews(40, seed=1)]
    assert float(tested.stdout.split("valid/accuracy")[1].split()[0]) == pytest.approx(sum(right) / 40, abs=1e-4)

    (tmp_path / "one.txt").write_text("a lovely film , great and fine .")
    said = program("lm.classify", "run", "one.txt", "-", input="a dull film , poor and weak .")
    assert said.returncode == 0, said.stderr
    assert [line.rpartition(" ")[0] for line in said.stdout.splitlines()] == ["one.txt: good", "-: bad"]
    both = program("lm.classify", "run", "run/checkpoints/last.ckpt", "one.txt")
    assert both.stdout.startswith("one.txt: good")
    empty = program("lm.classify", "run", "-", input=" \n")
    assert empty.stderr == "error: -: the text is empty\n"


@pytest.mark.slow
def test_a_model_that_reads_backwards_and_the_mean_of_two(trained, program, tmp_path):
    for name, backwards in (("there", False), ("back", True)):
        finished = trained("trainer.max_epochs=1", f"data.backwards={backwards}", f"hydra.run.dir={name}")
        assert finished.returncode == 0, finished.stderr
    there, back = (TrainedClassifier.load(tmp_path / name / "checkpoints" / "best.ckpt") for name in ("there", "back"))
    text = "a lovely film , great and fine ."
    tokens = back.vocabulary.encode(text).flip(0)
    with torch.no_grad():
        expected = back.model(tokens[None], torch.tensor([len(tokens)]))[0].softmax(-1)
    torch.testing.assert_close(classify([back], text), expected)
    both = (classify([there], text) + expected) / 2
    torch.testing.assert_close(classify([there, back], text), both)
    said = program("lm.classify", "there", "back", "-", input=text)
    assert said.stdout == f"-: {there.classes[int(both.argmax())]} {both.max():.3f}\n"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.train=none.csv", "none.csv: there is no such file"),
        ("data.label=kind", "reviews.jsonl: there is no column kind; choose from: text, label"),
        ("model.body=gru", "model.body=gru: must be one of: awd_lstm, awd_gru, qrnn, min_gru, min_lstm, mogrifier"),
        ("data.crop=0", "data.crop=0: must be a whole number, 1 or more, or null"),
        ("data=movie_reviews data.fold=10", "data.fold=10: must be one of: 0, 1, 2"),
    ],
)
def test_mistakes_are_answered_in_one_line(train, reviews_file, override, words):
    chosen = [] if override.startswith("data=") else ["data=documents", f"data.train={reviews_file}"]
    finished = train("model=classifier", *chosen, "hydra.run.dir=run", *override.split())
    assert finished.returncode != 0
    assert words in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_one_class_only_is_refused(train, tmp_path):
    (tmp_path / "one.csv").write_text("text,label\n" + "a fine film,good\n" * 50)
    finished = train("model=classifier", "data=documents", "data.train=one.csv", "hydra.run.dir=run")
    assert "every document is of the class good; there must be two or more" in finished.stderr
