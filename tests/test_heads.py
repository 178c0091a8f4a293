"""Heads of language models: the loss without the scores of every token."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lm.language
from lm.language import heads
from lm.language.generation import generate
from lm.language.heads import AdaptiveHead, LinearHead, TiedHead, make_head
from lm.language.learner import LanguageModel, NextToken
from unroll.errors import UserError
from unroll.streams import Window

HIDDEN, VOCAB, TARGETS = 12, 50, 40
CUTOFFS = [8, 20]


@pytest.fixture
def few_at_once(monkeypatch):
    """Scores are computed seven rows at a time."""
    monkeypatch.setattr(heads, "AT_ONCE", 7 * VOCAB)


def activations_and_targets():
    torch.manual_seed(0)
    return torch.randn(TARGETS, HIDDEN, dtype=torch.float64), torch.randint(VOCAB, (TARGETS,))


def all_heads():
    torch.manual_seed(1)
    same, other = nn.Embedding(VOCAB, HIDDEN), nn.Embedding(VOCAB, 5)
    return {
        "linear": LinearHead(HIDDEN, VOCAB),
        "tied": TiedHead(same, HIDDEN),
        "tied, projected": TiedHead(other, HIDDEN),
        "adaptive": AdaptiveHead(HIDDEN, VOCAB, CUTOFFS),
        "adaptive, tied": AdaptiveHead(HIDDEN, VOCAB, CUTOFFS, same),
        "adaptive, tied, projected": AdaptiveHead(HIDDEN, VOCAB, [1], other),
    }


@pytest.mark.parametrize("name", all_heads())
def test_what_training_minimises_is_smoothed_in_eval_mode_too(few_at_once, name):
    x, targets = activations_and_targets()
    head = all_heads()[name].double()
    head.eval()
    minimised = head.measured(x, targets, label_smoothing=0.1, count_right=True).minimised
    expected = F.cross_entropy(head(x), targets, label_smoothing=0.1)
    torch.testing.assert_close(minimised, expected)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", all_heads())
def test_loss_and_gradients_are_those_of_the_scores(few_at_once, name, label_smoothing):
    x, targets = activations_and_targets()
    head = all_heads()[name].double()
    for parameter in head.parameters():
        nn.init.normal_(parameter)

    def gradients(minimised, inputs):
        return torch.autograd.grad(2 * minimised, [inputs, *head.parameters()])

    given = x.clone().requires_grad_()
    scores = head(given)
    plain = F.cross_entropy(scores, targets)
    expected = F.cross_entropy(scores, targets, label_smoothing=label_smoothing)
    ours = x.clone().requires_grad_()
    measured = head.measured(ours, targets, label_smoothing)
    torch.testing.assert_close(measured.loss, plain)
    torch.testing.assert_close(measured.minimised, expected)
    for got, wanted in zip(gradients(measured.minimised, ours), gradients(expected, given), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-11, rtol=1e-9)

    likeliest = scores.argmax(-1)
    half_right = torch.where(torch.arange(TARGETS) < TARGETS / 2, likeliest, targets)
    with torch.no_grad():
        judged = head.measured(x, half_right, count_right=True)
    torch.testing.assert_close(judged.loss, F.cross_entropy(scores, half_right).detach())
    assert judged.right == (likeliest == half_right).sum() >= TARGETS / 2
    assert head.measured(x, half_right, count_right=True).right == judged.right  # with gradients too
    assert head.measured(x, half_right).right is None


@pytest.mark.parametrize("name", [name for name in all_heads() if "adaptive" in name])
def test_adaptive_scores_are_logarithms_of_probabilities(name):
    scores = all_heads()[name](torch.randn(2, 3, HIDDEN))
    assert scores.shape == (2, 3, VOCAB)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 3))


def test_the_adaptive_head_is_pytorchs():
    x, targets = activations_and_targets()
    ours = AdaptiveHead(HIDDEN, VOCAB, CUTOFFS, divide=2).double()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(HIDDEN, VOCAB, CUTOFFS, div_value=2).double()
    with torch.no_grad():
        nn.init.zeros_(ours.bias)
        nn.init.zeros_(ours.gate.bias)
        theirs.head.weight.copy_(torch.cat([ours.weights[0], ours.gate.weight]))
        for number, (down, up) in enumerate(theirs.tail, start=1):
            down.weight.copy_(ours.projections[number].weight)
            up.weight.copy_(ours.weights[number])
    torch.testing.assert_close(ours(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.measured(x, targets).loss, theirs(x, targets).loss)
    with torch.no_grad():
        assert ours.measured(x, targets, count_right=True).right == (theirs.predict(x) == targets).sum()


def test_chunks_in_mixed_precision_are_near_the_exact_ones(few_at_once):
    x, targets = activations_and_targets()
    head, x = LinearHead(HIDDEN, VOCAB), x.float().requires_grad_()
    exact = head.measured(x, targets).minimised
    (wanted,) = torch.autograd.grad(exact, [head.weight])
    with torch.autocast("cpu", torch.bfloat16):
        narrow = head.measured(x, targets).minimised
    (got,) = torch.autograd.grad(narrow, [head.weight])
    assert got.dtype == narrow.dtype == torch.float32
    assert not torch.equal(got, wanted)
    torch.testing.assert_close(narrow, exact, rtol=0.01, atol=0)
    assert (got - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("cutoffs", [[], [0, 3], [5, 5], [9, 4], [VOCAB]])
def test_cutoffs_that_do_not_fit_are_refused(cutoffs):
    with pytest.raises(UserError, match=f"ascending numbers between 0 and {VOCAB}"):
        AdaptiveHead(HIDDEN, VOCAB, cutoffs)


@pytest.mark.parametrize("name", lm.language.__all__)
def test_every_language_model_trains_and_writes_with_an_adaptive_head(name):
    torch.manual_seed(0)
    model = getattr(lm.language, name)(vocab_size=VOCAB, head="adaptive")
    learner = LanguageModel(model, objective=NextToken(label_smoothing=0.1))
    tokens = torch.randint(VOCAB, (4, 4))
    window = Window(tokens[:, :-1], tokens[:, 1:], torch.ones(4, dtype=torch.bool))
    learner.start("train")
    learner.step("train", window).minimised.backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    learner.eval()
    learner.start("valid")
    step = learner.step("valid", window)
    scores, _ = model(window.inputs)
    targets = window.targets[:, -scores.size(1) :].flatten()
    torch.testing.assert_close(step.loss, F.cross_entropy(scores.flatten(0, 1), targets))
    assert len(list(islice(generate(model, tokens[0, :3], context=3, seed=0), 2))) == 2


@pytest.mark.parametrize("vocab_size", [3, 4, 11, 1000])
def test_the_default_cutoffs_fit_every_vocabulary(vocab_size):
    head = make_head("adaptive", HIDDEN, vocab_size)
    assert head(torch.randn(2, HIDDEN)).shape == (2, vocab_size)
