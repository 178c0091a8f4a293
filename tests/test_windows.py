"""Independent windows: every one of them, once an epoch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.language.split import split_windows
from unroll import IndependentWindows
from unroll.errors import UserError


@st.composite
def window_sets(draw, **settings):
    """All windows of a sequence, one in a batch."""
    bptt = draw(st.integers(1, 12))
    length = draw(st.integers(bptt + 1, 200))
    return IndependentWindows(torch.arange(length), 1, bptt, stride=draw(st.integers(1, 15)))


@given(window_sets())
def test_windows_begin_a_stride_apart_and_none_that_fits_is_left_out(batches):
    rows = batches.windows
    bptt, stride = rows.size(1) - 1, rows.stride(0)
    last_token = rows.max().item()
    assert torch.equal(rows[:, 0], torch.arange(len(rows)) * stride)
    assert torch.equal(rows, rows[:, :1] + torch.arange(bptt + 1))
    assert last_token + stride >= len(batches.sequence)


@given(st.integers(1, 200), st.floats(0.1, 0.9), st.integers(0, 9))
def test_a_window_is_in_one_split_and_the_splits_depend_on_the_seed_alone(windows, fraction, seed):
    train, valid = split_windows(windows, fraction, seed)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(windows))
    assert len(valid) == int(fraction * windows)
    few, valid_among_few = split_windows(windows, fraction, seed, among=2)
    assert set(valid_among_few.tolist()) <= {0, 1}
    assert len(few) + len(valid_among_few) == windows
    assert torch.equal(split_windows(windows, fraction, seed)[1], valid)


@given(window_sets(), st.integers(1, 50), st.booleans(), st.integers(0, 3))
def test_each_chosen_window_comes_once_an_epoch_and_starts_anew(all_of_them, batch_size, shuffle, epoch):
    chosen = torch.arange(0, all_of_them.count, 2)
    batches = IndependentWindows(
        all_of_them.sequence,
        min(batch_size, len(chosen)),
        all_of_them.bptt,
        all_of_them.stride,
        chosen,
        shuffle,
    )
    batches.set_epoch(epoch)
    seen = []
    for inputs, targets, starts, mask, _ in batches:
        assert torch.equal(targets, inputs + 1)
        assert starts.shape == inputs.shape[:1]
        assert starts.all()
        assert mask is None
        seen += inputs[:, 0].tolist()
    assert sorted(seen) == batches.windows[chosen, 0].tolist()
    assert len(list(batches)) == len(batches)
    sizes = [len(window.inputs) for window in batches]
    assert all(size == batches.batch_size for size in sizes[:-1])


def shuffled(length, bptt, stride, count=None, **settings):
    chosen = None if count is None else torch.arange(count)
    return IndependentWindows(torch.arange(length), 64, bptt, stride, chosen, shuffle=True, **settings)


def test_the_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        batches = shuffled(1000, 3, 1, seed=seed)
        batches.set_epoch(epoch)
        return torch.cat([window.inputs[:, 0] for window in batches])

    assert torch.equal(order(0, 1), order(0, 1))
    assert not torch.equal(order(0, 1), order(0, 2))
    assert not torch.equal(order(0, 1), order(1, 1))


def test_each_pass_is_the_next_epoch_unless_it_is_set():
    def firsts(batches):
        return [window.inputs[:, 0].tolist() for window in batches]

    counting, told = shuffled(1000, 3, 1), shuffled(1000, 3, 1)
    for epoch in range(3):
        told.set_epoch(epoch)
        assert firsts(counting) == firsts(told)
    counting.set_epoch(1)
    told.set_epoch(1)
    assert firsts(counting) == firsts(told)


def test_a_pass_continues_where_another_stopped():
    def inputs(batches):
        return [window.inputs.tolist() for window in batches]

    first = shuffled(500, 3, 2, 200)
    first.set_epoch(2)
    whole = inputs(first)
    first.set_epoch(2)
    begun = iter(first)
    next(begun), next(begun)
    other = shuffled(500, 3, 2, 200)
    other.load_state_dict(first.state_dict())
    assert inputs(other) == whole[2:]
    first.set_epoch(3)
    assert inputs(other) == inputs(first)


def test_processes_share_each_batch():
    batches = shuffled(500, 3, 2, 197)
    for whole, *parts in zip(batches, *(batches.shard(rank, 4) for rank in range(4)), strict=True):
        assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
        assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
        assert max(len(part.inputs) for part in parts) - min(len(part.inputs) for part in parts) <= 1
    with pytest.raises(UserError, match="can't be shared evenly by 3 processes"):
        batches.shard(0, 3)
    with pytest.raises(UserError, match="the last batch has 5 windows, too few for 8 processes"):
        batches.shard(0, 8)


def test_the_windows_are_a_view_of_the_sequence():
    sequence = torch.arange(1000)
    windows = IndependentWindows(sequence, 4, 8, 1).windows
    assert windows.untyped_storage().data_ptr() == sequence.untyped_storage().data_ptr()


def test_too_few_tokens_or_windows_are_refused():
    with pytest.raises(UserError, match="need 9 steps"):
        IndependentWindows(torch.arange(8), 1, 8, 1)
    with pytest.raises(UserError, match="larger than the data"):
        IndependentWindows(torch.arange(20), 13, 8, 1)


def test_steps_of_several_numbers_stay_together():
    sequence = torch.rand(20, 3)
    windows = list(IndependentWindows(sequence, 2, 4))
    assert torch.equal(windows[1].inputs, torch.stack([sequence[8:12], sequence[12:16]]))
    assert torch.equal(windows[1].targets, torch.stack([sequence[9:13], sequence[13:17]]))


@pytest.mark.parametrize(
    ("sequence", "bptt", "stride", "words"),
    [
        (list(range(20)), 4, 4, "a tensor .n, ….*, not a list"),
        (torch.tensor(3), 4, 4, "not torch.int64"),
        (torch.arange(20), 0, 4, "bptt=0: must be a whole number, 1 or more"),
        (torch.arange(20), 4, 0, "stride=0: must be a whole number, 1 or more"),
    ],
)
def test_what_is_no_window_is_refused(sequence, bptt, stride, words):
    with pytest.raises(UserError, match=words):
        IndependentWindows(sequence, 2, bptt, stride)
