"""The Penn Treebank: tokens, vocabulary and splits as the field has them. (The text itself can't be in the tests.)"""

import re
import zipfile

import pytest
from helpers.processes import ROOT

from lm.language.data import TextFiles
from lm.language.penn import PennTreebank
from lm.text.tokenizers import Tokenizer
from lm.text.vocabulary import Vocabulary
from unroll.errors import UserError

CORPUS = ROOT.parent / "shared" / "data" / "ptb.zip"
PARTS = {
    "train": " the <unk> did n't say \n the u.s. & co. N \n" * 40,
    "valid": " the u.s. did \n <unk> say \n" * 5,
    "test": " co. did n't \n" * 6,
}


@pytest.fixture(params=["folder", "archive"])
def path(request, tmp_path):
    files = {f"ptb.{name}.txt": text for name, text in PARTS.items()}
    if request.param == "folder":
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return tmp_path
    with zipfile.ZipFile(tmp_path / "ptb.zip", "w") as archive:
        archive.writestr("__MACOSX/._ptb.train.txt", "none of this")
        for name, text in files.items():
            archive.writestr(f"simple-examples/data/{name}", text)
    return tmp_path / "ptb.zip"


def data(path, **settings):
    return PennTreebank(str(path), **{"bptt": 5, "batch_size": 2, **settings})


def test_the_vocabulary_is_that_of_the_text_frequent_words_first(path):
    vocabulary = data(path).vocabulary
    assert vocabulary.entries[:2] == ["<eos>", "the"]
    assert set(vocabulary.entries) == {"the", "<unk>", "did", "n't", "say", "<eos>", "u.s.", "&", "co.", "N"}
    assert vocabulary.entries[vocabulary.unknown_id] == "<unk>"
    assert vocabulary.decode(vocabulary.encode("the board did\n")) == ["the", "<unk>", "did", "<eos>"]


def test_every_line_ends_in_a_token_that_counts(path):
    whole = data(path)
    assert whole.vocabulary.textify(whole.valid.layout.sequence[:7]) == "the u.s. did <eos> <unk> say <eos>"
    assert whole.valid.layout.num_targets == 5 * 7 - 1


def test_the_test_part_is_read_when_it_is_asked_for(path):
    ids = data(path, split="test").valid.layout.sequence
    assert data(path).vocabulary.textify(ids[:4]) == "co. did n't <eos>"


def test_a_folder_without_the_parts_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no ptb.train.txt; give ptb.zip or the folder"):
        data(tmp_path).encoded  # noqa: B018


def test_a_text_of_ones_own_that_is_split_already(tmp_path):
    for name, text in PARTS.items():
        (tmp_path / name).write_text(text)
    settings = {"tokenizer": "whitespace", "bptt": 5, "batch_size": 2}
    train, valid, test = (str(tmp_path / name) for name in PARTS)
    mine = TextFiles(train, valid, test, split="test", **settings)
    assert mine.vocabulary.textify(mine.valid.layout.sequence[:4]) == "co. did n't <eos>"
    with pytest.raises(UserError, match=r"data.split=test: there is no test part"):
        TextFiles(train, valid, split="test", **settings)


def test_rare_words_of_a_text_that_marks_its_unknown_words_are_marked_too():
    counts = {"<unk>": 9, "the": 5, "board": 1}
    vocabulary = Vocabulary.of_counts(counts, Tokenizer("whitespace"), min_freq=2)
    assert vocabulary.entries == ["<unk>", "the"]
    assert vocabulary.decode(vocabulary.encode("the board")) == ["the", "<unk>"]


@pytest.mark.skipif(not CORPUS.exists(), reason="the Penn Treebank is LDC's; it is tested where there is a copy")
class TestTheCorpus:
    def test_its_counts_are_those_of_the_literature(self):
        whole, test = data(CORPUS), data(CORPUS, split="test")
        assert len(whole.vocabulary) == 10_000
        assert [len(ids) for ids in (whole.encoded.train, whole.encoded.valid, test.encoded.valid)] == [
            *(929_589, 73_760, 82_430),
        ]

    @pytest.mark.slow
    def test_the_sum_over_a_split_is_the_same_for_every_batch_size(self, train):
        """Rows begin from zeros, so only the first words of each can differ."""
        ptb = ["data=ptb", f"data.path={CORPUS}", "model=awd_lstm", "model.embedding_size=16", "model.hidden_size=16"]
        trained = train(*ptb, "trainer.limit_train_batches=60", "trainer.max_epochs=1", "hydra.run.dir=run")
        assert trained.returncode == 0, trained.stderr

        def loss(batch_size):
            answer = train("task=evaluate", "ckpt=run", f"data.batch_size={batch_size}", "data.bptt=200")
            metrics = dict(line.split() for line in answer.stdout.splitlines())
            assert metrics["valid/tokens"] == "73,759"
            return float(re.sub(",", "", metrics["valid/loss"]))

        assert [loss(10), loss(80)] == pytest.approx([loss(1)] * 2, rel=1e-3)
