"""What a stranger hands on runs nothing: checkpoints, run directories, and what else lies around them."""

import copy
import csv
import functools
import io
import itertools
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from importlib import import_module
from itertools import pairwise

import numpy
import pytest
import torch
import yaml
from helpers import samples
from helpers.configuration import composed
from helpers.processes import ROOT
from helpers.small_models import (
    save_classifier,
    save_forecaster,
    save_image_classifier,
    save_language_model,
    save_tagger,
)
from omegaconf import OmegaConf
from PIL import Image

import lm.language
from lm.documents.data import reviews
from lm.explore.models import view_of
from lm.export.hub import export_to_hub
from lm.export.steps import load_step
from lm.language import penn
from lm.tagging.data import CoNLL2000, TaggedFiles
from lm.text import Tokenizer, Vocabulary, chunks
from lm.text.tokenizers import learn_bpe
from reading import archives
from reading.tables import read_table
from unroll import load_state, save_state
from unroll.cli import build, evaluation, program, run_directory
from unroll.cli.report.runs import find_runs
from unroll.cli.report.statistics import ranked_settings
from unroll.cli.report.tables import markdown
from unroll.cli.report.write import write_report
from unroll.errors import ArgumentError, UserError
from unroll.resume.checkpoint import KEY, read
from unroll.terminal import one_line, say
from vision.data.cifar10 import read_cifar10
from vision.data.files import read_image

EVIL = "open({!r}, 'w').close()\n\n\nclass Model:\n    def __init__(self, *arguments, **settings):\n        pass\n"

# By kind of model: how its checkpoint is made, and what reads it, with the arguments behind the run directory.
SAVE = {
    "language": functools.partial(save_language_model, model_class=lm.language.GRU),
    "tags": save_tagger,
    "documents": save_classifier,
    "series": save_forecaster,
    "images": save_image_classifier,
}
COMMANDS = {
    "language": ("lm.generate", ["--length", "3", "--seed", "0"]),
    "tags": ("lm.tag", []),
    "documents": ("lm.classify", ["-"]),
    "series": ("series", ["numbers.csv", "--steps", "2"]),
    "images": ("vision.classify", ["image.png"]),
}
FURTHER = ("lm.export", "lm.explore", "unroll.cli.report")


@pytest.fixture(params=COMMANDS)
def kind(request):
    return request.param


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Makes a stranger's run directory, which is the current folder and the first on the path, as for `python -m`."""
    run = tmp_path / "run"
    touched = tmp_path / "touched"

    def make(kind):
        (run / "checkpoints").mkdir(parents=True)
        SAVE[kind](run / "checkpoints" / "best.ckpt")
        (run / "evil.py").write_text(EVIL.format(str(touched)))
        (run / ".hydra").mkdir()
        evil = {"_target_": "evil.Model"}
        (run / ".hydra" / "config.yaml").write_text(
            yaml.safe_dump(dict.fromkeys(run_directory.PARTS, evil) | {"hydra": {"searchpath": ["pkg://evil"]}})
        )
        for name in ("overrides", "hydra"):
            (run / ".hydra" / f"{name}.yaml").write_text("[]")
        (run / "numbers.csv").write_text("a,b\n" + "1.5,2.5\n" * 20)
        Image.new("RGB", (40, 40)).save(run / "image.png")
        for name in ("result.json", "metrics.csv", "metrics.json", "model.json", "run.py"):
            (run / name).write_text("import evil\n")
        monkeypatch.chdir(run)
        monkeypatch.syspath_prepend(run)
        return run

    yield make
    assert not touched.exists()
    assert "evil" not in sys.modules


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `python -m MODULE …` in this process. Returns what it printed, and its error if it ended with one."""

    def run(module, *arguments, text="the cat\n"):
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(text.encode()))))
        found = import_module(module)
        main = found.main if hasattr(found, "main") else import_module(f"{module}.__main__").main
        try:
            main()
        except SystemExit as ended:
            return capsys.readouterr().out, ended.code
        return capsys.readouterr().out, None

    return run


def refused(message, *names):
    """Whether an error is one line, of at most a few hundred letters, that names the file."""
    assert isinstance(message, str), message
    assert message.startswith("error: ")
    assert message.isprintable(), message
    assert all(name in message for name in names), message
    return True


class TestCommands:
    def test_nothing_around_a_checkpoint_is_imported(self, stranger, command, kind):
        stranger(kind)
        module, arguments = COMMANDS[kind]
        printed, error = command(module, ".", *arguments)
        assert error is None
        assert printed

    def test_nor_for_a_page_or_an_export(self, stranger, kind):
        path = stranger(kind) / "checkpoints" / "best.ckpt"
        if kind in ("language", "tags", "documents"):
            assert view_of(load_step(path, None, None), path, None).about["kind"]
        else:
            with pytest.raises(UserError, match=r"not a checkpoint of a language model|is not one of"):
                load_step(path, None, None)

    def test_a_class_that_a_checkpoint_names_is_not_looked_for(self, stranger, command, kind):
        path = stranger(kind) / "checkpoints" / "best.ckpt"
        for name in ("evil.Model", "Model", "evil", "os.system", "__builtins__", "Module"):
            change(path, lambda checkpoint, name=name: checkpoint[KEY]["model"].update(name=name))
            module, arguments = COMMANDS[kind]
            assert refused(command(module, ".", *arguments)[1], "best.ckpt", repr(name))

    def test_a_pickle_is_not_run(self, stranger, command, kind):
        path = stranger(kind) / "checkpoints" / "best.ckpt"
        module, arguments = COMMANDS[kind]
        for content in (RunsCode(), {**read(path), "more": RunsCode()}, {KEY: RunsCode()}):
            for legacy in (False, True):
                torch.save(content, path, _use_new_zipfile_serialization=not legacy)
                assert refused(command(module, ".", *arguments)[1], "best.ckpt", "read safely")
        path.write_bytes(pickle.dumps(RunsCode()))
        assert refused(command(module, ".", *arguments)[1], "best.ckpt", "read safely")

    def test_the_report_reads_names_and_numbers_alone(self, stranger, command):
        run = stranger("language")
        printed, error = command("unroll.cli.report", ".")
        assert error is None
        assert "0 of 1" in printed
        assert (run / "report.csv").read_text().startswith("seed,status,")

    @pytest.mark.slow
    @pytest.mark.parametrize("module", [*(module for module, _ in COMMANDS.values()), *FURTHER])
    def test_a_file_with_the_name_of_a_library_is_not_one(self, module, tmp_path):
        """Those that Python itself imports before it looks for a command's package can't be helped."""
        (tmp_path / "probe").mkdir()
        (tmp_path / "probe" / "__init__.py").write_text("import sys\nprint(*sys.modules)\n")
        probed = subprocess.run(
            [sys.executable, "-c", "import runpy; runpy.run_module('probe')"], cwd=tmp_path, capture_output=True
        )
        first = {name.partition(".")[0] for name in probed.stdout.decode().split()}
        libraries = {"numpy", "torch", "polars", "PIL", "onnxruntime", "onnxscript", "uvicorn", "starlette", "hydra"}
        run = tmp_path / "run"
        run.mkdir()
        for name in {*sys.stdlib_module_names, *libraries, "yaml", "omegaconf", "unroll"} - first:
            (run / f"{name}.py").write_text(f"raise SystemExit('ran {name}')\n")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        answer = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=run, env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        assert "usage" in answer.stdout


READ_BY_ALL = ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
FILES = [
    *READ_BY_ALL,
    *(f".hydra/{name}.yaml" for name in ("config", "overrides", "hydra")),
    *("result.json", "metrics.json", "metrics.csv", "failure.json", ".lock", "events.out.tfevents.1.x.1.0"),
    *("model.safetensors", "unroll.json", "model.json", "model.onnx", "run.py", "vocabulary.json"),
    *("evil.py", "torch.py", "checkpoints/evil.py", ".hydra/evil.py"),
]


def put_evil(path, content):
    """Puts something in the place of a file, by its name in `CONTENTS`."""
    path.unlink(missing_ok=True)
    if content == "pickle":
        path.write_bytes(pickle.dumps(RunsCode()))
    elif content == "torch":
        with path.open("wb") as file:  # by its name, torch refuses to write .lock
            torch.save(RunsCode(), file)
    elif content == "bomb":
        bomb(path)
    elif content == "folder":
        path.mkdir()
    elif content in ("device", "nowhere", "itself"):
        path.symlink_to({"device": "/dev/zero", "nowhere": "../none", "itself": path.name}[content])
    else:
        path.write_text(CONTENTS[content])


CONTENTS = {
    "nothing": "",
    "program": "import evil\n\n\nraise SystemExit('ran')\n",
    "YAML": "a: !!python/object/apply:os.system ['touch ../touched']\nb: {_target_: evil.Model}\n",
    "deep": "[" * 100_000,
    **dict.fromkeys(["pickle", "torch", "bomb", "folder", "device", "nowhere", "itself"], ""),
}


class TestEveryCommand:
    """Each command × each file of a run directory × what is in its place: all is used, or refused in a line."""

    @pytest.fixture(params=[*COMMANDS, *FURTHER, "task=evaluate"])
    def ask(self, request, stranger, command):
        """A stranger's run directory, and what gives the error that a command ends with, None if it has answered."""
        kind = request.param if request.param in COMMANDS else "language"
        run = stranger(kind)

        def hub(path):
            step = load_step(path, None, None)
            export_to_hub(step, path, run.parent / "hub")
            shutil.rmtree(run.parent / "hub")

        def asked():
            path = run / "checkpoints" / "best.ckpt"
            in_process = {
                "lm.export": lambda: hub(path),
                "lm.explore": lambda: view_of(load_step(path, None, None), path, None).about,
                "task=evaluate": lambda: program.evaluate(["ckpt=."]),
            }
            if request.param not in in_process:
                module, arguments = COMMANDS.get(request.param, (request.param, []))
                return command(module, ".", *arguments)[1]
            try:
                in_process[request.param]()
            except (UserError, OSError) as error:
                return f"error: {one_line(str(error))}"
            return None

        return run, asked

    def table(self, ask, cases):
        run, asked = ask
        usual = asked()
        for name, content in cases:
            path, kept = run / name, run.parent / "kept"
            if there := path.exists():
                path.rename(kept)
            put_evil(path, content)
            error = asked()
            if error is not None:
                assert refused(error), (name, content)
            if name not in READ_BY_ALL and not name.startswith(".hydra"):
                assert error == usual, (name, content)
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            if there:
                kept.rename(path)

    @pytest.mark.parametrize("every", [18, pytest.param(1, marks=pytest.mark.slow)])
    def test_some(self, ask, every):
        self.table(ask, [*zip(FILES, itertools.cycle(CONTENTS), strict=False)][::every])

    @pytest.mark.slow
    @pytest.mark.timeout(1200)
    def test_all(self, ask):
        self.table(ask, itertools.product(FILES, CONTENTS))


RENAMED = {  # parts of the metadata, by the kind of model: a name with a character that is no letter
    "language": (["vocabulary"], lambda name, letter: name if name == "h" else letter),
    "tags": (["labels"], lambda name, letter: f"B-{letter}{name}"),
    "documents": (["classes"], lambda name, letter: letter + name),
    "series": (["columns", "targets"], lambda name, letter: letter + name),
    "images": (["classes"], lambda name, letter: letter + name),
}


class TestAnswers:
    """What a command prints has names of the checkpoint in it."""

    @pytest.fixture
    def named(self, stranger, command, kind):
        """The answer where names have a character in them."""

        def answer(letter):
            run = stranger(kind)

            def rename(checkpoint):
                data, (parts, renamed) = checkpoint[KEY]["data"], RENAMED[kind]
                data.update({part: [renamed(name, letter) for name in data[part]] for part in parts})

            change(run / "checkpoints" / "best.ckpt", rename)
            (run / "numbers.csv").write_bytes(
                f'"{letter}a","{letter}b"\n'.encode("utf-8", "replace") + b"1.5,2.5\n" * 20
            )
            module, arguments = COMMANDS[kind]
            more = {"language": ["--prompt", "h", "--length", "50"]}.get(kind, [])
            return command(module, ".", *arguments, *more)

        return answer

    def test_a_terminal_is_given_no_control_characters(self, named, monkeypatch):
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        printed, error = named("\x1b")
        assert error is None
        assert "\N{REPLACEMENT CHARACTER}" in printed
        assert "\x1b" not in printed

    def test_a_file_has_them_as_they_are(self, named):
        printed, error = named("\x1b")
        assert error is None
        assert "\x1b" in printed

    def test_what_is_no_unicode_is_printed_as_python_writes_it(self, named, kind):
        printed, error = named("\ud800")
        assert r"\ud800" in printed or (kind == "series" and refused(error, "numbers.csv"))

    def test_nor_is_it_by_what_is_said_of_data(self, capsys):
        say("the columns \x1b[2J")
        assert capsys.readouterr().err == "the columns \N{REPLACEMENT CHARACTER}[2J\n"

    def test_a_window_of_any_size_takes_the_memory_of_the_text(self, stranger, command):
        path = stranger("documents") / "checkpoints" / "best.ckpt"
        expected = command("lm.classify", ".", "-")
        for bptt in (10**6, 10**7):
            change(path, lambda checkpoint, bptt=bptt: checkpoint[KEY]["model"]["arguments"].update(bptt=bptt))
            assert command("lm.classify", ".", "-") == expected


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch ../touched",)


def change(path, edit):
    checkpoint = read(path)
    edit(checkpoint)
    torch.save(checkpoint, path)


# What a checkpoint says of its model and data

HOSTILE = [
    *(None, True, -1, 0, 3, 2**70, 1.5, float("nan"), "", "x\n\x1b]0;y\x07", [], {}, [None], ["a", "b"], [[1]]),
    *({"_target_": "evil.Model"}, {"a": [1]}, torch.ones(2), torch.tensor(3)),
]


def leaves(metadata, path=()):
    """The path of each value in the metadata, dicts included."""
    yield path
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            yield from leaves(value, (*path, key))


def with_leaf(checkpoint, path, value):
    node = checkpoint
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


def try_metadata(kind, path, run, command, values):
    """Gives each part of the metadata other values; returns how many of them the command refused."""
    whole = read(path)
    module, arguments = COMMANDS[kind]
    refusals = tried = 0
    for place in leaves(whole[KEY], (KEY,)):
        for value in values(place):
            damaged = {**whole, KEY: copy.deepcopy(whole[KEY])}
            with_leaf(damaged, place, value)
            torch.save(damaged, path)
            tried += 1
            _, error = command(module, ".", *arguments)
            if error is not None:
                assert refused(error), (place, value)
                refusals += 1
            if kind in ("language", "tags", "documents"):
                with suppress(UserError):
                    view_of(load_step(path, None, None), path, None)
    torch.save(whole, path)
    return refusals, tried


class TestMetadata:
    @pytest.mark.few(2)
    def test_whatever_they_say_is_used_or_refused_in_one_line(self, stranger, command, kind):
        run = stranger(kind)
        draw = numpy.random.default_rng(0)
        refusals, tried = try_metadata(
            kind,
            run / "checkpoints" / "best.ckpt",
            run,
            command,
            lambda place: [HOSTILE[at] for at in draw.choice(len(HOSTILE), 4, replace=False)],
        )
        assert refusals > tried / 2

    @pytest.mark.slow
    def test_all_of_them(self, stranger, command, kind):
        run = stranger(kind)
        refusals, tried = try_metadata(kind, run / "checkpoints" / "best.ckpt", run, command, lambda place: HOSTILE)
        print(f"{kind}: {tried} tried, {refusals} refused")
        assert refusals > tried / 2


SIZES = {  # that a model is made of, by kind
    "language": ("hidden_size", "vocab_size"),
    "tags": ("hidden_size", "characters", "filters"),
    "documents": ("hidden_size", "head_size", "classes"),
    "series": ("features", "horizon", "context", "hidden_size"),
    "images": ("hidden_size", "classes"),
}


class TestSizes:
    """A small file that names large ones."""

    def test_no_memory_is_taken_for_weights_that_the_file_has_not(self, stranger, command, kind):
        run = stranger(kind)
        path = run / "checkpoints" / "best.ckpt"
        whole, before = path.read_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        module, arguments = COMMANDS[kind]
        for name in SIZES[kind]:
            for size in (10**6, 10**9, 10**12):
                change(path, lambda checkpoint, n=name, s=size: checkpoint[KEY]["model"]["arguments"].update({n: s}))
                assert refused(command(module, ".", *arguments)[1], "best.ckpt", "do not fit the model")
                path.write_bytes(whole)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB

    @pytest.mark.few(2)
    def test_lists_that_stand_for_more_than_the_file_has(self, stranger, command, kind):
        path = stranger(kind) / "checkpoints" / "best.ckpt"
        module, arguments = COMMANDS[kind]
        many, itself, deep = ["a"], [], []
        itself.append(itself)
        for _ in range(12):
            many = 10 * [many]
        for _ in range(200):
            deep = [deep]
        for value in (many, itself, deep):
            change(path, lambda checkpoint, value=value: checkpoint[KEY]["data"].update(more=value))
            assert refused(command(module, ".", *arguments)[1], "best.ckpt", "not a checkpoint of this project")
            change(path, lambda checkpoint: checkpoint[KEY]["data"].pop("more"))


class TestWeights:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_those_that_are_not_finite_are_refused(self, stranger, command, kind, value):
        """What is computed from them means nothing."""
        path = stranger(kind) / "checkpoints" / "best.ckpt"

        def spoil(checkpoint):
            name = next(name for name in checkpoint["state_dict"] if "weight" in name)
            checkpoint["state_dict"][name].view(-1)[-1] = value

        change(path, spoil)
        module, arguments = COMMANDS[kind]
        assert refused(command(module, ".", *arguments)[1], "best.ckpt", "are not finite")


class TestBytePairs:
    @pytest.fixture
    def learnt(self):
        pytest.importorskip("tokenizers")
        return json.loads(learn_bpe(["the cat sat on the mat"], 270).model)

    @pytest.mark.parametrize(
        ("name", "value"), [("continuing_subword_prefix", "##"), ("end_of_word_suffix", "the"), ("dropout", 0.5)]
    )
    def test_what_the_library_crashes_over_is_refused(self, learnt, name, value):
        learnt["model"][name] = value
        with pytest.raises(UserError, match=r"not one that data\.tokenizer=bpe has learnt"):
            Tokenizer("bpe", model=json.dumps(learnt)).split("the cat")

    def test_so_is_a_text_that_is_no_unicode(self, learnt):
        tokenizer = Tokenizer("bpe", model=json.dumps(learnt))
        for read_text in (tokenizer.split, Vocabulary.of_counts({}, tokenizer).encode):
            with pytest.raises(UserError, match="no Unicode"):
                read_text("the \udcff cat")


# Archives: checkpoints, and states beside them


def stored(path, content, **settings):
    """The same archive with other settings of each member."""
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(path, "w", **settings) as after:
        for member in before.namelist():
            after.writestr(member, before.read(member))


def bomb(path):
    """A small archive of many bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as member:
        for _ in range(300):
            member.write(bytes(2**20))


def overlapping(path):
    """An archive whose members all are the same bytes of the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(2**16))
        (only,) = archive.filelist
        for number in range(1000):
            again = copy.copy(only)
            again.filename = f"a/{number}"
            archive.filelist.append(again)


class TestArchives:
    @pytest.fixture(params=["checkpoint", "state"])
    def archive(self, request, tmp_path):
        """A whole file, and what reads it."""
        if request.param == "state":
            path = tmp_path / "state.npz"
            save_state((torch.ones(2, 3), {"c": torch.zeros(1, 3, dtype=torch.bfloat16)}), path)
            return path, load_state
        return save_language_model(tmp_path / "some.ckpt", lm.language.GRU), read

    @pytest.mark.parametrize("make", [bomb, overlapping], ids=["compressed", "overlapping"])
    @pytest.mark.few(1)
    def test_one_that_stands_for_more_bytes_than_it_has_is_refused_unread(self, archive, make):
        path, load = archive
        make(path)
        with pytest.raises(UserError, match=rf"^{path}: "):
            load(path)

    def test_a_device_is_no_file(self, archive):
        path, load = archive
        for target in ("/dev/zero", path.parent):
            path.unlink()
            path.symlink_to(target)
            with pytest.raises(UserError, match=rf"^{path}: "):
                load(path)

    def test_a_link_to_a_whole_one_is_read(self, archive):
        path, load = archive
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
        assert load(path)

    def test_objects_among_the_arrays_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "state.npz"
        numpy.savez(path, structure=numpy.array(RunsCode(), dtype=object), allow_pickle=True)
        with pytest.raises(UserError, match="not a state saved by unroll"):
            load_state(path)
        assert not (tmp_path.parent / "touched").exists()


class TestDevices:
    @pytest.fixture(params=["pipe", "device"])
    def endless(self, request, tmp_path):
        """Makes a pipe that nobody writes to, or a link to a device without end."""

        def make(name):
            path = tmp_path / name
            os.mkfifo(path) if request.param == "pipe" else path.symlink_to("/dev/zero")
            return path

        return make

    @pytest.mark.timeout(60)
    @pytest.mark.parametrize(
        ("name", "read_data"),
        [
            ("columns.txt", lambda path: TaggedFiles(train=str(path), columns=None).splits),
            ("text.txt", chunks.whole),
            ("table.csv", lambda path: read_table(str(path), [])),
            ("table.parquet", lambda path: read_table(str(path), [])),
            ("lines.jsonl", lambda path: read_table(str(path), [])),
            ("image.png", lambda path: read_image(path, 8)),
        ],
    )
    def test_what_has_no_end_is_no_data(self, endless, name, read_data):
        with pytest.raises(UserError, match=f"{name}: not a file") as caught:
            read_data(endless(name))
        assert refused(f"error: {caught.value}", name)


@pytest.mark.parametrize("kind", ["lm.language.TextFiles", "lm.tagging.TaggedFiles", "series.SeriesFiles"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_number_is_no_name_of_a_file(kind, split):
    room, _, name = kind.rpartition(".")
    files = {"train": "some.txt", split: 2020}
    with pytest.raises(ArgumentError, match=f"^{split}=2020: must be a file's name; one like 2020 is typed ./2020"):
        getattr(import_module(f"{room}.data"), name)(**files)


class TestDataInArchives:
    """A data set's archive that stands for more than memory has; the limit is lowered for the test."""

    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch):
        monkeypatch.setattr(archives, "LARGEST_UNPACKED", 10**6)

    @pytest.mark.parametrize(
        ("name", "read_data"),
        [
            ("ptb/ptb.train.txt", lambda path: penn.part(path, "ptb.train.txt")),
            ("movie_reviews/neg/cv000_1.txt", lambda path: list(reviews(path))),
            ("conll2000/train.txt", lambda path: CoNLL2000._text(path, "train.txt")),
        ],
    )
    def test_zip(self, tmp_path, name, read_data):
        path = tmp_path / "data.zip"
        for size in (10**5, 10**7):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(name, b"a" * size)
            if size < 10**6:
                assert read_data(path)
        with pytest.raises(UserError, match=r"data\.zip: cannot be read \(it stands for more than"):
            read_data(path)
        content = path.read_bytes().replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
        )
        content = content.replace((10**7).to_bytes(4, "little"), (10**5).to_bytes(4, "little"))
        path.write_bytes(content)  # that says it were small, and encrypted
        with pytest.raises(UserError, match=r"data\.zip: cannot be read"):
            read_data(path)

    @pytest.mark.parametrize("header", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
    @pytest.mark.parametrize("name", ["data_batch_1.bin", "other"])
    def test_tar(self, tmp_path, header, name):
        path = tmp_path / "data.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for number in range(2):
                member = tarfile.TarInfo(f"{number}/{name}")
                member.size, member.type = 10**7, header
                archive.addfile(member, io.BytesIO(bytes(10**7)))
        with pytest.raises(UserError, match=r"data\.tar\.gz: not an archive that can be read \(it stands for more"):
            read_cifar10(path)


# Run directories: their configuration, results and links


@pytest.fixture(scope="module")
def settings():
    """What `.hydra/` of a run has."""
    config = composed("model=gru", return_hydra_config=True).copy()
    OmegaConf.set_struct(config, False)
    choices = {"hydra": {"runtime": {"choices": {"model": "gru"}}}}
    del config["hydra"]
    return {"config": OmegaConf.to_yaml(config), "overrides": "- model=gru\n", "hydra": yaml.safe_dump(choices)}


@pytest.fixture
def run(tmp_path, settings, monkeypatch):
    """A run directory with an untrained checkpoint, made by hand."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    save_language_model(folder / "checkpoints" / "best.ckpt", lm.language.GRU)
    for name, content in settings.items():
        (folder / ".hydra" / f"{name}.yaml").write_text(content)
    result = {"status": "finished", "metrics": {"valid/loss": 1.5}, "seconds": 2.0, "tokens_per_second": 3.0}
    (folder / "result.json").write_text(json.dumps({**result, "epochs": 1, "steps": 2}))
    (tmp_path / "evil.py").write_text(EVIL.format(str(tmp_path / "touched")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    assert not (tmp_path / "touched").exists()
    assert "evil" not in sys.modules


BOMB = "a: &a [1,1,1,1,1,1,1,1]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 8)}]\n" for a, b in pairwise("abcdefghijkl")
)
NOT_SETTINGS = {
    "nothing": "",
    "a list": "- 1\n",
    "a number": "3\n",
    "bytes": "\x00\x01",
    "no YAML": "data: [",
    "Python": "data: !!python/object/apply:os.system ['touch touched']\n",
    "aliases": BOMB,
    "depth": "data: " + "[" * 3000 + "]" * 3000 + "\n",
    "other keys": "data: 3\nmodel: 4\n",
}


GROWING = {  # values beside `${b12}`
    "text": {"b0": "x", **{f"b{number + 1}": 10 * f"${{b{number}}}" for number in range(12)}},
    "backwards": {**{f"b{number + 1}": 10 * f"${{b{number}}}" for number in reversed(range(12))}, "b0": "x"},
    "lists": {"b0": "x", **{f"b{number + 1}": 10 * [f"${{b{number}}}"] for number in range(12)}},
    "beside each other": {"b12": {"a0": "x", **{f"a{at + 1}": 10 * f"${{.a{at}}}" for at in range(12)}}},
    "names with dots": {
        "b0": "x",
        **{f"b{at + 1}": {f"x.{part}": f"${{b{at}}}" for part in range(10)} for at in range(12)},
    },
    "resolvers": {"b0": "x", **{f"b{at + 1}": 10 * f"${{oc.select:b{at},3}}" for at in range(12)}},
    "names put together": {"b12": "${a.${c}}", "c": "x", "a": {"x": "x"}},
    "itself": {"b12": "${c}", "c": "${b12}"},
    "the part itself": {"b12": {"a": "${b12}"}},
    "the end of a part": {"data": "${b12}", "b0": "x", **{f"b{at + 1}": 10 * f"${{b{at}}}" for at in range(12)}},
}


class TestSettings:
    @pytest.mark.parametrize("content", NOT_SETTINGS.values(), ids=NOT_SETTINGS)
    @pytest.mark.few(3)
    def test_what_is_none_is_refused_in_one_line(self, run, content):
        (run / ".hydra" / "config.yaml").write_text(content)
        for read_run in (lambda: evaluation.configuration(["ckpt=run"]), lambda: run_directory.load(run, [])):
            with pytest.raises(UserError, match=r"config\.yaml: not a file that a run has written, or damaged$"):
                read_run()
        (run / ".hydra" / "config.yaml").unlink()
        with pytest.raises(UserError, match="not a run directory"):
            run_directory.load(run, [])

    @pytest.mark.parametrize("name", GROWING)
    @pytest.mark.few(3)
    def test_values_that_stand_for_billions_of_letters_are_refused(self, run, settings, name):
        config = yaml.safe_load(settings["config"])
        config["data"]["tokenizer"] = "${b12}"
        config.update(GROWING[name])
        (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for read_run in (lambda: evaluation.configuration(["ckpt=run"]), lambda: run_directory.load(run, [])):
            with pytest.raises(
                UserError, match=r"config\.yaml: its values refer to each other without end, or stand for"
            ):
                read_run()

    @pytest.mark.parametrize(
        "more",
        [
            "hydra:\n  searchpath: ['pkg://evil']\n",
            "defaults:\n- evil: evil\n- _self_\n",
            "defaults:\n- _self_\nhydra:\n  searchpath: ['pkg://evil']\n  job_logging:\n    _target_: evil.Model\n",
        ],
    )
    def test_hydra_takes_no_choices_from_a_run(self, run, settings, more):
        """It would import a package that its search path names."""
        (run / ".hydra" / "config.yaml").write_text(settings["config"] + more)
        assert evaluation.configuration(["ckpt=run"]).data.numbers.train == [1, 7999]
        config, typed = run_directory.load(run, [])
        assert "hydra" not in config
        assert typed == ["model=gru"]

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("model._target_", "evil.Model", "model: the run names evil.Model"),
            ("model._args_", [{"_target_": "evil.Model"}], r"model\._args_\[0\]: the run names evil.Model"),
            ("model.hidden_size", {"a": [{"_target_": "os.system"}]}, r"hidden_size\.a\[0\]: the run names os.system"),
            ("data._target_", "hydra.utils.get_object", "data: the run names hydra.utils.get_object"),
            ("learner.objective._target_", "torch.load", r"learner\.objective: the run names torch.load"),
            ("optimizer._target_", "evil${oc.env:NOTHING,.}Model", "optimizer: the run names evil.Model"),
            ("schedule._target_", "subprocess.run", "schedule: the run names subprocess.run"),
            ("trainer.plugins", {"_target_": "evil.Model"}, r"trainer\.plugins: the run names evil.Model"),
            # What our files name in other places:
            ("optimizer._target_", "lm.language.data.Nietzsche", "optimizer: the run names lm.language.data.Nietzsche"),
            ("data.train", {"_target_": "series.backtest.Backtest"}, r"data\.train: the run names series.backtest"),
            (
                "data.url",
                "https://stranger.example/evil.py",
                "data.url: the run names https://stranger.example/evil.py",
            ),
        ],
    )
    @pytest.mark.few(3)
    def test_an_evaluation_builds_and_downloads_nothing_that_the_run_alone_names(
        self, run, settings, key, value, words
    ):
        config = OmegaConf.create(settings["config"])
        OmegaConf.update(config, key, value, force_add=True)
        OmegaConf.save(config, run / ".hydra" / "config.yaml")
        found = evaluation.configuration(["ckpt=run"])
        with pytest.raises(UserError, match=words):
            evaluation.refuse_unknown(found, ["ckpt=run"])

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("optimizer._partial_", "x"),
            ("schedule._partial_", 5),
            ("model", {"compile": False}),
            ("model._target_", "torch..nn"),
            ("learner.objective", "x"),
            ("data.numbers", 5),
            *(("trainer." + name, 1e9) for name in ("max_time", "model_registry", "gradient_clip_algorithm")),
            ("trainer.benchmark", "x"),
            ("trainer.accelerator", "tpu"),
        ],
    )
    def test_values_of_another_type_are_refused_in_one_line(self, settings, key, value):
        config = OmegaConf.create(settings["config"])
        OmegaConf.update(config, "data.numbers", {"train": [1, 99], "valid": [1, 99]})
        OmegaConf.update(config, "run_dir", "run")
        OmegaConf.update(config, key, value, merge=False)
        with pytest.raises(UserError) as caught:  # noqa: PT012
            build.learner(config, build.data(config))
            build.trainer(config)
        assert refused(f"error: {one_line(str(caught.value))}", key.split(".")[0])

    def test_what_the_user_names_is_taken(self, run, settings):
        config = OmegaConf.create(settings["config"])
        config.data.url = "https://stranger.example/text"
        config.model._target_ = "mine.Model"
        OmegaConf.save(config, run / ".hydra" / "config.yaml")
        typed = ["ckpt=run", "data.url=https://stranger.example/text", "model._target_=mine.Model"]
        evaluation.refuse_unknown(evaluation.configuration(typed), typed)

    def test_a_run_does_not_say_where_an_evaluation_writes_and_what_it_starts(self, run, settings):
        config = OmegaConf.create(settings["config"])
        config.data.cache = config.run_dir = config.trainer.default_root_dir = "elsewhere"
        config.trainer.update(devices=1000, num_nodes=1000, strategy="ddp")
        config.evaluate = {"_target_": "series.backtest.Backtest", "folder": "elsewhere"}
        OmegaConf.save(config, run / ".hydra" / "config.yaml")
        found = evaluation.configuration(["ckpt=run"])
        assert "elsewhere" not in OmegaConf.to_yaml(found)
        assert (found.data.cache, found.evaluate, found.run_dir) == (None, None, str(run))
        assert [found.trainer[name] for name in ("devices", "num_nodes", "strategy")] == [1, 1, "auto"]
        assert evaluation.configuration(["ckpt=run", "data.cache=mine"]).data.cache == "mine"
        assert evaluation.configuration(["ckpt=run", "trainer.devices=2"]).trainer.devices == 2
        assert evaluation.configuration(["ckpt=run", "trainer=ddp"]).trainer.devices == 2
        assert evaluation.configuration(["ckpt=run", "evaluate=backtest"]).evaluate.folder == str(run)

    def test_a_directory_that_was_moved_or_copied_after_it_was_extended_is_resumed_where_it_is(self, run, monkeypatch):
        resumed = []

        def train(config, *arguments, once_begun, **settings):
            resumed.append(OmegaConf.to_yaml(config))
            once_begun()

        monkeypatch.setattr(program, "train", train)
        program.resume(run, ["trainer.max_epochs=2"])
        other = run.with_name("other")
        shutil.copytree(run, other)
        program.resume(other, ["trainer.max_epochs=3"])
        assert str(run) in resumed[0]
        assert str(run) not in resumed[1]
        assert resumed[1] == resumed[0].replace(str(run), str(other)).replace("max_epochs: 2", "max_epochs: 3")

    def test_the_whole_command(self, run, settings, train, tmp_path):
        """Of an evaluation of a stranger's run: its own model is read by our classes, whatever it names."""
        config = OmegaConf.create(settings["config"])
        config.hydra = {"searchpath": ["pkg://evil"]}
        config.model._target_ = "vision.models.ConvNet"  # a class that our files name, in the place of another
        OmegaConf.save(config, run / ".hydra" / "config.yaml")
        answer = train("task=evaluate", "ckpt=run", path=tmp_path)
        assert answer.returncode == 1
        assert re.fullmatch(r"error: .*best\.ckpt: its weights do not fit the model ConvNet .*\n", answer.stderr)


class TestReport:
    def test_directories_that_can_be_read_are_reported_beside_those_that_cannot(self, run, settings, capsys):
        for number, name in enumerate(settings):
            for at, content in enumerate([*NOT_SETTINGS.values()][number::3]):
                hydra = run.parent / f"other{number}{at}" / ".hydra"
                hydra.mkdir(parents=True)
                for each, text in settings.items():
                    (hydra / f"{each}.yaml").write_text(content if each == name else text)
        runs = write_report([run.parent], run.parent)
        assert [each.status for each in runs if each.directory == run] == ["finished"]
        assert {each.status for each in runs if each.directory != run} == {"damaged", "unfinished"}
        damaged = [each for each in runs if each.status == "damaged"]
        assert len(damaged) >= 7
        assert all(each.error.endswith("not a file that a run has written, or damaged") for each in damaged)
        said = capsys.readouterr().err.splitlines()
        assert all(any(line.startswith(f"{each.directory}: damaged") for line in said) for each in damaged)

    @pytest.mark.parametrize("name", ["result.json", "failure.json", "metrics.json", "metrics.csv"])
    def test_results_of_any_content(self, run, name):
        numbers = '{"valid/loss": 1e999, "a": NaN, "b": ' + "9" * 400 + ', "c": "x", "d": [1], "$e$": true}'
        results = [f'{{"status": "finished", "metrics": {numbers}, "seconds": {{}}, "x_per_second": "fast"}}']
        results += ['{"status": ["finished"], "metrics": [1]}', '{"error": {"a": "\\n\\u001b"}}', '{"valid/loss": 3}']
        for content in ["", "[]", "3", "null", '"x"', "{", "[" * 100_000, "\x00\xff", *results]:
            (run / name).write_text(content, encoding="latin-1")
            runs = find_runs([run])
            assert runs[0].status in ("finished", "unfinished", "failed")
            assert all(isinstance(value, (int, float, type(None))) for value in runs[0].metrics.values())
            assert "\x1b" not in markdown(ranked_settings(runs, [], "seconds"), []) + runs[0].error
            finished = run_directory.finished(run, composed("model=gru", "trainer.max_epochs=1"), [])
            assert (finished is not None) == (name != "result.json")

    def test_overrides_that_nobody_typed(self, run):
        strange = ["a=1,2", "a=[1,2", "data.bptt", "", "a=${b", "$x$=$y$", "a=$\\frac$", "x\x1b=1", "a.b=\x1b"]
        for number, override in enumerate(strange):
            other = run.with_name(f"other{number}")
            shutil.copytree(run, other)
            (other / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([override, "data.bptt=$x$"]))
        runs = write_report([run.parent], run.parent)
        assert len(runs) == 1 + len(strange)
        assert "\x1b" not in (run.parent / "report.md").read_text()

    def test_files_that_its_links_lead_to_stay_as_they_are(self, run):
        mine = run.parent / "mine.txt"
        mine.write_text("mine")
        for name in ("report.csv", "report.md", "report.png"):
            (run / name).symlink_to(mine)
            (run / f"{name}.tmp").symlink_to(mine)
        write_report([run], run)
        assert mine.read_text() == "mine"
        assert (run / "report.md").read_text().startswith("# Report")

    def test_names_are_text_wherever_the_report_is_shown(self, run, capsys):
        names = ["=1+1", "@x", "\x1b]0;y\x07", "a\n\n# b", "\ud800", "<script>x</script>", "|", "`x", "![x](http://x)"]
        result = {"status": "finished", "metrics": {"valid/loss": 1.5, **dict.fromkeys(names, 2)}}
        (run / "result.json").write_text(json.dumps(result))
        other = run.with_name("=²\udcff\x1b|<b>")
        shutil.copytree(run, other)
        (other / ".hydra" / "overrides.yaml").write_text("- data.bptt='=2+3'\n- data.jitter=-2\n")
        write_report([run.parent], run.parent)
        page, printed = (run.parent / "report.md").read_text(), capsys.readouterr().out
        for text in (page, printed):
            table = [line for line in text.splitlines() if line.startswith("| ")]
            assert len(table) == 4
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
            assert not set("\x1b\x07\ud800") & set(text)
            assert not re.search(r"(?<!\\)<|(?<![\\)])`x|(?<!\\)\]\(http", text)
        with open(run.parent / "report.csv", newline="", encoding="utf-8") as file:
            titles, *rows = csv.reader(file)
        assert {"'=1+1", "'@x", "]0;y", "a # b"} <= set(titles)
        assert ["'=2+3", "-2"] in [row[:2] for row in rows]

    @pytest.mark.parametrize("value", [1.7e308, -1.7e308, 10**308, 10**30])
    def test_numbers_of_any_size(self, run, value):
        other = run.with_name("other")
        shutil.copytree(run, other)
        for folder, sign in ((run, 1), (other, -1)):
            (folder / "result.json").write_text(
                json.dumps({"status": "finished", "metrics": {"valid/loss": sign * value}})
            )
        assert find_runs([run.parent])[0].metrics["valid/loss"] == -value
        write_report([run.parent], run.parent)
        (other / ".hydra" / "overrides.yaml").write_text(f"- data.bptt={value}\n- model=gru\n")
        write_report([run.parent], run.parent)

    def test_what_a_configuration_refers_to_is_not_looked_up_beyond_it(self, run, monkeypatch):
        """Else a stranger's run could have an environment variable put into a table that is shown to others."""
        monkeypatch.setenv("SECRET", "secret")
        bomb = "".join(f"b{number + 1}: {10 * f'${{b{number}}}'}\n" for number in range(12))
        references = {
            "${oc.env:SECRET}": "${oc.env:SECRET}",
            "x${oc.env:SECRET}": "x${oc.env:SECRET}",
            "${b12}": 10 * "${b11}",
            "${seed}": "0",
            "${c1}": "3",
        }
        config = run / ".hydra" / "config.yaml"
        content = config.read_text() + "b0: x\n" + bomb + "c1: ${c2}\nc2: 3\n"
        for number, reference in enumerate(references):
            other = run.with_name(f"other{number}")
            shutil.copytree(run, other)
            (other / ".hydra" / "config.yaml").write_text(re.sub(r"bptt: \d+", f"bptt: {reference}", content))
            (other / ".hydra" / "hydra.yaml").write_text("hydra:\n  runtime:\n    choices: ${b12}\n")
        (run / ".hydra" / "overrides.yaml").write_text("- data.bptt=8\n")
        runs = find_runs([run.parent])
        assert [str(each.value("data.bptt")) for each in runs] == [*references.values(), "8"]
        config.write_text(re.sub(r"bptt: \d+", "bptt: ${c1}", content.replace("c2: 3", "c2: ${c1}")))
        (run / ".hydra" / "overrides.yaml").write_text("[]")
        with pytest.raises(UserError, match=r"data\.bptt can't be read \(it refers to \${c[12]}\)"):
            find_runs([run])[0].value("data.bptt")

    @pytest.mark.parametrize(
        "content", ["hydra:\n  runtime: [1]\n", "hydra: ${a}\n", "hydra:\n  runtime: ${oc.env:A}\n"]
    )
    def test_choices_of_any_form(self, run, content):
        (run / ".hydra" / "hydra.yaml").write_text(content)
        assert find_runs([run])[0].choices == {}

    def test_a_value_that_refers_to_nothing_is_named(self, run):
        other = run.with_name("other")
        shutil.copytree(run, other)
        (other / ".hydra" / "overrides.yaml").write_text("- data.bptt=3\n")
        config = run / ".hydra" / "config.yaml"
        config.write_text(re.sub(r"bptt: \d+", "bptt: ${not.there}", config.read_text()))
        with pytest.raises(UserError, match=r"data\.bptt can't be read"):
            write_report([run, other], run.parent)


class TestLinks:
    """Files of a run directory that are links to the user's own."""

    @pytest.fixture
    def linked(self, tmp_path):
        """Puts a link to a file of the user's, or to where there is none, in the place of a file."""
        mine = tmp_path / "mine.txt"
        mine.write_text("mine")

        def put(path, target=mine):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(target)

        yield put
        assert mine.read_text() == "mine"
        assert not (tmp_path / "none").exists()

    def test_a_lock_is_taken_on_no_link(self, run, linked, tmp_path):
        for target in (tmp_path / "mine.txt", tmp_path / "none", "/dev/zero"):
            linked(run / ".lock", target)
            with pytest.raises(OSError, match=r"\.lock"), run_directory.lock(run):
                pass

    @pytest.mark.parametrize("name", ["checkpoints", ".hydra", "deep/er"])
    def test_folders_that_are_links_are_refused(self, run, name):
        folder, outside = run / name, run.parent / "outside"
        folder.mkdir(parents=True, exist_ok=True)
        folder.rename(outside)
        folder.symlink_to(outside)
        for start in (lambda: program.evaluate(["ckpt=run"]), lambda: program.train(None, run, [], continues=True)):
            with pytest.raises(UserError, match=f"run/{name}: a link out of the run directory"):
                start()
        folder.unlink()
        outside.rename(run / "kept")
        folder.symlink_to(run / "kept")
        run_directory.refuse_links(run)

    @pytest.mark.slow
    def test_what_a_run_leaves_replaces_them(self, train, tmp_path, linked):
        """All files that a run has written are links when it is resumed."""
        (tmp_path / "reviews.jsonl").write_text(
            "\n".join(json.dumps({"text": text, "label": label}) for text, label in samples.reviews(80))
        )
        small = ["model=classifier", "data=documents", "data.train=reviews.jsonl", "model.hidden_size=8"]
        first = train(*small, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "hydra.run.dir=run")
        assert first.returncode == 0, first.stderr
        written = {path for path in (tmp_path / "run").rglob("*") if path.is_file()}
        for path in written:
            kept = tmp_path / "kept" / path.relative_to(tmp_path)
            kept.parent.mkdir(parents=True, exist_ok=True)
            if path.name != ".lock":
                path.rename(kept)
                linked(path, kept)
        before = {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file()}
        second = train("resume=run", "trainer.max_epochs=2")
        assert second.returncode == 0, second.stderr
        assert {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file()} == before
        rewritten = {path.name for path in written if not path.is_symlink()}
        assert {"mistakes.md", "curves.png", "metrics.csv", "result.json", "last.ckpt"} <= rewritten
