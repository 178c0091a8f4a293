"""Evaluation that goes on learning: what it computes, and that nothing is seen before it is scored."""

import math
import shutil

import pytest
import pytorch_lightning as pl
import torch
from helpers import processes
from helpers.runs import NO_PLOTS
from torch import nn

import lm.language
from lm.language import heads
from lm.language.cache import CacheEvaluation
from lm.language.learner import LanguageModel
from unroll import Stream
from unroll.errors import UserError
from unroll.training.dynamic import SPLIT, DynamicEvaluation

VOCAB = 9
CHANGED = 150  # a token of the text, in the middle of a window


class Data(pl.LightningDataModule):
    def __init__(self, valid, train=None):
        super().__init__()
        self.valid = Stream(valid, 2, 10)
        self.train = Stream(text(400) if train is None else train, 4, 10)

    def val_dataloader(self):
        return self.valid


def text(length, seed=0):
    return torch.randint(VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def validated(data, model="AWDGRU", **settings):
    """A language model with weights drawn at random, after a validation."""
    torch.manual_seed(0)
    learner = LanguageModel(getattr(lm.language, model)(VOCAB, embedding_size=8, hidden_size=8, **settings))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", **quiet)
    trainer.validate(learner, datamodule=data, verbose=False)
    return learner


def with_another_future(tokens):
    changed = tokens.clone()
    changed[CHANGED:] = (changed[CHANGED:] + 1) % VOCAB
    return changed


class TestDynamic:
    def scores(self, tokens, **settings):
        """Of each token, from all before it."""
        data = Data(tokens)
        learner = validated(data)
        evaluation = DynamicEvaluation(lr=0.05, decay=0.1, window=7, **settings)
        roots = evaluation.roots(learner, data.train)
        steps = evaluation.steps(learner, Stream(tokens, 1, 7), roots)
        return torch.cat([learner.model.head(step.features).flatten(0, 1).detach() for step in steps])

    def test_a_changed_future_leaves_all_earlier_scores_alone(self):
        tokens = text(300, seed=1)
        scores, others = self.scores(tokens), self.scores(with_another_future(tokens))
        assert torch.equal(scores[:CHANGED], others[:CHANGED])
        assert not torch.allclose(scores[CHANGED + 7 :], others[CHANGED + 7 :])

    def test_the_weights_after_a_window_are_those_of_the_equation(self):
        data = Data(text(300, seed=1))
        learner = validated(data)
        evaluation = DynamicEvaluation(lr=0.05, decay=0.3, eps=0.01, window=10, statistics=5)
        name, weight = "head.weight", learner.model.head.weight
        trained = weight.detach().clone()

        def gradient(windows, before=0):
            """Of each window's loss, by autograd alone."""
            state = None
            for window in windows:
                logits, state = learner.model(window.inputs, state)
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), window.targets.flatten())
                every = torch.autograd.grad(loss, [*learner.model.parameters()])
                state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
                yield every

        learner.eval()
        training = [each for each, _ in zip(gradient(data.train), range(5), strict=False)]
        means = [torch.stack(of_weight).square().mean(0).sqrt() for of_weight in zip(*training, strict=True)]
        number = [name for name, _ in learner.model.named_parameters()].index(name)
        average = torch.cat([mean.flatten() for mean in means]).mean()

        roots = evaluation.roots(learner, data.train)
        torch.testing.assert_close(roots[number], means[number])
        expected = trained
        windows = list(Stream(data.valid.layout.sequence, 1, 10))[:3]
        state = None
        for window, _ in zip(windows, evaluation.steps(learner, windows, roots), strict=True):
            torch.testing.assert_close(weight.detach(), expected)
            logits, after = learner.model(window.inputs, state)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), window.targets.flatten())
            (g,) = torch.autograd.grad(loss, [weight])
            state = after.detach()
            share = (0.3 * means[number] / average).clamp(max=1)
            expected = expected - 0.05 * g / (means[number] + 0.01) + share * (trained - expected)

    @pytest.mark.parametrize("at_once", [heads.AT_ONCE, 3 * VOCAB])
    def test_it_learns_what_repeats_and_leaves_the_weights_as_they_were(self, monkeypatch, at_once):
        monkeypatch.setattr(heads, "AT_ONCE", at_once)
        data = Data(text(40, seed=2).repeat(10))
        learner = validated(data)
        before = {name: weight.clone() for name, weight in learner.model.state_dict().items()}
        metrics = DynamicEvaluation(lr=0.02, decay=0.001, window=10)(learner, data)
        assert set(metrics) == {"dynamic/loss", "dynamic/accuracy", "dynamic/perplexity"}
        assert metrics["dynamic/loss"] < learner.total("valid")["loss"] - 0.2
        assert learner.passes[SPLIT].targets == 399
        for name, weight in learner.model.state_dict().items():
            assert torch.equal(weight, before[name]), name

    def test_a_rate_at_which_it_diverges_is_said(self):
        data = Data(text(400))
        with pytest.raises(UserError, match=r"evaluate.lr=1e\+38: the loss is not finite any more; try a tenth of it"):
            DynamicEvaluation(lr=1e38, decay=0.0)(validated(data), data)

    def test_windows_that_do_not_continue_each_other_are_refused(self):
        data = Data(text(300))
        learner = validated(data)
        data.valid = Stream([text(30), text(40)], 2, 10)
        with pytest.raises(UserError, match="one long stream"):
            DynamicEvaluation(lr=0.1, decay=0.1)(learner, data)


class TestCache:
    @pytest.mark.parametrize("settings", [{}, {"tie": True, "head": "adaptive"}, {"norm": True}])
    def test_the_probabilities_are_those_of_the_equation_and_add_up_to_one(self, settings):
        tokens = text(60, seed=1)
        learner = validated(Data(tokens), **settings)
        size, sharpness, weight = 12, 0.7, 0.2
        evaluation = CacheEvaluation(size, sharpness, weight, window=7)
        losses = torch.cat([*evaluation.losses(learner, Stream(tokens, 1, 7))], 1)[0]

        model = learner.model.eval()
        hidden = model.features(tokens[None, :-1])[0][0].detach()
        own = model.head(hidden).softmax(-1).detach()
        for t, target in enumerate(tokens[1:]):
            mixed = own[t]
            if t > 0:
                of_cache = torch.zeros(VOCAB)
                for i in range(max(0, t - size), t):
                    of_cache[tokens[i + 1]] += math.exp(sharpness * float(hidden[t] @ hidden[i]))
                mixed = (1 - weight) * own[t] + weight * of_cache / of_cache.sum()
            assert float(mixed.sum()) == pytest.approx(1, abs=1e-5)
            assert float(losses[t]) == pytest.approx(-math.log(mixed[target]), abs=1e-4)

    def test_a_changed_future_leaves_all_earlier_scores_alone(self):
        tokens = text(300, seed=1)
        learner = validated(Data(tokens))

        def losses(read):
            return torch.cat([*CacheEvaluation(window=7).losses(learner, Stream(read, 1, 7))], 1)[0]

        before, after = losses(tokens), losses(with_another_future(tokens))
        assert torch.equal(before[: CHANGED - 1], after[: CHANGED - 1])  # the target of step 149 is token 150
        assert not torch.allclose(before[CHANGED:], after[CHANGED:])

    def test_windows_make_no_difference_and_repeated_words_are_likelier(self):
        data = Data(text(40, seed=2).repeat(10))
        learner = validated(data)
        metrics = [CacheEvaluation(sharpness=5.0, window=window)(learner, data) for window in (1, 35)]
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-4)
        assert metrics[0]["cache/loss"] < learner.total("valid")["loss"]

    def test_it_is_for_language_models_with_a_head(self):
        data = Data(text(300))
        learner = validated(data)
        learner.model = nn.Identity()
        with pytest.raises(UserError, match="language models"):
            CacheEvaluation()(learner, data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.txt").write_text("It was the best of times, it was the worst of times. " * 60)
    mine = ["data=text", "data.train=mine.txt", "data.batch_size=8", "data.bptt=20", "model=gru"]
    finished = processes.train(*mine, *NO_PLOTS, "trainer.max_epochs=1", "hydra.run.dir=run", folder=folder)
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture(scope="module")
def static(trained):
    """The metrics that every evaluation has."""
    return metrics(processes.train("task=evaluate", "ckpt=run", folder=trained))


def metrics(answer):
    assert answer.returncode == 0, answer.stderr
    return dict(line.split() for line in answer.stdout.splitlines())


@pytest.fixture
def run(train, trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return train


@pytest.mark.parametrize(("how", "setting"), [("dynamic", "evaluate.lr=1e-4"), ("cache", "evaluate.weight=0.05")])
@pytest.mark.few(1)
def test_it_is_reported_beside_the_static_metrics(run, static, how, setting):
    both = metrics(run("task=evaluate", "ckpt=run", f"evaluate={how}", setting))
    assert static.items() <= both.items()
    further = {name: float(value) for name, value in both.items() if name not in static}
    assert further[f"{how}/perplexity"] == pytest.approx(math.exp(further[f"{how}/loss"]), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (
            ["evaluate=dynamo"],
            "there is no evaluate=dynamo; choose from: backtest, cache, dynamic (did you mean dynamic?)",
        ),
        (["evaluate=cache", "evaluate.weight=2"], "evaluate.weight=2: must be a number between 0 and 1"),
        (["evaluate=dynamic", "evaluate.size=2"], "there is no evaluate.size"),
    ],
)
def test_bad_input(run, arguments, answer):
    ended = run("task=evaluate", "ckpt=run", *arguments)
    assert ended.returncode == 1
    assert answer in ended.stderr.splitlines()[-1]
