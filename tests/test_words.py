"""Words of any script, by Unicode's word boundaries; those of English stay as the lessons split them."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.language.data import TextFiles
from lm.text import Tokenizer, Vocabulary
from lm.text.words import WORD

LESSONS = re.compile(r"<\w+>|\w+(?:['’]\w+)*|[^\w\s]")  # right for text without combining marks

# words of a script, separated by blanks
SCRIPTS = {
    "Hindi": "भारत में नई रेल चलेगी ।",
    "Hindi with joiners": "क्\u200dष राजा",
    "Tamil": "தமிழ் மொழி",
    "Sinhala": "ශ්\u200dරී ලංකා",
    "Arabic with vowels": "كِتَابٌ جَدِيدٌ",
    "Persian": "می\u200cخواهم بروم",
    "Hebrew with points": "עִבְרִית צה״ל",
    "accents apart": unicodedata.normalize("NFD", "José est allé à l'été"),
    "Vietnamese apart": unicodedata.normalize("NFD", "Tiếng Việt"),
    "Korean": "한국어 단어",
    "Korean apart": unicodedata.normalize("NFD", "한국어 단어"),
    "Catalan": "col·lega",
    "soft hyphens": "co\u00adop\u00aderate",
    "Katakana": "カタカナ ラーメン",
    "emoji": "👍🏽 👩‍👩‍👧 🇩🇪 ❤️ 1️⃣ 🏴\U000e0067\U000e0062\U000e007f ⚽️",
    "apostrophes": "don't don’t l'été",
    "markers": "<unk> <bos>",
}
SPLIT = {
    "Chinese": ("北京很大", "北 京 很 大"),
    "Japanese": ("ひらカタ字", "ひ ら カタ 字"),
    "Thai": ("ไทย ที่", "ไ ท ย ที่"),
    "Khmer": ("ខ្មែរ", "ខ្ មែ រ"),
    "flags": ("🇩🇪🇫🇷", "🇩🇪 🇫🇷"),
    "numbers and addresses": ("3.14 a.org x-y", "3 . 14 a . org x - y"),
    "quotation": ("'tis «oui» …", "' tis « oui » …"),
    "direction": ("\u200fשלום", "\u200f שלום"),
}


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_marks_stay_with_their_letters(text):
    assert WORD.findall(text) == text.split(" ")


@pytest.mark.parametrize(("text", "tokens"), SPLIT.values(), ids=SPLIT)
def test_what_is_split(text, tokens):
    assert WORD.findall(text) == tokens.split(" ")


@given(
    st.text(
        st.characters(max_codepoint=0x24F, exclude_categories=["Cf"], exclude_characters="·") | st.sampled_from("’“”—…")
    )
)
def test_latin_text_is_split_as_in_the_lessons(text):
    assert WORD.findall(text) == LESSONS.findall(text)


@given(st.text())
def test_no_character_is_lost(text):
    assert "".join("".join(WORD.findall(text)).split()) == "".join(re.findall(r"\S", text))


def test_a_run_says_that_a_script_has_no_blanks_between_words(tmp_path):
    (tmp_path / "a.txt").write_text("北京很大 " * 100, encoding="utf-8")
    (tmp_path / "b.txt").write_text("Peking ist groß. " * 100, encoding="utf-8")
    said = {
        (name, tokenizer): TextFiles(str(tmp_path / name), bptt=5, batch_size=2, tokenizer=tokenizer).summary()
        for name in ("a.txt", "b.txt")
        for tokenizer in ("words", "characters")
    }
    assert "100% of the words are single characters; their script has no blanks" in said.pop(("a.txt", "words"))
    assert all("single characters" not in line for line in said.values())


@pytest.mark.parametrize(("times", "known"), [(1, False), (2, True)])
def test_a_marker_of_unknown_words_counts_where_it_is_in_the_vocabulary(tmp_path, times, known):
    (tmp_path / "a.txt").write_text("the cat sat on the mat " * 30 + "<unk> " * times + "a dog ran " * 20)
    data = TextFiles(str(tmp_path / "a.txt"), bptt=5, batch_size=2, tokenizer="words")
    assert ("<unk>" in data.vocabulary.entries) == known
    assert ("xxunk" in data.vocabulary.entries) != known
    assert data.vocabulary.encode("zebra").tolist() == [data.vocabulary.unknown_id]
    assert Vocabulary.of_counts({"<unk>": 9, "a": 9}, Tokenizer("whitespace")).entries == ["<unk>", "a"]
