"""Folders with a folder per class: what is left out, of texts and of images alike, and what is said of it."""

import gzip
import io
import os

import numpy
import pytest
from PIL import Image

import lm.documents.command
import lm.tagging.command
import vision.classify
from lm.documents.files import read_documents
from lm.tagging.command import lines_of
from lm.text.files import plain_text
from reading.folders import files_by_class, is_hidden
from reading.text import read_argument, read_text
from unroll.errors import UserError
from vision.data.data_modules import ImageFiles
from vision.data.files import find_images

# What systems and programs leave in folders.
LEFT = (
    ".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "~$0.docx", "0.png~", ".ipynb_checkpoints/0.png",
    "__MACOSX/0.png", "@eaDir/0.png",
)  # fmt: skip


def pixels(shade):
    return Image.fromarray(numpy.full((9, 9), shade, numpy.uint8))


@pytest.fixture
def folder(tmp_path):
    """Ten files of each of two classes, one of them in a folder within, as texts (`.txt`) or as images (`.png`)."""

    def make(ending, write):
        for label in ("cat", "dog"):
            (tmp_path / label / "old").mkdir(parents=True)
            for number in range(10):
                write(tmp_path / label / ("old" if number == 9 else "") / f"{number}{ending}", number)
        return tmp_path

    return make


def texts(path, number):
    path.write_text(f"text {number} of {path.parts[-2]}")


def images(path, number):
    pixels(number).save(path)


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("where", ["", "cat", "dog/old"])
def test_what_is_hidden_is_left_out_and_counted(folder, left, where):
    root = folder(".png", images)
    path = root / where / left
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left")
    found = find_images(root)
    assert (len(found.files), sorted(set(found.labels))) == (20, ["cat", "dog"])
    assert found.note() == f"files left out, as they are hidden: 1 ({root / where / left.split('/')[0]})"
    assert files_by_class(root).files == found.files


@pytest.mark.parametrize("name", ["a.txt", "README", "x.db", "macosx", "a~b", "c$"])
def test_what_has_another_name_is_not_hidden(name):
    assert not is_hidden(name)


def test_texts_without_what_is_empty_or_of_another_kind(folder):
    root = folder(".txt", texts)
    (root / "cat" / "README").write_text("what is in this folder")
    (root / "dog" / "empty.txt").touch()
    (root / "dog" / "blank.txt").write_text(" \n")
    (root / "dog" / "Thumbs.db").write_bytes(b"\0")
    documents, notes = read_documents(str(root), "text", "class")
    assert len(documents) == 20
    note, names = notes
    assert names.endswith("data.text=text and data.label=class not used: the names of folders are the classes")
    assert f"as they are hidden: 1 ({root}/dog/Thumbs.db)" in note
    assert f"as they are of another kind: 1 ({root}/cat/README)" in note
    assert f"as they are empty: 2 ({root}/dog/empty.txt, {root}/dog/blank.txt)" in note


def test_texts_of_several_endings_are_all_read(folder):
    root = folder(".txt", texts)
    for number in range(5):
        (root / "cat" / f"{number}.md").write_text("a text")
        (root / "dog" / f"5106{number}").write_text("a text")
    assert len(read_documents(str(root), "text", "label").documents) == 30


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "un café".encode("cp1252"),
            "not UTF-8 text (byte 6 cannot be read); as cp1252 it reads “un café”: data.encoding=cp1252",
        ),
        ("这部电影非常好看，我很喜欢。".encode("gb18030"), "as gb18030 it reads “这部电影非常好看，我很喜欢。”"),
        ("привет, мир".encode() + b"\xff", "byte 20 cannot be read; the rest is, so the file is damaged there"),
        (
            b"one\ntwo\0\nthree\0",
            "7.txt: byte 7 is NUL (2 in all), which no text has; without it the rest",
        ),
        (gzip.compress(b"un film", mtime=0), "7.txt: is compressed by gzip; its name must end in .gz"),
        (b"PK\3\4\x14\0\6\0\x08\0", "7.txt: is a ZIP archive, such as .zip, .xlsx and .docx files are, not text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "nor in another usual encoding; it holds NUL bytes; is it a text file?"),
    ],
)
def test_the_file_is_named_that_is_no_text(folder, content, words):
    root = folder(".txt", texts)
    (root / "cat" / "7.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_documents(str(root), "text", "label")
    assert str(error.value).startswith(f"{root}/cat/7.txt: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.parquet", b"PAR1\x15\xff", "is a Parquet file, not text; hf:FOLDER reads those in a folder"),
        ("a.ARROW", b"ARROW1\0\xff", "is an Arrow file, not text; hf:FOLDER reads"),
        ("a.txt", b"PAR1\x15\xff", "is a Parquet file; its name must end in .parquet"),
        ("a.gz", gzip.compress(gzip.compress(b"a film")), "is compressed by gzip, not text"),
    ],
    ids=["Parquet", "Arrow", "another ending", "compressed twice"],
)
def test_a_name_that_is_right_is_not_blamed(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_text(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: {words}")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (lm.tagging.command, ["none.ckpt", "--redact", "PER", "text.txt"]),
        (lm.documents.command, ["none.ckpt", "--encoding", "cp1252", "text.txt"]),
        (vision.classify, ["none.ckpt", "a.png", "--top", "1", "b.png"]),
    ],
    ids=["redact", "encoding", "top"],
)
def test_files_may_stand_behind_options(monkeypatch, command, arguments):
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert str(ended.value).startswith("error: ")  # of what was asked for; argparse ends with 2


def test_images_without_what_is_empty_or_of_another_kind(folder):
    root = folder(".png", images)
    (root / "cat" / "labels.csv").write_text("a,b")
    (root / "dog" / "empty.png").touch()
    data = ImageFiles(path=str(root), batch_size=2, pad=0, flip=False, size=8, cache=str(root / ".cache"))
    assert "18 training and 2 validation images of 2 classes" in data.summary()
    assert f"as they are of another kind: 1 ({root}/cat/labels.csv)" in data.summary()
    assert f"as they are empty: 1 ({root}/dog/empty.png)" in data.summary()


@pytest.mark.parametrize("name", [b"cat\xff", b"cat\x1b[2J", b"cat\n"], ids=["no UTF-8", "escape", "line end"])
def test_a_class_that_cannot_be_shown_is_named(tmp_path, name):
    (tmp_path / "dog").mkdir()
    try:
        (tmp_path / os.fsdecode(name)).mkdir()
    except OSError:
        pytest.skip("there are no such names here")
    with pytest.raises(UserError, match=r"the folder 'cat\\.* can't be shown as the name of a class; rename it"):
        files_by_class(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="none: cannot be read"):
        files_by_class(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("ein, größe;x\nzwei, ä;y\n", "cp1252"),  # not Hebrew letters within words
        ("l'été à Paris", "cp1252"),  # nor Cyrillic ones
        ("naïve façade", "cp1252"),
        ("как дела", "cp1251"),
        ("שלום עולם", "cp1255"),
        ("καλημέρα κόσμε", "cp1253"),
        ("příliš žluťoučký kůň", "cp1250"),
        ("こんにちは世界", "cp932"),
        ("こんにちは,あ\n世界のみなさん,い\n", "cp932"),  # nor letters of Russian between the lines of tables
        ("こんにちは,あ\n世界のみなさん,い\n", "euc_jp"),
        ("안녕하세요", "euc_kr"),
    ],
)
def test_the_encoding_of_a_few_words_is_advised(tmp_path, text, encoding):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=r"as .* it reads “(.*)”: data.encoding=(.*)") as error:
        read_text(tmp_path / "a.txt")
    advised = str(error.value).rpartition("=")[2]
    assert text.encode(encoding).decode(advised) == text


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined", "rot13", "a\0b"])
def test_what_is_no_encoding_of_texts_is_refused(tmp_path, encoding):
    (tmp_path / "a.txt").write_text("Größe", encoding="utf-8")
    with pytest.raises(UserError, match=r"encoding=.*: must be an encoding that Python knows|not punycode text"):
        read_text(tmp_path / "a.txt", encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "refused"),
    [
        ("Größe", "cp1252", True),
        ("Größe", "latin-1", True),
        ("Größe, Maß und Fuß", "gb18030", True),
        ("Größe", "utf-8-sig", False),
        ("size", "cp1252", False),
        ("\u0763\u0763", "gb18030", False),  # two characters in either encoding
    ],
)
def test_utf_8_is_not_read_as_another_encoding(tmp_path, text, encoding, refused):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    readers = (
        lambda: read_text(path, encoding),
        lambda: plain_text(path, encoding, cache=tmp_path).read_text(encoding="utf-8"),
    )
    for read in readers:
        if refused:
            with pytest.raises(UserError, match=r"a.txt: (is|not) .*data.encoding=utf.8"):
                read()
        else:
            assert read().removeprefix("\ufeff") == text.encode().decode(encoding)


def test_folders_of_parts_are_no_classes(folder, tmp_path):
    root = folder(".txt", texts)
    for part in ("train", "test"):
        (root / part).mkdir()
    (root / "cat").rename(root / "train" / "cat")
    (root / "dog").rename(root / "test" / "dog")
    with pytest.raises(UserError, match=f"a folder for each part, not .*: data.test={root}/test data.train={root}/tr"):
        read_documents(str(root), "text", "label")
    assert len(read_documents(str(root / "train"), "text", "label").documents) == 10
    (root / "bus").mkdir()
    (root / "bus" / "a.txt").write_text("a class beside two that are called so")
    assert {one.label for one in read_documents(str(root), "text", "label").documents} == {"bus", "test", "train"}


def test_links_to_folders_are_counted(folder):
    root = folder(".txt", texts)
    (root / "cat" / "loop").symlink_to(root)
    documents, notes = read_documents(str(root), "text", "label")
    assert len(documents) == 20
    assert notes == [f"{root}: files left out, as they are links to folders: 1 ({root}/cat/loop)"]


def test_a_byte_that_an_encoding_does_not_have_is_no_reason_to_advise_another(tmp_path):
    (tmp_path / "a.txt").write_bytes("привет, как дела? хорошо ли поживаете".encode("cp1251") + b"\x98")
    with pytest.raises(UserError, match=r"not cp1251 text \(byte 37 cannot be read; the rest is, so"):
        read_text(tmp_path / "a.txt", "cp1251")


@pytest.mark.parametrize("named", [True, False], ids=["file", "stdin"])
@pytest.mark.parametrize(
    ("content", "encoding", "found"),
    [
        ("un café\n".encode(), "utf-8", "un café\n"),
        ("\ufeffun café\n".encode(), "utf-8", "un café\n"),
        ("un café\n".encode("utf-16"), "utf-8", "un café\n"),
        ("un café\n".encode("cp1252"), "cp1252", "un café\n"),
        ("un café\n".encode("cp1252"), "utf-8", None),
    ],
)
def test_texts_that_commands_are_given(tmp_path, monkeypatch, named, content, encoding, found):
    (tmp_path / "a.txt").write_bytes(content)
    name = str(tmp_path / "a.txt") if named else "-"
    for read in (read_argument, lambda name, encoding: "".join(lines_of([name], encoding))):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        if found is not None:
            assert read(name, encoding) == found
        else:
            with pytest.raises(UserError, match=r"not (UTF-8|utf-8) text.*--encoding (cp1252|NAME)"):
                read(name, encoding)
