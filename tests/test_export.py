"""Checkpoints as ONNX and PT2 files: they agree with the model, and `run.py` does what our own commands do."""

import json
import shutil
import subprocess
import sys
from functools import partial

import numpy
import pytest
import torch
from helpers.small_models import (
    CHARACTERS,
    SPLIT,
    TEXT,
    WORDS,
    of_text,
    save,
    save_classifier,
    save_language_model,
    save_tagger,
)
from torch import nn

import lm.language
from lm.documents.model import BODIES
from lm.export import __main__ as command
from lm.export.hub import export_to_hub
from lm.export.steps import load_step
from lm.language.checkpoint import TrainedLanguageModel
from lm.tagging.model import LAYERS
from unroll.errors import UserError
from unroll.resume.checkpoint import KEY, checkpoint_file, describe

pytest.importorskip("onnxruntime")


@pytest.fixture
def language_model(tmp_path):
    return partial(save_language_model, tmp_path / "lm.ckpt")


@pytest.fixture
def tagger(tmp_path):
    return partial(save_tagger, tmp_path / "tagger.ckpt")


@pytest.fixture
def classifier(tmp_path):
    return partial(save_classifier, tmp_path / "classifier.ckpt")


def exported(path, folder, form="onnx", window=None, **more):
    return command.export(load_step(path, None, window), folder, form, **more)


def ran(folder, *arguments, input=""):
    """`python run.py …`, where nothing of this project can be imported."""
    command = [sys.executable, *["-P"][: sys.version_info >= (3, 11)], "run.py", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, input=input, capture_output=True, text=True, timeout=200, env={})


STATELESS = [getattr(lm.language, name) for name in ("Unrolled", "Loop", "MultiOutput", "CharThree", "CharLoop")]
STATELESS += [getattr(lm.language, name) for name in ("CharConcat", "CharRNN", "CharSeq")]
QUICK = lm.language.Loop
MODELS = [getattr(lm.language, name) for name in lm.language.__all__]


@pytest.fixture(scope="module")
def exported_gru(tmp_path_factory):
    """The checkpoint of a language model of characters, the folder that it is exported to, and what is said."""
    folder = tmp_path_factory.mktemp("gru")
    path = save_language_model(folder / "lm.ckpt", lm.language.GRU)
    return path, folder / "out", exported(path, folder / "out")


class TestAgreement:
    """`export` raises unless the file and the model agree over 500 carried steps, of one row and of three."""

    @pytest.mark.slow  # by default, TestRunner and TestCommand have one each
    @pytest.mark.parametrize("model", MODELS)
    def test_every_language_model(self, language_model, tmp_path, model):
        said = exported(language_model(model), tmp_path / "out")
        steps = "100 windows of 3" if model in STATELESS else "500 carried steps"
        assert said[0].startswith(f"agrees with PyTorch over {steps}: scores differ by")
        assert said[1] == "run.py writes the same 200 tokens as lm.generate --greedy"

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "settings",
        [{"head": "adaptive"}, {"tie": True}, {"norm": True}, {"tie": True, "head": "adaptive"}, {"last_size": 8}],
    )
    def test_every_head(self, language_model, tmp_path, settings):
        exported(language_model(lm.language.AWDLSTM, WORDS, **settings), tmp_path / "out")

    @pytest.mark.parametrize(
        "settings",
        [
            {"bidirectional": False},
            {"crf": True},
            {"crf": True, "bidirectional": False, "extras": True},
            *({"body": body} for body in LAYERS),
            *({"body": body, "bidirectional": False} for body in LAYERS),
        ],
    )
    @pytest.mark.slow
    def test_taggers_of_streams_and_of_sentences(self, tagger, tmp_path, settings):
        window = None if settings == {"bidirectional": False} else 1 if not settings.get("bidirectional", True) else 12
        exported(tagger(**settings), tmp_path / "out", window=window if "crf" not in settings else 12)

    @pytest.mark.slow
    @pytest.mark.parametrize("body", BODIES)
    def test_classifiers(self, classifier, tmp_path, body):
        exported(classifier(body=body), tmp_path / "out")

    @pytest.mark.slow
    @pytest.mark.parametrize("model", [lm.language.GRU, lm.language.QRNN])
    def test_windows_of_several_tokens(self, language_model, tmp_path, model):
        said = exported(language_model(model), tmp_path / "out", window=7)
        assert "run.py is left out" in said[1]
        assert json.loads((tmp_path / "out" / "model.json").read_text())["window"] == 7

    def test_pt2(self, language_model, tmp_path):
        (said,) = exported(language_model(QUICK), tmp_path / "out", "pt2")
        assert said.startswith("agrees")
        assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.json", "model.pt2"]

    @pytest.mark.slow
    def test_a_file_that_is_wrong_is_not_written(self, language_model, tmp_path, monkeypatch):
        """As the GRU is in onnxscript's issue 2852: the same but for one gate."""
        step = load_step(language_model(lm.language.GRU), None, None)
        write = command.write_onnx

        def wrong(step, program, path):
            with torch.no_grad():
                step.model.rnn.bias_hh_l1.add_(0.01)  # the file has it, the model it is compared with does not
            write(step, command.exported(step), path)
            with torch.no_grad():
                step.model.rnn.bias_hh_l1.sub_(0.01)

        monkeypatch.setattr(command, "write_onnx", wrong)
        with pytest.raises(UserError, match=r"the file and the model differ: scores by up to .*; nothing was written"):
            command.export(step, tmp_path / "out", "onnx")
        assert not (tmp_path / "out").exists()


class TestRunner:
    def test_it_is_short(self):
        assert len(command.RUNNER.read_text(encoding="utf-8").splitlines()) <= 80

    def test_it_writes_what_generate_writes(self, exported_gru, program):
        path, folder, said = exported_gru
        assert said[0].startswith("agrees with PyTorch over 500 carried steps: scores differ by")
        assert said[1] == "run.py writes the same 200 tokens as lm.generate --greedy"
        typed = ["--prompt", "the cat", "--length", 30, "--greedy"]
        alone, ours = ran(folder, *typed), program("lm.generate", path, *typed)
        assert (alone.returncode, alone.stderr) == (0, "")
        assert alone.stdout == ours.stdout

    @pytest.mark.slow
    @pytest.mark.parametrize(("vocabulary", "prompt"), [(WORDS, "the cat"), (SPLIT, "the cat\nsat")])
    def test_it_writes_the_words_that_generate_writes(self, language_model, tmp_path, program, vocabulary, prompt):
        path = language_model(lm.language.AWDLSTM, vocabulary)
        exported(path, tmp_path / "out")
        typed = ["--prompt", prompt, "--length", 30, "--greedy"]
        alone, ours = ran(tmp_path / "out", *typed), program("lm.generate", path, *typed)
        assert (alone.returncode, alone.stderr) == (0, "")
        assert alone.stdout == ours.stdout
        first, second = (ran(tmp_path / "out", "--length", 50, "--seed", 3).stdout for _ in range(2))
        assert first == second != ran(tmp_path / "out", "--length", 50, "--seed", 4).stdout
        unknown = ran(tmp_path / "out", "--prompt", "the zebra")
        assert unknown.returncode == 2
        assert "none that the model does not know: ['zebra']" in unknown.stderr

    def test_a_state_is_saved_and_gone_on_from(self, exported_gru):
        _, folder, _ = exported_gru
        whole = ran(folder, "--prompt", "the cat", "--length", 40, "--greedy").stdout
        begun = ran(folder, "--prompt", "the c", "--length", 0, "--save", "at_c.npz")
        assert begun.stdout == "the c\n"
        rest = ran(folder, "--load", "at_c.npz", "--prompt", "at", "--length", 40, "--greedy")
        assert "the c" + rest.stdout == whole

    @pytest.mark.slow
    @pytest.mark.parametrize("settings", [{"bidirectional": False}, {"crf": True, "bidirectional": False}])
    def test_it_labels_what_tag_labels(self, tagger, tmp_path, program, settings):
        path = tagger(**settings)
        exported(path, tmp_path / "out", window=16 if "crf" in settings else None)
        text = "The cat had 333 cats-and-dogs-and-more-of-them .\n\nthe zebra\n"
        expected = program("lm.tag", path, input=text)
        assert expected.returncode == 0, expected.stderr
        assert len(expected.stdout.splitlines()) > 10
        found = ran(tmp_path / "out", input=text)
        assert (found.stderr, found.stdout) == ("", expected.stdout)

    @pytest.mark.slow
    def test_further_columns_stand_behind_a_slash(self, tagger, tmp_path, program):
        path = tagger(extras=True)
        exported(path, tmp_path / "out", window=8)
        columns = "The DT\ncat NN\n1/2 CD\n\n"
        expected = program("lm.tag", path, "--columns", "word,pos", input=columns)
        assert expected.returncode == 0, expected.stderr
        found = ran(tmp_path / "out", input="The/DT cat/NN 1/2/CD\n").stdout
        assert [line.split()[::2] for line in expected.stdout.splitlines()] == [
            line.split() for line in found.splitlines()
        ]

    @pytest.mark.slow
    @pytest.mark.parametrize("backwards", [False, True])
    def test_it_classifies_what_classify_does(self, classifier, tmp_path, program, backwards):
        path = classifier(backwards)
        exported(path, tmp_path / "out")
        (tmp_path / "review.txt").write_text("the dog sat and ran to the zebra " * 4)
        expected = program("lm.classify", path, "review.txt").stdout
        assert f"review.txt: {ran(tmp_path / 'out', input=(tmp_path / 'review.txt').read_text()).stdout}" == expected


class Nested(nn.Module):
    """A language model of one's own, whose state is a nest."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, 8)
        self.cells = nn.ModuleList(nn.GRUCell(8, 8) for _ in range(2))
        self.head = nn.Linear(8, vocab_size)

    def forward(self, tokens, state=None):
        hs = [tokens.new_zeros(len(tokens), 8).float()] * 2 if state is None else [state["low"][0], state["more"][0][0]]
        outputs = []
        for x in self.embed(tokens).unbind(1):
            hs[0] = self.cells[0](x, hs[0])
            hs[1] = self.cells[1](hs[0], hs[1])
            outputs.append(self.head(hs[1]))
        return torch.stack(outputs, 1), {"low": hs[0].unsqueeze(0), "more": (hs[1].unsqueeze(0),)}


@pytest.mark.slow
def test_a_model_of_ones_own_whatever_the_nest_of_its_state(tmp_path):
    data = {**of_text(CHARACTERS), "context": 3, "prompt": "the", "excerpt": TEXT}
    arguments = {"vocab_size": len(CHARACTERS)}
    path = save(tmp_path / "own.ckpt", Nested(**arguments), arguments, data)
    said = command.export(load_step(path, Nested, None), tmp_path / "out", "onnx")
    assert said[0].startswith("agrees")


class Specialised(Nested):
    """It reads the number of rows as a number, which torch.export then takes for fixed."""

    def forward(self, tokens, state=None):
        scores, state = super().forward(tokens, state)
        return scores * torch.arange(1, len(tokens) + 1)[:, None, None], state


def test_a_model_that_cannot_be_exported_ends_in_one_line(tmp_path):
    data = {**of_text(CHARACTERS), "context": 3, "prompt": "the", "excerpt": TEXT}
    arguments = {"vocab_size": len(CHARACTERS)}
    path = save(tmp_path / "own.ckpt", Specialised(**arguments), arguments, data)
    with pytest.raises(UserError, match=r"^Specialised can't be exported by torch: .+") as caught:
        command.export(load_step(path, Specialised, None), tmp_path / "out", "onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_export_leaves_nothing_of_an_earlier_one(language_model, tmp_path):
    exported(language_model(lm.language.Loop), tmp_path / "out", int8=True)
    (tmp_path / "out" / "mine.txt").touch()
    exported(language_model(lm.language.Loop), tmp_path / "out", "pt2")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["mine.txt", "model.json", "model.pt2"]


@pytest.mark.slow
def test_weights_of_8_bits_and_what_they_cost(language_model, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    *_, said = exported(
        language_model(lm.language.GRU, hidden_size=64), tmp_path / "out", int8=True, text=tmp_path / "text.txt"
    )
    assert "loss over the first tokens of text.txt" in said
    files = {file.name: file.stat().st_size for file in (tmp_path / "out").glob("*.onnx")}
    assert files["model_int8.onnx"] < 0.6 * files["model.onnx"]
    assert ran(tmp_path / "out", "--model", "model_int8.onnx", "--length", 5).returncode == 0


class TestCommand:
    @pytest.mark.slow
    def test_from_the_command_line(self, language_model, tmp_path, program):
        finished = program("lm.export", language_model(QUICK), "out")
        assert finished.returncode == 0, finished.stderr
        lines = finished.stdout.splitlines()
        assert lines[0].startswith("agrees with PyTorch over 100 windows of 3: scores differ by")
        assert lines[1] == "run.py writes the same 200 tokens as lm.generate --greedy"
        assert lines[-1] == "everything is in out"
        assert json.loads((tmp_path / "out" / "model.json").read_text())["states"] == {}

    @pytest.mark.parametrize(
        ("typed", "words"),
        [
            (["none.ckpt", "out"], "none.ckpt: there is no such file"),
            (["lm.ckpt", "out", "--window", "0"], "--window 0: must be 1 or more"),
            (
                ["lm.ckpt", "out", "--window", "4"],
                "--window: this model carries no state; it reads windows of 3 tokens",
            ),
            (["lm.ckpt", "out", "--format", "pt2", "--int8"], "--int8 is for --format onnx"),
            (
                ["kept.ckpt", "out", "--format", "hub", "--window", "4"],
                "--window is not for --format hub, whose model reads windows of any length",
            ),
            (
                ["other.ckpt", "out"],
                "other.ckpt: not a checkpoint of a language model, a tagger or a document classifier",
            ),
        ],
    )
    def test_mistakes_end_in_one_line(self, language_model, tmp_path, program, typed, words):
        shutil.copy(language_model(lm.language.Loop), tmp_path / "kept.ckpt")
        torch.save({KEY: describe(nn.Identity(), {}, {})}, tmp_path / "other.ckpt")
        finished = program("lm.export", *typed)
        assert finished.returncode == 1
        assert finished.stderr == f"error: {words}\n"
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_states_are_named_inputs_of_any_number_of_rows(language_model, tmp_path):
    import onnxruntime

    exported(language_model(lm.language.CharLSTM, num_layers=1), tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [part.name for part in session.get_inputs()] == ["inputs", "state_0", "state_1"]
    states = {f"state_{number}": numpy.zeros((1, 5, 16), numpy.float32) for number in range(2)}
    scores, *after = session.run(None, {"inputs": numpy.zeros((5, 1), numpy.int64), **states})
    assert (scores.shape, after[0].shape, after[1].shape) == ((5, 1, len(CHARACTERS)), (1, 5, 16), (1, 5, 16))


class TestHub:
    """A folder that a hub takes."""

    @pytest.fixture
    def hub(self, tmp_path):
        pytest.importorskip("safetensors")

        def export(path):
            checkpoints = tmp_path / "run" / "checkpoints"
            checkpoints.mkdir(parents=True)
            path = shutil.move(path, checkpoints / "best.ckpt")
            result = {
                "metrics": {"valid/loss": 1.25},
                "epochs": 3,
                "seed": 7,
                "overrides": ["model=gru", "data.train=/a"],
            }
            (tmp_path / "run" / "result.json").write_text(json.dumps(result))
            export_to_hub(load_step(path, None, None), path, tmp_path / "hub")
            return path, tmp_path / "hub"

        return export

    @pytest.mark.parametrize("make", ["language_model", "tagger", "classifier"])
    def test_is_read_in_the_place_of_the_checkpoint(self, hub, request, make):
        arguments = [lm.language.GRU] if make == "language_model" else []
        path, folder = hub(request.getfixturevalue(make)(*arguments))
        ours, theirs = (load_step(checkpoint_file(file), None, None) for file in (folder, path))
        assert ours.about == theirs.about
        inputs = theirs.example(2, torch.Generator().manual_seed(0))
        assert torch.equal(ours.reference(inputs, None)[0], theirs.reference(inputs, None)[0])

    def test_is_what_the_hubs_own_mixin_loads_from_a_folder(self, hub, language_model):
        mixin = pytest.importorskip("huggingface_hub").PyTorchModelHubMixin
        path, folder = hub(language_model(lm.language.MinGRU))

        class FromHub(lm.language.MinGRU, mixin):
            pass

        found, wanted = FromHub.from_pretrained(folder).eval(), TrainedLanguageModel.load(path).model
        tokens = torch.randint(len(CHARACTERS), (2, 9))
        assert torch.equal(found(tokens)[0], wanted(tokens)[0])

    def test_its_card_has_the_metrics_of_the_run_and_no_path(self, hub, language_model):
        _, folder = hub(language_model(lm.language.GRU))
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: unroll\npipeline_tag: text-generation\n")
        assert "| valid/loss | 1.2500 |" in card
        assert "`python train.py model=gru`" in card
        assert "/a" not in card

    def test_its_card_has_names_and_numbers_alone_whatever_lies_beside_the_checkpoint(self, hub, language_model):
        path, folder = hub(language_model(lm.language.GRU))
        whole = {"metrics": {"a": 1.0}, "epochs": 3, "seed": 7, "overrides": []}
        metrics = {
            "<b>": 1,
            "x\n# y": 2,
            "\ud800": 3,
            "![x](http://x)": 4,
            "|": 5,
            "word": "x",
            "large": 10**400,
            "n": None,
        }
        for metric in ("x", [1], None, metrics):
            for typed in ([3], None, ["a=`b`", "b=<c>\n# d"]):
                for other in ({}, {"seed": "x\n# y"}, {"epochs": None}):
                    content = {**whole, "metrics": metric, "overrides": typed, **other}
                    (path.parents[1] / "result.json").write_text(json.dumps(content))
                    export_to_hub(load_step(path, None, None), path, folder)
                    card = (folder / "README.md").read_text()
                    titles = [line for line in card.splitlines() if line.startswith("#")]
                    assert titles == ["# GRU: a language model", "## Use"]
        (path.parents[1] / "result.json").write_text(
            json.dumps({**whole, "metrics": metrics, "overrides": ["a=`b`", "c=3"]})
        )
        export_to_hub(load_step(path, None, None), path, folder)
        card = (folder / "README.md").read_text()
        assert r"| \<b> | 1.0000 |" in card
        assert r"| ![x\](http://x) | 4.0000 |" in card
        assert "`python train.py c=3`" in card
        assert not any(name in card for name in ("word", "large"))

    def test_links_in_its_folder_are_not_written_through(self, hub, language_model, tmp_path):
        path, folder = hub(language_model(lm.language.GRU))
        mine = tmp_path / "mine"
        for make in (mine.mkdir, lambda: (mine.rmdir(), mine.write_text("mine"))):
            make()
            for file in folder.iterdir():
                file.unlink()
                file.symlink_to(mine)
            export_to_hub(load_step(path, None, None), path, folder)
            assert mine.is_file() or not [*mine.iterdir()]
            assert not any(file.is_symlink() for file in folder.iterdir())
        assert mine.read_text() == "mine"

    def test_commands_write_from_it_and_what_is_damaged_is_one_line(self, hub, language_model, program):
        path, folder = hub(language_model(lm.language.GRU))
        texts = [program("lm.generate", file, "--greedy", "--length", "20").stdout for file in (path, folder)]
        assert texts[0]
        assert texts[0] == texts[1]
        (folder / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(UserError, match=r"model\.safetensors: not of a model of this project"):
            TrainedLanguageModel.load(folder)
        (folder / "unroll.json").unlink()
        with pytest.raises(UserError, match=r"unroll\.json: there is no such file"):
            TrainedLanguageModel.load(folder)
