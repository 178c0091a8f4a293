"""What a stranger hands on runs nothing: checkpoints, run directories, and what else lies around them."""

import copy
import functools
import io
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from importlib import import_module

import numpy
import pytest
import torch
import yaml
from helpers.processes import ROOT
from helpers.small_models import (
    save_classifier,
    save_forecaster,
    save_image_classifier,
    save_language_model,
    save_tagger,
)
from PIL import Image

import lm.language
from lm.explore.models import view_of
from lm.export.steps import load_step
from unroll.cli import run_directory
from unroll.errors import UserError
from unroll.resume.checkpoint import KEY, read

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
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
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
