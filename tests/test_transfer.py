"""A language model handed on: to a classifier, and to a language model of other text."""

import json

import pytest
import torch
from helpers.samples import reviews

from lm.documents.model import Classifier
from lm.language import AWDGRU, AWDLSTM, GRU
from lm.language.checkpoint import load_encoder
from unroll.errors import UserError
from unroll.resume.checkpoint import describe, write
from unroll.training.optimizers import discriminative_groups, parameter_groups
from unroll.training.schedules import one_cycle, unfreeze

TOKENS = ["xxunk", "xxpad", "a", "film", "fine"]


def saved(path, model, tokens=TOKENS):
    description = {"vocabulary": tokens, "context": 20, "prompt": "a", "tokenizer": {"name": "words"}}
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    write({"state_dict": weights, "unroll": describe(model, {}, description)}, path)
    return path


@pytest.mark.parametrize("tie", [True, False])
def test_words_are_matched_one_by_one_and_new_ones_get_the_mean(tmp_path, tie):
    before, after = AWDLSTM(5, 8, 8, tie=tie), AWDLSTM(4, 8, 8, tie=tie)
    path = saved(tmp_path / "lm.ckpt", before)
    matched = load_encoder(path, after, ["xxunk", "fine", "new", "a"])
    assert matched == (3, 4)
    for name in ("embed.weight", "head.weight", "head.bias"):
        ours, theirs = after.state_dict()[name], before.state_dict()[name]
        assert torch.equal(ours[[0, 1, 3]], theirs[[0, 4, 2]])
        torch.testing.assert_close(ours[2], theirs.mean(0))
    for ours, theirs in zip(after.layers.parameters(), before.layers.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_adaptive_head_is_taken_over_for_the_same_vocabulary_and_learnt_anew_for_another(tmp_path):
    before = AWDLSTM(5, 8, 8, head="adaptive")
    path = saved(tmp_path / "lm.ckpt", before)
    same, other, anew = AWDLSTM(5, 8, 8, head="adaptive"), AWDLSTM(4, 8, 8, head="adaptive"), AWDLSTM(5, 8, 8)
    own = other.head.projections[1].weight.clone()
    load_encoder(path, same, TOKENS)
    for ours, theirs in zip(same.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert load_encoder(path, other, TOKENS[1:]) == (4, 4)
    assert torch.equal(other.embed.weight, before.embed.weight[1:])
    assert torch.equal(other.head.projections[1].weight, own)
    assert load_encoder(path, anew, TOKENS) == (5, 5)


def test_one_that_reads_in_the_other_direction_is_refused(tmp_path):
    path = saved(tmp_path / "lm.ckpt", AWDLSTM(5, 8, 8))
    with pytest.raises(UserError, match=r"reads in the other direction; data.backwards must be the same"):
        load_encoder(path, AWDLSTM(5, 8, 8), TOKENS, backwards=True)


def test_a_classifier_takes_up_the_layers_and_reads_as_the_language_model_did(tmp_path):
    model, classifier = AWDGRU(5, 8, 6, 2).eval(), Classifier(5, 2, "awd_gru", 8, 6, 2).eval()
    load_encoder(saved(tmp_path / "lm.ckpt", model), classifier, TOKENS)
    tokens = torch.randint(5, (3, 9))
    assert torch.equal(classifier.body.features(tokens)[0], model.features(tokens)[0])


@pytest.mark.parametrize(
    ("model", "tokens", "words"),
    [
        (AWDGRU(5, 8, 8), TOKENS, "is of the model AWDGRU, and the layers to be given its weights are AWDLSTM"),
        (AWDLSTM(5, 8, 16), TOKENS, r"not \[32, 8\]; choose the sizes that it was trained with: model.embedding_size"),
        (AWDLSTM(5, 8, 8), list("vwxyz"), "its vocabulary shares no token with that of the data"),
        (GRU(5), TOKENS, "is of the model GRU"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, model, tokens, words):
    path = saved(tmp_path / "lm.ckpt", model, tokens)
    with pytest.raises(UserError, match=words) as error:
        load_encoder(path, AWDLSTM(5, 8, 8), TOKENS)
    assert "\n" not in str(error.value)


def test_layers_begin_one_after_the_other_each_slower_than_the_one_above():
    model = Classifier(5, 2, "awd_lstm", 4, 4, 2)
    schedules = []
    for make in (unfreeze, one_cycle):
        groups = parameter_groups(model, discriminative_groups(model, 0.26, 2.6))
        optimizer = torch.optim.SGD(groups, lr=0.26, momentum=0.9)
        assert [group["name"] for group in groups] == ["rest", "body.layers.1", "body.layers.0", "body.embed"]
        peaks = [group["lr"] for group in optimizer.param_groups]
        assert peaks == pytest.approx([0.26, 0.1, 0.1 / 2.6, 0.1 / 2.6**2])
        schedules.append(make(optimizer, total_steps=50, steps_per_epoch=10))
    for step in range(50):
        ours, plain = (schedule.get_last_lr() for schedule in schedules)
        assert ours == pytest.approx([rate if step >= 10 * group else 0.0 for group, rate in enumerate(plain)])
        for schedule in schedules:
            schedule.optimizer.step()
            schedule.step()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["schedule=unfreeze"], "schedule=unfreeze needs groups of layers: optimizer.discriminative=2.6"),
        (["optimizer.discriminative=0.5"], "optimizer.discriminative=0.5: must be a number, 1 or more, or null"),
        (["optimizer.discriminative=2", "optimizer.groups={head: {lr: 1}}"], "both set rates; choose one of them"),
    ],
)
def test_mistakes_are_answered_in_one_line(train, reviews_file, overrides, words):
    finished = train(
        "model=classifier", "data=documents", f"data.train={reviews_file}", "hydra.run.dir=run", *overrides
    )
    assert finished.returncode != 0
    assert words in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr


def test_a_model_without_groups_is_refused():
    with pytest.raises(UserError, match=r"optimizer.discriminative: GRU does not name its groups of layers"):
        discriminative_groups(GRU(5), 0.1, 2.6)


@pytest.mark.slow
def test_from_a_language_model_to_a_classifier_by_commands(train, reviews_file, tmp_path):
    sizes = ["model.hidden_size=16", "model.embedding_size=16", "threads=1", "optimizer.lr=1e-2", "data.batch_size=8"]
    one_layer = ["model=awd_lstm", "model.num_layers=1", "trainer.max_epochs=1", *sizes]
    own = [f"data.train={reviews_file}", "data.min_freq=1"]
    model = train("data=documents_text", *one_layer, *own, "hydra.run.dir=general")
    assert model.returncode == 0, model.stderr
    (tmp_path / "more.txt").write_text("\n".join(text for text, _ in reviews(100, seed=5)))
    more = ["data=text", "data.train=more.txt", "data.tokenizer=words"]
    tuned = train(*more, *one_layer, "init=general", "hydra.run.dir=tuned")
    assert tuned.returncode == 0, tuned.stderr
    assert "begins with the weights of general/checkpoints/best.ckpt; it knows" in tuned.stderr
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("general", "tuned")]
    assert results[1]["metrics"]["train/loss"] < results[0]["metrics"]["train/loss"]
    losses = [train("task=lr_find", *more, *one_layer, *init).stdout.split()[1] for init in ([], ["init=general"])]
    assert float(losses[1]) < float(losses[0]) - 0.1
    begun = ["init=tuned", "hydra.run.dir=run", "trainer.max_epochs=2"]
    begun += ["schedule=unfreeze", "optimizer.discriminative=2.6"]
    classifier = train("model=classifier", "data=documents", *own, *sizes, *begun)
    assert classifier.returncode == 0, classifier.stderr
    resumed = train("resume=run", "trainer.max_epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    assert "begins with" not in resumed.stderr
    images = train("model=simple_net", "data=shapes", "init=tuned", "hydra.run.dir=images")
    assert images.returncode != 0
    assert "init=…: a model of these data can't begin with the weights of another" in images.stderr
