"""A checkpoint is enough by itself, and loading one runs nothing."""

import os

import pytest
import pytorch_lightning as pl
import torch

import lm.models
from lm.checkpoint import load_model
from lm.data import Tokenizer, Vocabulary
from lm.module import LanguageModel
from training.checkpoint import KEY, describe, read, write
from training.errors import UserError
from training.module import NEEDED_TO_RESUME


def description(vocabulary):
    tokenizer = vocabulary.tokenizer.settings()
    return {"vocabulary": vocabulary.entries, "tokenizer": tokenizer, "context": 20, "prompt": "one two"}


@pytest.fixture
def checkpoint():
    vocabulary = Vocabulary.build(["one", "two", "three"], Tokenizer("words", lower=True))
    settings = {"hidden_size": 16, "embedding_size": 8, "num_layers": 1}
    model = lm.models.GRU(vocab_size=len(vocabulary), **settings)
    return {
        "state_dict": {f"model.{key}": tensor for key, tensor in model.state_dict().items()},
        KEY: describe(model, settings, description(vocabulary)),
    }


@pytest.fixture
def saved(tmp_path):
    def save(content):
        path = tmp_path / "some.ckpt"
        torch.save(content, path)
        return path

    return save


def test_the_model_and_its_vocabulary_come_back(checkpoint, saved):
    model, vocabulary, context, prompt = load_model(saved(checkpoint))
    assert (context, prompt) == (20, "one two")
    assert vocabulary.textify(vocabulary.encode("THREE one")) == "three one"
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, checkpoint["state_dict"][f"model.{key}"])
    assert not model.training


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch touched",)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(checkpoint, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="read safely"):
        load_model(saved({**checkpoint, "more": RunsCode()}))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["os.system", "system", "torch", "__loader__", "human_numbers"])
def test_only_models_of_lm_models_are_built(checkpoint, saved, name):
    checkpoint[KEY]["model"]["name"] = name
    with pytest.raises(UserError, match="is not one of"):
        load_model(saved(checkpoint))


def change(path, value):
    def apply(checkpoint):
        *parents, last = path
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
        (change([KEY, "vocabulary"], ["one"]), "do not fit"),
        (change([KEY, "model", "settings", "hidden_size"], 17), "do not fit"),
        (change([KEY, "model", "settings", "depth"], 17), "do not fit"),
        (change([KEY, "model", "settings", "_target_"], "os.system"), "do not fit"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(checkpoint, saved, damage, words):
    damage(checkpoint)
    with pytest.raises(UserError, match=words) as caught:
        load_model(saved(checkpoint))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, saved):
    text = tmp_path / "text.ckpt"
    text.write_text("eight thousand one")
    for path in (text, tmp_path / "missing.ckpt", saved([1, 2])):
        with pytest.raises(UserError, match=path.name):
            load_model(path)


class TestResuming:
    """What a run finds out about a checkpoint before it goes on from it."""

    @pytest.fixture
    def module(self, checkpoint):
        vocabulary = Vocabulary.build(["one", "two", "three"], Tokenizer("words", lower=True))
        settings = {"hidden_size": 16, "embedding_size": 8, "num_layers": 1}
        model = lm.models.GRU(vocab_size=len(vocabulary), **settings)
        module = LanguageModel(model, metadata=describe(model, settings, description(vocabulary)))
        module.trainer = pl.Trainer(logger=False, accelerator="cpu", barebones=True)
        checkpoint.update({key: [1] for key in NEEDED_TO_RESUME[1:]}, loops={"fit_loop": {"epoch_progress": {}}})
        return module

    def test_the_runs_own_is_taken(self, module, checkpoint):
        module.on_load_checkpoint(checkpoint)
        assert module.resumed == 1

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (change([KEY, "format_version"], 99), "format version 99"),
            (change([KEY, "model", "settings", "hidden_size"], 17), "another model"),
            (change([KEY, "model", "settings", "_target_"], "os.system"), "another model"),
            (change([KEY, "vocabulary"], ["one"]), "another vocabulary"),
            (change([KEY, "tokenizer", "lower"], False), "another tokenizer"),
            (change([KEY, "tokenizer"], None), "not one of this project"),
            (change([KEY], None), "not one of this project"),
            (change(["optimizer_states"], None), "it has no optimizer_states"),
            (change(["loops"], None), "it has no loops"),
            (change(["loops", "fit_loop"], {}), "it has no loops"),
            (change(["progress"], None), "it has no progress"),
            (change(["progress"], [1, 2]), "of 2 processes; resume it with trainer.devices=2"),
        ],
    )
    def test_another_is_refused(self, module, checkpoint, damage, words):
        damage(checkpoint)
        with pytest.raises(UserError, match=words):
            module.on_load_checkpoint(checkpoint)


class TestWrite:
    def test_the_file_is_whole_or_the_one_before(self, tmp_path):
        path = tmp_path / "folder" / "some.ckpt"
        write({"weights": torch.ones(3)}, path)
        with pytest.raises(AttributeError):
            write({"weights": torch.zeros(3), "not to be written": lambda: 0}, path)
        assert torch.equal(read(path)["weights"], torch.ones(3))
        assert list(path.parent.iterdir()) == [path]

    def test_a_folder_that_cannot_be_written_to_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/some.ckpt: the checkpoint can't be written \(.*\)$"):
            write({}, tmp_path / "file" / "some.ckpt")
