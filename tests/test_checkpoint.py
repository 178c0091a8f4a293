"""A checkpoint is enough by itself, and loading one runs nothing."""

import os

import pytest
import torch

import lm.models
from lm.checkpoint import KEY, describe, load_model
from lm.data import Tokenizer, Vocabulary
from lm.errors import UserError


@pytest.fixture
def checkpoint():
    vocabulary = Vocabulary.build(["one", "two", "three"], Tokenizer("words", lower=True))
    settings = {"hidden_size": 16, "embedding_size": 8, "num_layers": 1}
    model = lm.models.GRU(vocab_size=len(vocabulary), **settings)
    return {
        "state_dict": {f"model.{key}": tensor for key, tensor in model.state_dict().items()},
        KEY: describe(model, settings, vocabulary, context=20, prompt="one two"),
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
