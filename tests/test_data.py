"""Text in, ids out: the corpora, the tokenizers, the vocabulary and the data modules."""

import pytest
import torch
from helpers.configuration import composed
from omegaconf import OmegaConf

from lm.language.corpora import human_numbers
from lm.language.data import HumanNumbers, TextFiles
from lm.text import Tokenizer, Vocabulary
from unroll.errors import UserError


@pytest.fixture(scope="module")
def numbers():
    data = HumanNumbers(bptt=70, batch_size=64)
    return data


class TestHumanNumbers:
    def test_the_texts_begin_and_end_as_the_lessons_do(self):
        train, valid = human_numbers()
        assert train.startswith("xxbos one , two , three , four")
        assert train.endswith(", seven thousand nine hundred ninety nine")
        assert valid.startswith("xxbos eight thousand one , eight thousand two")
        assert valid.endswith("nine thousand nine hundred ninety eight , nine thousand nine hundred ninety nine")

    def test_validation_can_have_rows_of_its_own_number(self):
        data = HumanNumbers(bptt=70, batch_size=32, valid_batch_size=64)
        assert [next(iter(split)).inputs.size(0) for split in (data.train, data.valid)] == [32, 64]
        windows = HumanNumbers(bptt=70, batch_size=32, valid_batch_size=8, layout="windows")
        assert [next(iter(split)).inputs.size(0) for split in (windows.train, windows.valid)] == [32, 8]

    def test_the_lessons_counts(self, numbers):
        assert len(numbers.train.layout.sequence) == 50_079
        assert len(numbers.valid.layout.sequence) == 13_017
        words = set(numbers.vocabulary.entries) - {"xxunk", "xxpad", "xxbos"}
        assert len(words) == 30
        assert "," in words

    def test_a_recipe_is_searched_for_on_the_training_numbers_alone(self):
        split = OmegaConf.to_container(composed("data=human_numbers_search").data)
        data = HumanNumbers(numbers=split["numbers"], bptt=70, batch_size=64)
        train, valid = (data.vocabulary.textify(stream.layout.sequence) for stream in (data.train, data.valid))
        assert f"{train} , seven thousand , {valid.removeprefix('xxbos ')}" == human_numbers()[0]

    def test_the_lessons_first_windows(self, numbers):
        textify = numbers.vocabulary.textify
        (x1, y1, *_), (x2, *_), *_ = numbers.valid
        assert textify(x1[0]).startswith("xxbos eight thousand one , eight thousand two , eight")
        assert textify(y1[0]).startswith("eight thousand one , eight thousand two , eight")
        assert textify(x2[0]).startswith("thousand eighteen , eight thousand nineteen")
        assert len(numbers.valid) == 3 + 1  # 204 = 70 + 70 + 64; the last row ends within the third window


class TestTokenizer:
    def test_characters_come_back_exactly(self):
        text = "PREFACE\n\nSUPPOSING  that\tTruth is a woman--what then?"
        tokenizer = Tokenizer("characters")
        assert tokenizer.join(tokenizer.split(text)) == text

    def test_words_and_marks_are_apart(self):
        split = Tokenizer("words", lower=True).split("Don't stop -- it's 9 o'clock, <unk>!")
        assert split == ["don't", "stop", "-", "-", "it's", "9", "o'clock", ",", "<unk>", "!"]

    def test_another_name_is_refused_with_the_choices(self):
        with pytest.raises(UserError, match="characters, words"):
            Tokenizer("bytes")


class TestVocabulary:
    def vocabulary(self, **settings):
        return Vocabulary.build(["b", "a", "b", "c"], Tokenizer("words"), **settings)

    def test_decode_undoes_encode(self):
        vocabulary = self.vocabulary()
        assert vocabulary.decode(vocabulary.encode("a b c")) == ["a", "b", "c"]
        assert vocabulary.textify(vocabulary.encode("a b c")) == "a b c"

    def test_entries_are_the_specials_then_sorted_words(self):
        assert self.vocabulary().entries == ["xxunk", "xxpad", "a", "b", "c"]

    def test_words_of_a_text_are_in_the_order_of_frequency(self, tmp_path):
        (tmp_path / "text").write_text("c b a c b c d d . . . .")
        path = str(tmp_path / "text")
        data = TextFiles(path, path, tokenizer="words", min_freq=1, bptt=2, batch_size=1)
        assert data.vocabulary.entries == ["xxunk", "xxpad", ".", "c", "b", "d", "a"]

    def test_rare_and_unseen_words_are_unknown(self):
        vocabulary = self.vocabulary(min_freq=2)
        assert vocabulary.decode(vocabulary.encode("a b d")) == ["xxunk", "b", "xxunk"]


class TestTextFiles:
    @pytest.fixture
    def file(self, tmp_path):
        def write(name, content):
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            return str(path)

        return write

    def data(self, train, **settings):
        data = TextFiles(train, **{"tokenizer": "characters", "bptt": 4, "batch_size": 2, **settings})
        assert len(data.train) + len(data.valid) >= 2  # both are read
        return data

    def test_backwards_it_is_read_from_the_end(self, file):
        path = str(file("a.txt", "one two three one two"))
        settings = {"tokenizer": "words", "min_freq": 1, "bptt": 2, "batch_size": 1}
        forwards, backwards = TextFiles(path, path, **settings), TextFiles(path, path, backwards=True, **settings)
        assert torch.equal(backwards.encoded.train, forwards.encoded.train.flip(0))
        assert torch.equal(backwards.encoded.valid, forwards.encoded.valid.flip(0))
        assert (forwards.description()["backwards"], backwards.description()["backwards"]) == (False, True)

    def test_one_file_is_split_at_its_end(self, file):
        data = self.data(file("a.txt", "0123456789" * 10), valid_fraction=0.2)
        assert data.vocabulary.textify(data.train.layout.sequence) == "0123456789" * 8
        assert data.vocabulary.textify(data.valid.layout.sequence) == "0123456789" * 2

    def test_the_vocabulary_is_the_training_files_alone(self, file):
        data = self.data(file("a.txt", "abcabc"), valid=file("b.txt", "abcd"))
        assert data.vocabulary.entries == ["xxunk", "xxpad", "a", "b", "c"]
        assert data.vocabulary.decode(data.valid.layout.sequence) == ["a", "b", "c", "xxunk"]

    def test_lower_and_min_freq(self, file):
        data = self.data(file("a.txt", "AaAbbc"), valid=file("b.txt", "ABC"), lower=True, min_freq=2)
        assert data.vocabulary.entries == ["xxunk", "xxpad", "a", "b"]
        assert data.vocabulary.decode(data.valid.layout.sequence) == ["a", "b", "xxunk"]

    def test_a_byte_order_mark_is_not_text(self, file):
        assert (
            "\ufeff" not in self.data(file("a.txt", b"\xef\xbb\xbfabcabcabcabc" * 1), valid_fraction=0.4).vocabulary.ids
        )

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "the file is empty"),
            (b" \n \n", "the file is empty"),
            (b"\x7fELF\xff\xfe\x00", "not UTF-8 text"),
            (b"abc\x00def", "NUL"),
            (
                b"a",
                r"a.txt: is too short for data.valid_fraction=0.1, which sets \d of its 1 tokens aside; give a longer",
            ),
            (b"hello world\n", "sets 1 of its 12 tokens aside; give a longer text, or another for validation"),
        ],
    )
    def test_a_file_without_text_is_refused(self, file, content, words):
        with pytest.raises(UserError, match=words):
            self.data(file("a.txt", content))

    @pytest.mark.parametrize(("content", "rows"), [("abc", 1), ("ab" * 5, 2), ("ab" * 16, 31)])
    def test_a_text_for_validation_may_be_short(self, file, content, rows):
        data = self.data(file("a.txt", "abcabc"), valid=file("b.txt", content), valid_batch_size=31)
        assert data.valid.batch_size == rows
        assert sum(int(window.full_mask.sum()) for window in data.valid) == len(content) - 1

    def test_a_column_is_for_data_sets(self, file):
        with pytest.raises(UserError, match=r"data.column=body: is for data sets of Hugging Face, hf:FOLDER; texts in"):
            self.data(file("a.csv", "id,body\n1,abc\n"), column="body")

    def test_a_missing_file_or_a_folder_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="no such file"):
            self.data(str(tmp_path / "none.txt"))
        with pytest.raises(UserError, match="cannot be read"):
            self.data(str(tmp_path))

    def test_a_validation_file_of_unknown_words_is_refused(self, file):
        with pytest.raises(UserError, match="validation split: none of its 3 tokens"):
            self.data(file("a.txt", "abcabc"), valid=file("b.txt", "xyz"))
