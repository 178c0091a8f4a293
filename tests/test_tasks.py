"""The verbs beside training."""

import re

import pytest
import torch
from PIL import Image

import lm.models
from lm.data import BpttStream
from lm.data.show import show_batch
from lm.module import LanguageModel
from training import rng
from training.tasks import evaluate, lr_find

TEXT = "It was the best of times, it was the worst of times. " * 100


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT)
    return ["data=text", "data.train=mine.txt", "data.batch_size=8", "data.bptt=20"]


def test_show_batch_shows_that_batches_join_up(train, mine, tmp_path):
    shown = train("task=show_batch", *mine)
    assert shown.returncode == 0, shown.stderr
    rows = [line for line in shown.stdout.splitlines() if line.startswith(("row", "guess"))]
    assert len(rows) == 8
    first = "".join(cell.rstrip("\n")[:20] for cell in re.split(r" +\| ", rows[0][6:]))
    assert TEXT.startswith(first[:19])
    assert "Each row goes on in the next batch: yes" in shown.stdout
    assert not list(tmp_path.rglob(".hydra"))


def test_show_batch_notices_when_they_do_not():
    class Shuffled(BpttStream):
        def windows(self):
            return reversed(list(super().windows()))

    class Data:
        train = Shuffled(torch.arange(300), 4, 10)
        vocabulary = type("Vocabulary", (), {"textify": staticmethod(lambda ids: " ".join(map(str, ids.tolist())))})

    assert "Each row goes on in the next batch: no" in show_batch(Data())


@pytest.mark.parametrize(("model", "parameters"), [("gru", "54,305"), ("unrolled", "8,545")])
def test_summary_gives_layers_shapes_and_parameters(train, model, parameters):
    shown = train("task=summary", f"model={model}")
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line}
    assert "[64, 20, 64]" in rows["embed"] or model == "unrolled"
    assert rows["embed"].split()[-1] == "2,112"
    assert parameters in shown.stdout


class TestLearningRate:
    @pytest.fixture
    def module(self):
        torch.manual_seed(0)
        module = LanguageModel(lm.models.GRU(vocab_size=9), lambda parameters: torch.optim.AdamW(parameters, lr=1e-3))
        module.start("train")
        return module

    @pytest.fixture
    def stream(self):
        return BpttStream(torch.arange(2000) % 9, 4, 10)

    def test_everything_is_restored(self, module, stream):
        weights = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
        before = rng.state()
        lr_find(module, stream)
        assert torch.equal(rng.state()["torch"], before["torch"])
        assert module.states == {"train": None}
        assert all(torch.equal(tensor, weights[name]) for name, tensor in module.model.state_dict().items())
        assert all(parameter.grad is None for parameter in module.model.parameters())

    def test_the_suggestion_lies_where_the_loss_falls(self, module, stream):
        rates, losses, suggestion = lr_find(module, stream)
        assert 1e-4 < suggestion < 1e-1
        at = rates.index(suggestion)
        assert losses[at + 1] < losses[at] < losses[0]
        assert rates == sorted(rates)

    def test_it_stops_when_the_loss_explodes(self, module, stream):
        module.optimizer = lambda parameters: torch.optim.SGD(parameters, lr=1.0)
        rates, _, _ = lr_find(module, stream, lowest=1e-3, highest=1e6)
        assert len(rates) < 100

    def test_from_the_command_line(self, train, mine, tmp_path):
        shown = train("task=lr_find", *mine)
        assert shown.returncode == 0, shown.stderr
        assert re.search(r"It falls most steeply at optimizer\.lr=\d\.\de-0\d", shown.stdout)
        assert Image.open(tmp_path / "outputs" / "tasks" / "lr_find" / "lr_find.png").size == (840, 480)


class TestEvaluate:
    def test_it_gives_what_training_said(self, train, mine, tmp_path):
        trained = train(*mine, "trainer.max_epochs=1", "hydra.run.dir=run")
        said = trained.stdout.splitlines()[1].split()
        found = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt")  # with the run's own data
        assert found.returncode == 0, found.stderr
        figures = dict(line.split() for line in found.stdout.splitlines())
        assert figures["valid/loss"] == said[2]
        assert figures["valid/accuracy"] == said[3]
        other = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", "data=human_numbers")
        assert other.returncode == 1
        assert "differ in their vocabulary" in other.stderr.splitlines()[-1]

    def test_it_is_the_same_whatever_the_batches(self):
        torch.manual_seed(0)
        model = lm.models.GRU(vocab_size=9)
        tokens = torch.randint(9, (501,))
        whole = evaluate(LanguageModel(model), BpttStream(tokens, 1, 500))
        windows = evaluate(LanguageModel(model), BpttStream(tokens, 1, 7))
        assert windows["valid/loss"] == pytest.approx(whole["valid/loss"], abs=1e-5)
        assert windows["valid/tokens"] == whole["valid/tokens"] == 500

    @pytest.mark.parametrize("arguments", [["task=evaluate"], ["ckpt=some.ckpt"], ["task=sing"]])
    def test_bad_input(self, train, arguments):
        answer = train(*arguments)
        assert answer.returncode == 1
        (line,) = answer.stderr.splitlines()
        assert line.startswith("error: task")
