"""The one reader of tables: files as people have them, and what is read."""

import gzip
import json

import hypothesis
import polars
import pytest
from hypothesis import strategies

from lm.documents.files import read_documents
from reading.datasets import token_column
from reading.tables import Delimited, read_table
from unroll import Stream
from unroll.errors import UserError

TWO = [("a film", "pos"), ("a book", "neg")]
TEXT = ("text", "label")

# The content of a file, and the rows that are read; all have the columns text and label.
READ = {
    "comma": ("a.csv", "text,label\na film,pos\na book,neg\n", TWO),
    "semicolon": ("a.csv", "text;label\na film;pos\na book;neg\n", TWO),
    "tab in a .csv": ("a.csv", "text\tlabel\na film\tpos\na book\tneg\n", TWO),
    "bar": ("a.csv", "text|label\na film|pos\na book|neg\n", TWO),
    "comma in a .tsv": ("a.tsv", "text,label\na film,pos\na book,neg\n", TWO),
    "the separator that Excel names": ("a.csv", "sep=;\ntext;label\na film;pos\na book;neg\n", TWO),
    "other separators within values": (
        "a.csv", "text;label\na, b, c;pos\nd, e, f;neg\n",
        [("a, b, c", "pos"), ("d, e, f", "neg")],
    ),
    "blanks behind separators": ("a.csv", 'text, label\n"a, film", pos\na book, neg\n', [("a, film", "pos"), TWO[1]]),
    "blanks around names": ("a.csv", " text ,label \na film,pos\na book,neg\n", TWO),
    "byte order mark": ("a.csv", b"\xef\xbb\xbftext,label\na film,pos\na book,neg\n", TWO),
    "byte order mark before a quote": ("a.csv", b'\xef\xbb\xbf"text","label"\na film,pos\na book,neg\n', TWO),
    "UTF-16": ("a.csv", "text,label\na film,pos\na book,neg\n".encode("utf-16"), TWO),
    "Windows line ends": ("a.csv", b"text,label\r\na film,pos\r\na book,neg\r\n", TWO),
    "line ends of old": ("a.csv", b"text,label\ra film,pos\ra book,neg\r", TWO),
    "no line end at the end": ("a.csv", "text,label\na film,pos\na book,neg", TWO),
    "blank lines": ("a.csv", "\ntext,label\n\na film,pos\n  \na book,neg\n\n\n", TWO),
    "upper-case ending": ("A.CSV", "text,label\na film,pos\na book,neg\n", TWO),
    "compressed": ("a.csv.gz", gzip.compress(b"text,label\na film,pos\na book,neg\n"), TWO),
    "compressed, upper-case ending": ("a.TSV.GZ", gzip.compress(b"text\tlabel\na film\tpos\na book\tneg\n"), TWO),
    "other columns": ("a.csv", "id,label,x,text\n1,pos,,a film\n2,neg,,a book\n", TWO),
    "quotes around separators and line ends": (
        "a.csv", 'text,label\n"a\nfilm, ""new""",pos\na book,neg\n',
        [('a\nfilm, "new"', "pos"), TWO[1]],
    ),
    "quotes behind a backslash": (
        "a.csv", 'text,label\n"a \\"new\\" film, too",pos\na book,neg\n',
        [('a "new" film, too', "pos"), TWO[1]],
    ),
    "a quote within a value": ("a.csv", 'text,label\na 7" film,pos\na book,neg\n', [('a 7" film', "pos"), TWO[1]]),
    "a quote that does not close": ("a.csv", 'text,label\n"a film,pos\na book,neg\n', [('"a film', "pos"), TWO[1]]),
    "a quote in a .tsv": ("a.tsv", 'text\tlabel\n"a film\tpos\na book\tneg\n', [('"a film', "pos"), TWO[1]]),
    "two quotes in lines of a .tsv": (
        "a.tsv", 'text\tlabel\n"a film\tpos\na book"\tneg\n',
        [('"a film', "pos"), ('a book"', "neg")],
    ),
    "quoted values of a .tsv": (
        "a.tsv", 'text\tlabel\n"a ""new"" film"\tpos\na book\tneg\n',
        [('a "new" film', "pos"), TWO[1]],
    ),
    "quoted line ends of a .tsv": ("a.tsv", 'text\tlabel\n"a\nfilm"\tpos\na book\tneg\n', [("a\nfilm", "pos"), TWO[1]]),
    "a separator of Unicode's": (
        "a.csv", "text,label\na\u2028film\x85\x0c,pos\na book,neg\n",
        [("a\u2028film\x85\x0c", "pos"), TWO[1]],
    ),
    "lines before the names": ("a.csv", "Reviews of 2020\n\ntext,label\na film,pos\na book,neg\n", TWO),
    "comments": ("a.csv", "# of 2020, all\n# by hand\ntext,label\na film,pos\na book,neg\n", TWO),
    "comments below the names": ("a.csv", "text,label\n# by hand\na film,pos\n#\na book,neg\n# end\n", TWO),
    "a text that begins with a number sign": (
        "a.csv", "text,label\n#1 film,pos\na book,neg\n", [("#1 film", "pos"), TWO[1]],
    ),
    "files joined, names and all": ("a.csv", "text,label\na film,pos\ntext,label\na book,neg\n", TWO),
    "names behind a number sign": ("a.csv", "#text,label\na film,pos\na book,neg\n", TWO),
    "separators at the ends of lines": ("a.csv", "text,label,\na film,pos,\na book,neg,\n", TWO),
    "separators at the ends of all lines but the first": ("a.csv", "text,label\na film,pos,\na book,neg,\n", TWO),
    "lines of separators": ("a.csv", "text,label\na film,pos\na book,neg\n,\n,\n", TWO),
    "nothing": ("a.csv", "text,label\na film,pos\n,neg\n", [TWO[0], (None, "neg")]),
    "words that others take for nothing": (
        "a.csv", "text,label\nNA,None\nnull,nan\n",
        [("NA", "None"), ("null", "nan")],
    ),
    "JSON lines": ("a.jsonl", '{"text": "a film", "label": "pos"}\n\n{"label": "neg", "text": "a book"}\n', TWO),
    "JSON lines, byte order mark": ("a.ndjson", b'\xef\xbb\xbf{"text": "a film", "label": "pos"}\r\n', TWO[:1]),
    "JSON lines, Unicode's line ends": (
        "a.jsonl", '{"text": "a\u2028b\x85", "label": "pos"}\n',
        [("a\u2028b\x85", "pos")],
    ),
    "an array": ("a.json", '[{"text": "a film", "label": "pos"},\n {"text": "a book", "label": "neg"}]', TWO),
    "JSON lines, null": ("a.jsonl", '{"text": null, "label": "pos"}\n{"text": "a"}\n', [(None, "pos"), ("a", None)]),
    "JSON lines, numbers": ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', [("a", 1), ("b", 0)]),
    "JSON lines, numbers and words": (
        "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n',
        [("a", "1"), ("b", "x")],
    ),
    "JSON lines, yes and no": (
        "a.jsonl", '{"text": "a", "label": true}\n{"text": "b", "label": false}\n',
        [("a", "true"), ("b", "false")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_is_read(tmp_path, case):
    name, content, rows = READ[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read_table(str(tmp_path / name), TEXT)
    assert table.frame.select(TEXT).rows() == rows
    if case != "other columns":
        assert set(table.frame.columns) == set(TEXT)


# The content of a file, the words of the message, and what is read as one answers.
ASKED = {
    "a quote that may join lines": (
        'text,label\n"a film,pos\na book",neg\n', "line 2: a quote opens here and closes in line 3; data.quotes=double",
        {"quotes": "none"}, [('"a film', "pos"), ('a book"', "neg")],
    ),
    "a quote that does not close, in a file that needs quotes": (
        'text,label\n"a, b",pos\n"a film,pos\na book,neg\n', "line 3: a quote opens here and does not close",
        None, None,
    ),
    "a quote that does not close, where values are in quotes": (
        '"text","label"\n"a film","pos"\n"a book","neg\n', "line 3: a quote opens here and does not close",
        {"quotes": "none"}, None,
    ),
    "quotes within quotes": (
        'text,label\n"Pedro "pdet" Holanda",pos\n"a book",neg\n',
        "line 2: a quote is followed by more than a separator",
        {"quotes": "none"}, [('"Pedro "pdet" Holanda"', "pos"), ('"a book"', "neg")],
    ),
    "too many values": (
        "text,label\na film,pos\na book, and more,neg\n", "line 3: has 3 values, and the line of names 2", None, None,
    ),
    "a separator that is not among the usual": (
        "text^label\na film^pos\na book^neg\n", "there is no column text; choose from: text^label",
        {"separator": "^"}, TWO,
    ),
    "two columns of a name": ("text,label,label\na,b,c\n", "two columns are called label", None, None),
    "another encoding": (
        "text,label\nun café,pos\n".encode("latin-1"),
        "not UTF-8 text (byte 17 cannot be read); as cp1252 it reads “un café,pos”: data.encoding=cp1252",
        {"encoding": "cp1252"}, [("un café", "pos")],
    ),
    "no names": ("a film,pos\na book,neg\n", "there is no column text; choose from: a film, pos", None, None),
    "an empty file": ("\n\n", "the file is empty", None, None),
    "quotes around nothing": ('""\n', "no row has a value", None, None),
    "a separator that is none": ("text,label\n", "separator=::: must be one character", {"separator": "::"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_is_wrong_or_open_is_asked_in_one_line(tmp_path, case):
    content, words, answer, rows = ASKED[case]
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_table(str(path), TEXT, **(answer if case == "a separator that is none" else {})).require(*TEXT)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    if rows:
        assert read_table(str(path), TEXT, **answer).frame.rows() == rows


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "x", "label": "y"}\nno\n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"text": "x", "label": "y"}\n"no"\n', "a.jsonl, line 2: must be an object with text and label"),
        ("a.jsonl", '{"text": ["x"], "label": "y"}\n', "a.jsonl, line 1: text must be one value, not list"),
        ("a.jsonl", '{"text": "\\ud800", "label": "y"}\n', "line 1: text has half of a surrogate pair in it"),
        (
            "a.jsonl",
            '{"text": "x", "label": "y", "\\ud800": 1}\n',
            "a name of a column has half of a surrogate pair in it",
        ),
        pytest.param(
            "a.jsonl", '{"text": 1' + 5000 * "0" + "}\n", "line 1: not JSON (a number of too many digits)", id="digits"
        ),
        pytest.param(
            "a.json", '[{"text": 1' + 5000 * "0" + "}]", "not JSON (a number of too many digits)", id="digits 2"
        ),
        pytest.param("a.jsonl", "[" * 100_000, "a.jsonl: not a list of objects", id="nested"),
        pytest.param("a.jsonl", "{}\n" + "[" * 100_000, "a.jsonl, line 2: not JSON (nested too deeply)", id="nested 2"),
        ("a.json", '[{"text": "x"}, 1]', "a.json, row 2: must be an object with text and label"),
        ("a.parquet", "PAR1 and no more", "a.parquet: can't be read"),
        ("a.csv.gz", "no", "a.csv.gz: not a whole .gz file"),
        ("hf:none", None, "there is no folder none; one on the Hub comes onto this machine by"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, monkeypatch, name, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        read_table(name, TEXT)
    assert words in str(error.value)


def test_what_is_left_out_or_named_is_said(tmp_path):
    content = "# a comment\n,load,load,\n1,2,3,\n,,,\n,load,load,\n# another\n4,5,6,\n"
    (tmp_path / "a.csv").write_text(content)
    table = read_table(str(tmp_path / "a.csv"))
    assert table.frame.rows() == [("1", "2", "3"), ("4", "5", "6")]
    assert (table.frame.columns, table.unnamed) == (["1", "load", "load_2"], ["1"])
    assert table.notes == [
        "1 lines of comments left out",
        "1 lines of comments left out, from line 6 on",
        "1 lines with the names of the columns again left out, from line 5 on",
        "1 rows without values left out",
        "column 4, which has neither name nor values, left out",
        "a second column load is called load_2",
    ]


def test_what_a_file_has_no_use_for_is_said(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "y"}')
    table = read_table(str(tmp_path / "a.jsonl"), TEXT, separator=";", header=True)
    assert table.notes == ["data.separator, data.header not used, as only .csv and .tsv files need it"]
    assert read_table(str(tmp_path / "a.jsonl"), TEXT).notes == []


def test_a_row_is_known_by_the_line_it_begins_in(tmp_path):
    (tmp_path / "a.csv").write_text('\n# x\ntext,label\n\n"a\nb",pos\n\nc,neg\n')
    table = read_table(str(tmp_path / "a.csv"), TEXT)
    assert [table.where(row).split(", ")[1] for row in range(2)] == ["line 5", "line 8"]


CELL = strategies.text("a1.-# '\xa0é\u2028\"", max_size=3)


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    rows=strategies.integers(1, 3).flatmap(
        lambda width: strategies.lists(strategies.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=5)
    ),
    separator=strategies.sampled_from([",", ";", "\t"]),
    end=strategies.sampled_from(["", "\n", "\r\n\n"]),
    quotes=strategies.sampled_from([None, "none"]),
    header=strategies.sampled_from([None, True, False]),
)
def test_a_file_of_plain_lines_is_read_at_once_as_it_is_row_by_row(rows, separator, end, quotes, header):
    text = "\n".join(separator.join(row) for row in rows) + end

    def found(by_row):
        try:
            delimited = Delimited("a.csv", text, (), ",", separator, quotes, header)
            if by_row:
                delimited.at_once = lambda: None
            table = delimited.table()
            return table.frame.to_dict(as_series=False), list(table.lines), table.notes, table.unnamed
        except UserError as error:
            return str(error)

    assert found(by_row=False) == found(by_row=True)


def test_a_blank_line_in_a_single_column_is_a_missing_value(tmp_path):
    (tmp_path / "a.csv").write_text("load\n1\n\n3\n\n")
    assert read_table(str(tmp_path / "a.csv")).frame["load"].to_list() == ["1", None, "3"]


@pytest.mark.parametrize(
    ("content", "header", "columns", "height"),
    [
        ("1.5,2.5\n3.5,4.5\n", None, ["1", "2"], 2),
        ("2020-01-01,2.5\n2020-01-02,4.5\n", None, ["1", "2"], 2),
        ("2020,2021\n3.5,4.5\n", True, ["2020", "2021"], 1),
        ("2020,2021\n3.5,4.5\n", False, ["1", "2"], 2),
        ("x,2021\n3.5,4.5\n", None, ["x", "2021"], 1),
    ],
)
def test_a_line_of_names_is_found_or_said(tmp_path, content, header, columns, height):
    (tmp_path / "a.csv").write_text(content)
    table = read_table(str(tmp_path / "a.csv"), header=header)
    assert (table.frame.columns, table.frame.height) == (columns, height)


def test_numbers_alone_may_be_names(tmp_path):
    (tmp_path / "a.csv").write_text("2020,2021\n3.5,4.5\n")
    with pytest.raises(UserError, match=r"line 1: has numbers alone \(2020, 2021\); data.header=true takes them"):
        read_table(str(tmp_path / "a.csv"))


class TestDatasets:
    """Of Hugging Face: saved, or a folder of files."""

    @pytest.fixture
    def saved(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
        )
        columns = {"text": ["a film", "a book", "a play"], "label": [1, 0, -1]}
        whole = datasets.Dataset.from_dict(columns, features=features)
        parts = datasets.DatasetDict({"train": whole, "validation": whole.select([1])})
        whole.save_to_disk(tmp_path / "whole")
        parts.save_to_disk(tmp_path / "parts")
        (tmp_path / "files").mkdir()
        whole.to_parquet(tmp_path / "files" / "train-00000-of-00001.parquet")
        whole.select([1]).to_parquet(tmp_path / "files" / "test-00000-of-00001.parquet")
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "split", "rows"),
        [
            ("whole", "train", [("a film", "pos"), ("a book", "neg"), ("a play", None)]),
            ("parts", "train", [("a film", "pos"), ("a book", "neg"), ("a play", None)]),
            ("parts", "valid", [("a book", "neg")]),
            ("parts:validation", "train", [("a book", "neg")]),
            ("files", "test", [("a book", "neg")]),
        ],
    )
    def test_what_is_read(self, saved, monkeypatch, name, split, rows):
        monkeypatch.setenv("HF_HOME", str(saved / "cache"))
        assert read_table(f"hf:{saved / name}", TEXT, split=split).frame.rows() == rows

    def test_a_split_that_is_not_there(self, saved):
        with pytest.raises(UserError, match=r"choose a split, as in hf:.*parts:train; there are: train, validation"):
            read_table(f"hf:{saved / 'parts'}", TEXT, split="test")

    def test_a_column_of_tokens_is_a_stream_without_a_copy(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        lists = [[1, 2, 3], [], [4, 5], [6, 7, 8, 9]] * 3
        halves = [datasets.Dataset.from_dict({"input_ids": part}) for part in (lists[:6], lists[6:])]
        datasets.concatenate_datasets(halves).save_to_disk(tmp_path / "tokens", num_shards=2)
        dataset = datasets.load_from_disk(str(tmp_path / "tokens"))
        parts = token_column(dataset, "input_ids")
        assert [part.tolist() for part in parts] == [part for part in lists if part]
        addresses = [
            chunk.flatten().buffers()[1].address + chunk.flatten().offset * 8
            for chunk in dataset.data.column("input_ids").chunks
        ]
        assert {part.untyped_storage().data_ptr() for part in parts} <= set(addresses)
        windows = list(Stream(parts, 2, 2))
        assert sum(int(window.full_mask.sum()) for window in windows) == sum(len(part) - 1 for part in parts)
        with pytest.raises(UserError, match="flatten_indices"):
            token_column(dataset.shuffle(seed=0), "input_ids")
        with pytest.raises(UserError, match="not lists of numbers"):
            token_column(datasets.Dataset.from_dict({"a": ["x"]}), "a")


def test_a_parquet_and_an_arrow_file(tmp_path):
    frame = polars.DataFrame({"text": ["a film", "a book"], "label": ["pos", None]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ipc(tmp_path / "a.arrow")
    for name in ("a.parquet", "a.arrow"):
        table = read_table(str(tmp_path / name), TEXT)
        assert table.frame.rows() == frame.rows()
        assert table.where(1).endswith(f"{name}, row 2")


def test_what_is_not_a_number_is_nothing(tmp_path):
    """pandas writes missing numbers so."""
    polars.DataFrame({"text": ["a", "b"], "label": [1.0, float("nan")]}).write_parquet(tmp_path / "a.parquet")
    assert read_table(str(tmp_path / "a.parquet"), TEXT).frame["label"].to_list() == [1, None]
    with pytest.raises(UserError, match=r"row 2: has no class in the column label"):
        read_documents(str(tmp_path / "a.parquet"), *TEXT)


@pytest.mark.parametrize(
    ("second", "shown"),
    [
        ("pos\u200b", r"'pos\\u200b', and pos in line 2"),
        ("caf\u0065\u0301", r"'cafe\\u0301', and 'caf\\xe9' in line 3"),
        ("so\xa0so", r"'so\\xa0so', and so so in line 5"),
        ("1.0", "1.0, and 1 in line 4"),
    ],
    ids=["a character that is not seen", "an accent apart", "another blank", "a number"],
)
def test_a_class_is_written_in_one_way(tmp_path, second, shown):
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\na,pos\nb,café\nc,1\nd,so so\ne,{second}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"line 6: the column label has {shown}; write it one way"):
        read_documents(str(path), *TEXT)


def test_capitals_that_alone_tell_classes_apart_are_said(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,yes\nb,Yes\nc,no\nd,NO\n")
    found = read_documents(str(tmp_path / "a.csv"), *TEXT)
    assert [document.label for document in found.documents] == ["yes", "Yes", "no", "NO"]
    assert found.notes == [f"{tmp_path / 'a.csv'}: yes and Yes in the column label are told apart, as are 1 more"]


def test_any_row_that_csv_writes_is_read(tmp_path):
    """With quotes in many places, in either kind of file."""
    import csv

    from hypothesis import given
    from hypothesis import strategies as some

    texts = some.text(some.sampled_from("ab ,;\t\"'\n\\é"), min_size=1).filter(str.strip)

    @given(some.lists(some.tuples(texts, some.sampled_from(["pos", "neg"])), min_size=1, max_size=5))
    def check(rows):
        path = tmp_path / "a.csv"
        with open(path, "w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([TEXT, *rows])
        found = read_table(str(path), TEXT, quotes="double").frame.rows()
        assert found == rows
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(dict(zip(TEXT, row, strict=True))) for row in rows))
        assert read_table(str(tmp_path / "a.jsonl"), TEXT).frame.rows() == rows

    check()
