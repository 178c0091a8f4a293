"""The course of the learning rate, and what single layers may have of their own."""

import math
from functools import partial

import pytest
import torch
from helpers.fits import fit

import lm.language
from unroll.errors import UserError
from unroll.training.optimizers import parameter_groups
from unroll.training.schedules import constant, cycle_ends, plateau, sgdr, steps


def rates(schedule, total_epochs, steps_per_epoch=10, **settings):
    """The learning rate of each step, as a share of the optimizer's."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    total = total_epochs * steps_per_epoch
    scheduler = schedule(optimizer, total_steps=total, steps_per_epoch=steps_per_epoch, **settings)
    course = []
    for _ in range(total):
        course.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return course


def test_constant():
    assert rates(constant, 3) == [1.0] * 30


def test_steps():
    assert rates(steps, 6, epochs=[4]) == pytest.approx([1.0] * 40 + [0.1] * 20)
    assert rates(steps, 3, epochs=[1, 2], factor=0.5) == pytest.approx([1.0] * 10 + [0.5] * 10 + [0.25] * 10)


def test_sgdr_anneals_each_cycle_from_the_full_rate_towards_zero():
    course = rates(sgdr, 8, constant_epochs=1)
    cosine = [(1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert course[:10] == [1.0] * 10
    assert course[20:40] == pytest.approx(cosine)  # the second cycle, of two epochs
    assert [step for step in range(1, 80) if course[step] > course[step - 1]] == [20, 40]


@pytest.mark.parametrize("every", [1, 2])
def test_plateau_lowers_the_rate_where_the_validation_loss_has_ceased_to_fall(every):
    """With a threshold of nearly all, no loss is lower than the first one."""
    settings = {"factor": 0.5, "patience": 1, "threshold": 0.999, "min_lr": 2e-3}
    _, record = fit(
        schedule=partial(plateau, **settings), epochs=8 * every, check_val_every_n_epoch=every, limit_train_batches=1
    )
    assert record.rates[::every] == pytest.approx([1e-2] * 3 + [5e-3] * 2 + [2.5e-3] * 2 + [2e-3])


def test_a_schedule_of_torch_steps_once_per_epoch_unless_it_counts_steps():
    halved = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    _, record = fit(schedule=halved, limit_train_batches=2)
    assert record.rates == pytest.approx([1e-2, 1e-2, 5e-3, 5e-3])
    _, record = fit(schedule=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-2), limit_train_batches=2)
    assert len(set(record.rates)) == 4


def test_cycle_ends():
    assert cycle_ends(17, constant_epochs=2) == [3, 5, 9, 17]
    assert cycle_ends(16, constant_epochs=2) == [3, 5, 9]
    assert cycle_ends(6, cycle_length=2, cycle_mult=1) == [2, 4, 6]
    assert cycle_ends(1, constant_epochs=2) == []


class TestGroups:
    def test_every_parameter_is_in_one_group_and_named_layers_have_settings_of_their_own(self):
        model = lm.language.GRU(vocab_size=9)
        groups = parameter_groups(model, {"embed": {"lr": 0.5}, "head": {"weight_decay": 0.0}})
        assert [group["name"] for group in groups] == ["rest", "embed", "head"]
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.01)
        rest, embed, head = optimizer.param_groups
        assert (rest["lr"], embed["lr"], head["lr"]) == (0.1, 0.5, 0.1)
        assert (rest["weight_decay"], embed["weight_decay"], head["weight_decay"]) == (0.01, 0.01, 0.0)
        assert embed["params"] == [model.embed.weight]

    def test_a_schedule_scales_each_groups_own_rate(self):
        model = lm.language.GRU(vocab_size=9)
        optimizer = torch.optim.AdamW(parameter_groups(model, {"embed": {"lr": 0.5}}), lr=0.1)
        scheduler = steps(optimizer, total_steps=20, steps_per_epoch=10, epochs=[1])
        for _ in range(10):
            optimizer.step()
            scheduler.step()
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.05])

    def test_a_name_that_stands_for_nothing_is_refused_with_the_choices(self):
        with pytest.raises(UserError, match="embed, rnn, norm, head"):
            parameter_groups(lm.language.GRU(vocab_size=9), {"embedding": {"lr": 0.5}})
