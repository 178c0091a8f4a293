"""Readers of files are given damaged ones: each is read, or refused in a line that names it; nothing else comes up."""

import io
import json
import zipfile

import hypothesis.strategies as st
import pytest
import torch
from helpers.samples import columns, reviews, sentences, some_numbers
from helpers.small_models import save_language_model
from hypothesis import HealthCheck, given, settings
from omegaconf import DictConfig

import lm.language
from lm.documents.files import read_documents
from lm.export.hub import export_to_hub
from lm.export.steps import load_step
from lm.language.checkpoint import TrainedLanguageModel
from lm.tagging.data import TaggedFiles
from series.files import read_series
from unroll import load_state, save_state
from unroll.cli.run_directory import read_yaml
from unroll.errors import UserError
from unroll.files import read_json
from unroll.resume.checkpoint import HUB_METADATA, HUB_WEIGHTS, read
from unroll.terminal import one_line

FEW, MANY = 50, 1500

PIECES = [
    *(b'"', b"'", b'""', b"\\", b'\\"', b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\0", b" ", b"\x1b[2J"),
    "\N{NO-BREAK SPACE}\u0085\u2028\ufeff".encode(),
    *(b"\xff\xfe", b"\xfe\xff", b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"nan", b"inf", b"1e999", b"9" * 400, b"9" * 5000, b"-", b"null", b"true", b"{}", b"[]"),
    *(b"[" * 2000, b"{" * 2000, b'{"a":' * 2000),
    *(b"&a", b"*a", b"<<: *a", b"!!python/object/apply:os.system ['false']", b"${oc.env:HOME}"),
    *(rb'"\ud800"', rb'"\ud800":1', b'{"text":' + b"9" * 5000),
    *(b"#", b"-DOCSTART-", b"O", b"I-"),
    *(b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY", b"\xff\xff\xff\xff", b"\x80\x02c", b"cos\nsystem\n"),
]


@st.composite
def damaged(draw, whole):
    """A file with some bytes changed, left out, doubled or put in; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        stop = min(len(content), place + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["put", "replace", "leave out", "double", "cut", "flip"]))
        if kind == "put":
            content[place:place] = draw(st.sampled_from(PIECES) | st.binary(max_size=20))
        elif kind == "replace":
            content[place:stop] = draw(st.sampled_from(PIECES) | st.binary(max_size=20))
        elif kind == "leave out":
            del content[place:stop]
        elif kind == "double":
            content[place:place] = content[place:stop]
        elif kind == "cut":
            del content[place:]
        elif place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(content)


def made(name, save):
    """The content of a file that is saved under a name."""

    def make(folder):
        save(folder / name)
        return (folder / name).read_bytes()

    return name, make


def text(name, content):
    return name, lambda folder: content.encode()


ROWS = reviews(12)
CSV = "text,label\n" + "".join(f'"{words[:40]}, ""so""",{label}\n' for words, label in ROWS)
STATE = (torch.ones(2, 3), {"c": torch.zeros(1, 3, dtype=torch.bfloat16)})


def save_model(path):
    save_language_model(path, lm.language.GRU)


def documents(path):
    return read_documents(str(path), "text", "label")


def save_parquet(path):
    polars = pytest.importorskip("polars")
    polars.DataFrame({"text": [words[:40] for words, _ in ROWS], "label": [label for _, label in ROWS]}).write_parquet(
        path, compression="uncompressed"
    )


def of_hub(name):
    """One of the two files of a folder for a model hub; the other lies beside it."""

    def make(folder):
        pytest.importorskip("safetensors")
        if not (folder / HUB_METADATA).exists():
            save_model(folder / "best.ckpt")
            export_to_hub(load_step(folder / "best.ckpt", None, None), folder / "best.ckpt", folder / "hub")
            for file in (HUB_WEIGHTS, HUB_METADATA):
                (folder / "hub" / file).rename(folder / file)
        return (folder / name).read_bytes()

    return name, make


READERS = {
    "csv": (text("some.csv", CSV), documents),
    "tsv": (text("some.tsv", CSV.replace(",", "\t")), documents),
    "json lines": (
        text("some.jsonl", "\n".join(json.dumps({"text": words[:40], "label": label}) for words, label in ROWS)),
        documents,
    ),
    "series": (
        text("some.csv", "\n".join(some_numbers().splitlines()[:20])),
        lambda path: read_series(str(path), series="name"),
    ),
    "dates": (
        text("some.csv", "day,value\n" + "".join(f"2026-01-{day:02},{day / 2}\n" for day in range(1, 20))),
        lambda path: read_series(str(path), time="day"),
    ),
    "words": (
        text("some.txt", columns(sentences(8))),
        lambda path: (
            TaggedFiles(train=str(path), valid=str(path), columns=["word", "pos", "chunk"], label="chunk").splits
        ),
    ),
    "state": (made("some.npz", lambda path: save_state(STATE, path)), load_state),
    "checkpoint": (made("some.ckpt", save_model), read),
    "parquet": (made("some.parquet", save_parquet), documents),
    "hub weights": (of_hub(HUB_WEIGHTS), TrainedLanguageModel.load),
    "hub metadata": (of_hub(HUB_METADATA), lambda path: TrainedLanguageModel.load(path.with_name(HUB_WEIGHTS))),
    "model": (made("some.ckpt", save_model), TrainedLanguageModel.load),
    "settings": (
        text("some.yaml", "data:\n  a: [1, 2]\n  b: &x {c: d}\nmodel:\n- 3\n"),
        lambda path: read_yaml(path, DictConfig),
    ),
    "results": (text("some.json", '{"status": "finished", "metrics": {"valid/loss": 1.5}}'), read_json),
}


def try_one(path, read_file, content):
    """Whether a content is read; else it is refused in one line with the file's name, or that of the one beside it."""
    path.write_bytes(content)
    try:
        read_file(path)
    except UserError as error:
        message = str(error)
    else:
        return True
    assert path.name in message or (path.name == HUB_METADATA and HUB_WEIGHTS in message)
    assert one_line(message).isprintable()
    return False


def try_many(folder, reader, examples):
    (name, make), read_file = READERS[reader]
    whole = make(folder)
    assert try_one(folder / name, read_file, whole)
    counts = {True: 0, False: 0}

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None, deadline=None)
    @given(damaged(whole))
    def try_it(content):
        counts[try_one(folder / name, read_file, content)] += 1

    try_it()
    return counts


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(reader, tmp_path):
    counts = try_many(tmp_path, reader, FEW)
    assert sum(counts.values()) >= FEW


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_many_of_them(reader, tmp_path):
    counts = try_many(tmp_path, reader, MANY)
    print(f"{reader}: {sum(counts.values()):,} inputs, {counts[False]:,} refused")


def resealed(content, draw):
    """An archive with the same names whose members are damaged, and whose checksums are those of the damaged ones."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(made, "w") as after:
        for member in before.namelist():
            part = before.read(member)
            after.writestr(member, draw(damaged(part)) if draw(st.booleans()) else part)
    return made.getvalue()


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reader", ["state", "model"])
def test_archives_whose_checksums_are_right(reader, examples, tmp_path):
    (name, make), read_file = READERS[reader]
    whole = make(tmp_path)

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None, deadline=None)
    @given(st.data())
    def try_it(data):
        try_one(tmp_path / name, read_file, resealed(whole, data.draw))

    try_it()


def test_a_checkpoint_that_is_cut_anywhere_is_refused(tmp_path):
    save_model(tmp_path / "some.ckpt")
    whole = (tmp_path / "some.ckpt").read_bytes()
    for number in range(100):
        (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) * number // 100])
        with pytest.raises(UserError, match=r"cut\.ckpt: not a checkpoint that can be read safely"):
            read(tmp_path / "cut.ckpt")
