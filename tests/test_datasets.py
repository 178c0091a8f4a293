"""Data sets of Hugging Face as the input of each task; `tests/test_tables.py` has their tables and token columns."""

import io

import numpy
import pytest
from PIL import Image

from lm.language.data import TextFiles
from lm.tagging.data import TaggedFiles
from reading.datasets import load
from unroll.errors import UserError
from vision.data.data_modules import ImageFiles

datasets = pytest.importorskip("datasets")


@pytest.fixture
def saved(tmp_path):
    """Saves columns as a data set, or as one with splits, and names it."""

    def save(*splits, **features):
        kinds = datasets.Features(features)
        made = [datasets.Dataset.from_dict(columns, features=kinds) for columns in splits]
        names = ("train", "validation", "test")
        whole = made[0] if len(made) == 1 else datasets.DatasetDict(dict(zip(names, made, strict=False)))
        whole.save_to_disk(tmp_path / "set")
        return f"hf:{tmp_path / 'set'}"

    return save


class TestText:
    TRAIN, VALID = {"text": ["Ein Text.\n", "", "zwei"], "n": [1, 2, 3]}, {"text": ["Text"], "n": [1]}

    def data(self, path, tmp_path, **settings):
        given = {"bptt": 2, "batch_size": 1, "tokenizer": "characters", "cache": str(tmp_path / "cache"), **settings}
        return TextFiles(path, **given)

    def test_each_text_ends_a_line(self, saved, tmp_path):
        path = saved(self.TRAIN, self.VALID, text=datasets.Value("string"), n=datasets.Value("int64"))
        encoded = self.data(path, tmp_path, valid=path).encoded
        assert encoded.vocabulary.textify(encoded.train) == "Ein Text.\n\nzwei\n"
        assert encoded.vocabulary.textify(encoded.valid) == "Text\n"

    @pytest.mark.parametrize(
        ("column", "message"),
        [("n", "row 0: the column n holds int, not text"), ("body", "no column body; choose one of text, n: data.col")],
    )
    def test_another_column(self, saved, tmp_path, column, message):
        path = saved(self.TRAIN, text=datasets.Value("string"), n=datasets.Value("int64"))
        with pytest.raises(UserError, match=message):
            self.data(path, tmp_path, column=column).summary()


class TestTags:
    def data(self, save, tags, names=("O", "B-PER", "I-PER"), **settings):
        words = [["Ann", "Lee", "ran"], [], ["Hi", "Bo"]]
        rows = {"id": ["0", "1", "2"], "tokens": words, "ner_tags": tags, "pos": [["N", "N", "V"], [], ["I", "N"]]}
        strings = datasets.List(datasets.Value("string"))
        labels = datasets.List(datasets.ClassLabel(names=list(names)))
        path = save(rows, id=datasets.Value("string"), tokens=strings, ner_tags=labels, pos=strings)
        return TaggedFiles(**{"train": path, "columns": None, "valid_fraction": 0.5, "batch_size": 1, **settings})

    def test_a_row_is_a_sentence_and_numbers_of_labels_are_their_names(self, saved):
        splits = self.data(saved, [[1, 2, 0], [], [0, 1]], label="ner_tags", extra=["pos"]).splits
        assert splits.train == [[["Ann", "B-PER", "N"], ["Lee", "I-PER", "N"], ["ran", "O", "V"]]]
        assert splits.valid == [[["Hi", "O", "I"], ["Bo", "B-PER", "N"]]]

    @pytest.mark.parametrize(
        ("tags", "settings", "message"),
        [
            ([[1, 2, 0], [], [0, 1]], {}, "there is no column tag; data.word, .* choose .*: tokens, ner_tags, pos"),
            ([[1, 2], [], [0, 1]], {"label": "ner_tags"}, "row 0: has 3 tokens, 2 ner_tags; each word needs a value"),
            ([[1, 2, 0], [], [0, None]], {"label": "ner_tags"}, "row 2: a word or label is missing"),
            ([[1, 2, 0], [], [0, 1]], {"columns": ["word", "tag"]}, "leave data.columns out, and say data.label="),
        ],
    )
    def test_what_is_refused(self, saved, tags, settings, message):
        with pytest.raises(UserError, match=message):
            self.data(saved, tags, **settings).summary()


class TestImages:
    def rows(self, shades, labels):
        def png(shade):
            file = io.BytesIO()
            Image.fromarray(numpy.full((8, 8), shade, numpy.uint8)).save(file, "png")
            return {"bytes": file.getvalue(), "path": None}

        return {"image": [None if shade is None else png(shade) for shade in shades], "label": labels}

    def data(self, path, tmp_path, **settings):
        given = {"batch_size": 1, "pad": 0, "flip": False, "size": 8, "cache": str(tmp_path / "cache"), **settings}
        return ImageFiles(path=path, **given)

    def test_images_and_classes(self, saved, tmp_path):
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        train = self.rows([10, 200, None, 30], [0, 1, 0, None])
        path = saved(train, self.rows([20, 220], [0, 1]), **features)
        for _ in range(2):  # from the cache as well
            made = self.data(path, tmp_path)
            assert made.splits.train.pixels[:, 0, 0, 0].tolist() == [10, 200]
            assert (made.splits.valid.labels.tolist(), made.splits.classes) == ([0, 1], ["cat", "dog"])
            assert f"as they have no class: 1 ({path}, row 3)" in made.summary()
            assert f"as the data set has no image there: 1 ({path}, row 2)" in made.summary()

    @pytest.mark.parametrize(
        ("rows", "features", "message"),
        [
            ({"x": ["a"]}, {"x": datasets.Value("string")}, "needs a column image with images and a column label"),
            (None, {"image": datasets.Image(), "label": datasets.Value("string")}, "images of two classes at least"),
        ],
    )
    def test_what_is_refused(self, saved, tmp_path, rows, features, message):
        with pytest.raises(UserError, match=message):
            self.data(saved(rows or self.rows([1], ["cat"]), **features), tmp_path).summary()


@pytest.mark.parametrize("settings", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.csv", "zip://a.csv::http://127.0.0.1:9/a.zip"])
def test_a_folder_does_not_say_what_is_downloaded(tmp_path, monkeypatch, settings, address):
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments: pytest.fail("it would be downloaded"))
    header = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {address}\n"
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / settings).write_text(f"---\n{header}---\n" if settings == "README.md" else header)
    with pytest.raises(UserError, match="its settings name files elsewhere; nothing is downloaded"):
        load(f"hf:{tmp_path}", "train")
