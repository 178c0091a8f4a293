"""Tiny Shakespeare: split and numbered as nanoGPT does."""

import hashlib

import pytest
import torch
from conftest import ROOT
from helpers.configuration import composed
from hydra.utils import instantiate

CORPUS = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"

needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the real text is not beside this checkout")


def built(name, *overrides):
    config = composed(f"data={name}", *overrides).data
    return instantiate({key: value for key, value in config.items() if key != "gives"} | {"seed": 0})


@needs_corpus
def test_it_is_the_file_that_the_configuration_names():
    assert hashlib.sha256(CORPUS.read_bytes()).hexdigest() == composed("data=shakespeare").data.sha256


@needs_corpus
def test_the_ids_of_both_splits_are_those_of_nanogpt():
    text = CORPUS.read_text()
    data = built("shakespeare", f"data.path={CORPUS}")
    ids = {character: number for number, character in enumerate(sorted(set(text)))}
    theirs = torch.tensor([ids[character] for character in text])
    cut = int(len(text) * 0.9)
    assert len(ids) == 65
    ours = [data.vocabulary.entries.index(character) for character in ids]
    assert sorted(ours) == ours
    for split, expected in (("train", theirs[:cut]), ("valid", theirs[cut:])):
        assert torch.equal(getattr(data.encoded, split), torch.tensor(ours)[expected])


def test_a_recipe_is_searched_for_on_the_training_part_alone(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + number * number % 26) for number in range(1000)))
    lesson, search = (built(f"shakespeare{part}", f"data.path={path}") for part in ("", "_search"))
    both = torch.cat([search.encoded.train, search.encoded.valid])
    assert torch.equal(both, lesson.encoded.train)
    assert len(search.encoded.valid) == 90


@pytest.mark.parametrize("shares", ["[0.9,0.1]", "[0,2]", "half"])
def test_a_split_that_is_none_is_answered_in_one_line(train, shares, tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be " * 100)
    finished = train("data=shakespeare", "data.path=text.txt", f"data.characters.valid={shares}")
    assert finished.returncode == 1
    given = f"data.characters.valid={shares.replace(',', ', ')}"
    assert finished.stderr.splitlines() == [f"error: {given}: must be two rising shares from 0 to 1, as in [0,0.8]"]


@pytest.mark.parametrize("tokenizer", ["characters", "words"])
def test_a_character_that_was_not_in_training_is_answered_in_one_line(train, tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be " * 100 + "? " * 100)
    finished = train("data=shakespeare", "data.path=text.txt", f"data.tokenizer={tokenizer}")
    assert finished.returncode == 1
    message = "'?' does not occur in the training split, and data.unknown=false has no token for it"
    assert finished.stderr.splitlines() == [f"error: {message}"]
