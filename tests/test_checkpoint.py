"""A checkpoint is enough by itself, and loading one runs nothing."""

import copy
import os
from pickle import PicklingError

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import lm.language
import vision.models
from lm.language.checkpoint import TrainedLanguageModel
from lm.language.learner import LanguageModel
from lm.text import Tokenizer, Vocabulary
from unroll.errors import UserError
from unroll.resume.checkpoint import KEY, describe, read, write
from unroll.training.learner import NEEDED_TO_RESUME
from vision.checkpoint import TrainedImageClassifier
from vision.learner import ImageClassifier

VOCABULARY = Vocabulary.build(["one", "two", "three"], Tokenizer("words", lower=True))
SETTINGS = {"hidden_size": 16}
DATA = {
    "text": {
        "vocabulary": VOCABULARY.entries,
        "tokenizer": VOCABULARY.tokenizer.settings(),
        "context": 20,
        "prompt": "one two",
        "excerpt": "one two three",
    },
    "images": {"classes": ["cat", "dog"], "size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}
NAMED = {"text": "vocabulary", "images": "classes"}
LOAD = {"text": TrainedLanguageModel.load, "images": TrainedImageClassifier.load}


def build(kind):
    """A model and its metadata."""
    if kind == "text":
        arguments = {"vocab_size": len(VOCABULARY), **SETTINGS}
        model = lm.language.GRU(**arguments)
    else:
        arguments = {"classes": 2, **SETTINGS}
        model = vision.models.SimpleNet(**arguments)
    return model, describe(model, arguments, copy.deepcopy(DATA[kind]))


@pytest.fixture(params=["text", "images"])
def kind(request):
    return request.param


@pytest.fixture
def load_model(kind):
    return LOAD[kind]


@pytest.fixture
def checkpoint(kind):
    model, metadata = build(kind)
    return {"state_dict": {f"model.{key}": tensor for key, tensor in model.state_dict().items()}, KEY: metadata}


@pytest.fixture
def saved(tmp_path):
    def save(content):
        path = tmp_path / "some.ckpt"
        torch.save(content, path)
        return path

    return save


def test_the_model_comes_back(checkpoint, saved, load_model):
    model = load_model(saved(checkpoint)).model
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, checkpoint["state_dict"][f"model.{key}"])
    assert not model.training


@pytest.mark.parametrize("kind", ["text"], indirect=True)
def test_so_does_what_it_speaks(checkpoint, saved, load_model):
    loaded = load_model(saved(checkpoint))
    vocabulary, context, prompt = loaded.vocabulary, loaded.context, loaded.prompt
    assert (context, prompt) == (20, "one two")
    assert vocabulary.textify(vocabulary.encode("THREE one")) == "three one"


@pytest.mark.parametrize("kind", ["images"], indirect=True)
def test_so_do_the_names_of_its_classes_and_what_pixels_are_normalised_by(checkpoint, saved, load_model):
    loaded = load_model(saved(checkpoint))
    assert loaded.classes == ["cat", "dog"]
    module = ImageClassifier(loaded.model, loaded.mean, loaded.std)
    pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(loaded.normalise(pixels), module.inputs((pixels, None))[0])


def test_one_of_the_other_kind_is_refused(kind, checkpoint, saved):
    (other,) = set(LOAD) - {kind}
    with pytest.raises(UserError, match="is not one of"):
        LOAD[other](saved(checkpoint))


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch touched",)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(checkpoint, saved, load_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="read safely"):
        load_model(saved({**checkpoint, "more": RunsCode()}))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["os.system", "system", "torch", "__loader__", "human_numbers", "ladder"])
def test_only_our_own_models_are_built(checkpoint, saved, load_model, name):
    checkpoint[KEY]["model"]["name"] = name
    with pytest.raises(UserError, match="is not one of"):
        load_model(saved(checkpoint))


def change(path, value):
    """A change to a checkpoint; "named" is its vocabulary or its classes."""

    def apply(checkpoint, kind):
        *parents, last = (NAMED[kind] if key == "named" else key for key in path)
        for key in parents:
            checkpoint = checkpoint[key]
        if value is None:
            del checkpoint[last]
        else:
            checkpoint[last] = value

    return apply


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change([KEY], None), "not a checkpoint of this project"),
        (change([KEY, "model"], None), "not a checkpoint of this project"),
        (change(["state_dict"], None), "not a checkpoint of this project"),
        (change([KEY, "format_version"], 99), "format version 99"),
        (change([KEY, "format_version"], 2), r"another version of this project \(format version 2; this one reads 3\)"),
        (change([KEY, "data", "named"], ["one"]), "do not fit"),
        (change([KEY, "data"], None), "not a checkpoint of this project"),
        (change([KEY, "model", "arguments", "hidden_size"], 17), "do not fit"),
        (change([KEY, "model", "arguments", "depth"], 17), "do not fit"),
        (change([KEY, "model", "arguments", "_target_"], "os.system"), "do not fit"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(kind, checkpoint, saved, load_model, damage, words):
    damage(checkpoint, kind)
    with pytest.raises(UserError, match=words) as caught:
        load_model(saved(checkpoint))
    assert "\n" not in str(caught.value)


class Mine(nn.Module):
    """A model of the user's own."""

    def __init__(self, hidden_size, vocab_size=0, classes=0):
        super().__init__()
        self.head = nn.Linear(hidden_size, vocab_size or classes)


def test_a_model_of_ones_own_is_built_from_the_class_that_the_caller_gives(kind, checkpoint, saved, load_model):
    arguments = checkpoint[KEY]["model"]["arguments"]
    mine = Mine(**arguments)
    checkpoint["state_dict"] = {f"model.{key}": tensor for key, tensor in mine.state_dict().items()}
    checkpoint[KEY]["model"]["name"] = "Mine"
    path = saved(checkpoint)
    with pytest.raises(UserError, match=r"load\(path, model=Mine\)"):
        load_model(path)
    assert torch.equal(load_model(path, model=Mine).model.head.weight, mine.head.weight)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, saved, load_model):
    text = tmp_path / "text.ckpt"
    text.write_text("eight thousand one")
    for path in (text, tmp_path / "missing.ckpt", saved([1, 2])):
        with pytest.raises(UserError, match=path.name):
            load_model(path)


class TestResuming:
    """What a run finds out about a checkpoint before it goes on from it."""

    @pytest.fixture
    def module(self, kind, checkpoint):
        model, metadata = build(kind)
        if kind == "text":
            module = LanguageModel(model, metadata=metadata)
        else:
            module = ImageClassifier(model, *(metadata["data"][name] for name in ("mean", "std")), metadata=metadata)
        module.trainer = pl.Trainer(logger=False, accelerator="cpu", barebones=True)
        none = {"current": {"completed": 0}}
        progress = {"epoch_progress": none, "epoch_loop.batch_progress": none}
        checkpoint.update({key: [1] for key in NEEDED_TO_RESUME[1:]}, loops={"fit_loop": progress})
        return module

    def test_the_runs_own_is_taken(self, module, checkpoint):
        module.on_load_checkpoint(checkpoint)
        assert module.resumed == 1

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (change([KEY, "format_version"], 99), "format version 99"),
            (
                lambda c, kind: (c[KEY].update(format_version=2), c.pop("progress")),
                "format version 2; this one reads 3",
            ),
            (change([KEY, "model", "arguments", "hidden_size"], 17), "another model"),
            (change([KEY, "model", "arguments", "_target_"], "os.system"), "another model"),
            (change([KEY, "data", "named"], ["one"]), "differ in their (vocabulary|classes)"),
            (change([KEY, "data", "named"], None), "differ in their (vocabulary|classes)"),
            (change([KEY, "data"], None), "not a checkpoint of this project"),
            (change([KEY], None), "not a checkpoint of this project"),
            (change(["optimizer_states"], None), "it has no optimizer_states"),
            (change(["loops"], None), "it has no loops"),
            (change(["loops", "fit_loop"], {}), "it has no loops"),
            (change(["progress"], None), "it has no progress"),
        ],
    )
    def test_another_is_refused(self, kind, module, checkpoint, damage, words):
        damage(checkpoint, kind)
        with pytest.raises(UserError, match=words):
            module.on_load_checkpoint(checkpoint)

    @pytest.mark.parametrize(
        ("kind", "path", "value", "words"),
        [
            ("text", [KEY, "data", "tokenizer", "lower"], False, "differ in their tokenizer"),
            ("text", [KEY, "data", "tokenizer"], None, "differ in their tokenizer"),
            ("images", [KEY, "data", "mean"], [0.0, 0.0, 0.0], "differ in their mean"),
        ],
        indirect=["kind"],
    )
    def test_so_is_one_that_read_the_data_in_another_way(self, kind, module, checkpoint, path, value, words):
        change(path, value)(checkpoint, kind)
        with pytest.raises(UserError, match=words):
            module.on_load_checkpoint(checkpoint)


class TestWrite:
    def test_the_file_is_whole_or_the_one_before(self, tmp_path):
        path = tmp_path / "folder" / "some.ckpt"
        write({"weights": torch.ones(3)}, path)
        with pytest.raises((AttributeError, PicklingError), match=r"pickle|local object"):
            write({"weights": torch.zeros(3), "not to be written": lambda: 0}, path)
        assert torch.equal(read(path)["weights"], torch.ones(3))
        assert list(path.parent.iterdir()) == [path]

    def test_a_folder_that_cannot_be_written_to_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/some.ckpt: the checkpoint can't be written \(.*\)$"):
            write({}, tmp_path / "file" / "some.ckpt")
