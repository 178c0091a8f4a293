"""An evaluation on other data has the vocabulary, labels and classes of the checkpoint, not those of the files."""

import json

import pytest
from helpers.samples import columns, reviews, sentences

from lm.documents.data import DocumentFiles, DocumentFilesText
from lm.language.data import TextFiles
from lm.tagging.data import TaggedFiles
from unroll.resume.checkpoint import difference

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 20
NAMES = ["word", "pos", "tag"]


@pytest.fixture
def files(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    documents = [{"text": text, "label": label} for text, label in reviews(80)]
    return {
        "text": write("a.txt", TEXT + "only the held-out end says Zanzibar " * 5),
        "more text": write("b.txt", "It was the epoch of Zanzibar, and the winter of despair. " * 20),
        "words": write("a.conll", columns(sentences(60)) + "\nZanzibar NN B-NP\n"),
        "more words": write("b.conll", columns([[("Zanzibar", "NN", "B-NP"), ("red", "XY", "O")], *sentences(40, 1)])),
        "documents": write("a.jsonl", "\n".join(map(json.dumps, documents))),
        "more documents": write("b.jsonl", json.dumps({"text": "Zanzibar is fine", "label": "good"})),
    }


TASKS = {
    "words of a text": ("text", TextFiles, {"bptt": 5, "batch_size": 2, "tokenizer": "words"},
                        {"tokenizer": "whitespace"}),
    "characters of a text": ("text", TextFiles, {"bptt": 5, "batch_size": 2, "tokenizer": "characters"},
                             {"lower": True}),
    "byte pairs of a text": ("text", TextFiles, {"bptt": 5, "batch_size": 2, "tokenizer": "bpe", "vocab_size": 300},
                             {"tokenizer": "words"}),
    "tags": ("words", TaggedFiles, {"columns": NAMES, "extra": ["pos"], "batch_size": 4}, {"lower": False}),
    "classes": ("documents", DocumentFiles, {"batch_size": 4}, {"tokenizer": "characters"}),
    "the text of documents": ("documents", DocumentFilesText, {"batch_size": 4}, {"lower": False}),
}  # fmt: skip


@pytest.mark.parametrize(("file", "module", "settings", "other"), TASKS.values(), ids=TASKS)
def test_a_checkpoint_is_evaluated_on_other_data_with_what_it_knows(files, file, module, settings, other):
    trained_on = module(train=files[file], **settings)
    description = trained_on.description()
    given = module(train=files[file], valid=files[f"more {file}"], **settings)
    assert difference(description, given.description(), module.meaning), "the files alone would make another vocabulary"

    given = module(train=files[file], valid=files[f"more {file}"], **settings)
    given.as_in(json.loads(json.dumps(description)))
    assert not difference(description, given.description(), module.meaning)
    assert given.model_arguments() == trained_on.model_arguments()
    assert len(list(given.valid.batches(0))) == len(given.valid) > 0

    otherwise = module(train=files[file], valid=files[f"more {file}"], **{**settings, **other})
    otherwise.as_in(description)
    assert difference(description, otherwise.description(), module.meaning), "what is typed is not overruled"


@pytest.mark.parametrize("module", [TextFiles, TaggedFiles, DocumentFiles])
def test_the_description_of_another_kind_of_data_is_left_to_the_comparison(files, module):
    settings = {TextFiles: {"bptt": 5, "batch_size": 2}, TaggedFiles: {"columns": NAMES}, DocumentFiles: {}}[module]
    file = {TextFiles: "text", TaggedFiles: "words", DocumentFiles: "documents"}[module]
    data = module(train=files[file], **settings)
    before = module(train=files[file], **settings).description()
    data.as_in({"mean": [0.0], "std": [1.0], "labels": [], "words": 3})
    assert data.description() == before
