"""Independent windows: every one of them, once an epoch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.data.windows import WindowBatches, Windows
from training.errors import UserError


@st.composite
def window_sets(draw):
    bptt = draw(st.integers(1, 12))
    length = draw(st.integers(bptt + 1, 200))
    return Windows(torch.arange(length), bptt, stride=draw(st.integers(1, 15)))


@given(window_sets())
def test_windows_begin_a_stride_apart_and_none_that_fits_is_left_out(windows):
    rows = windows.windows
    bptt, stride = rows.size(1) - 1, rows.stride(0)
    last_token = rows.max().item()
    assert torch.equal(rows[:, 0], torch.arange(len(rows)) * stride)
    assert torch.equal(rows, rows[:, :1] + torch.arange(bptt + 1))
    assert last_token + stride >= len(torch.empty(rows.untyped_storage().nbytes() // 8))


@given(window_sets(), st.floats(0.1, 0.9), st.integers(0, 9))
def test_a_window_is_in_one_split_and_the_splits_are_a_matter_of_the_seed(windows, fraction, seed):
    train, valid = windows.split(fraction, seed)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(len(windows)))
    assert len(valid) == int(fraction * len(windows))
    few, valid_among_few = windows.split(fraction, seed, among=2)
    assert set(valid_among_few.tolist()) <= {0, 1}
    assert len(few) + len(valid_among_few) == len(windows)
    assert torch.equal(windows.split(fraction, seed)[1], valid)


@given(window_sets(), st.integers(1, 50), st.booleans(), st.integers(0, 3))
def test_each_chosen_window_comes_once_an_epoch(windows, batch_size, shuffle, epoch):
    chosen = torch.arange(0, len(windows), 2)
    batches = WindowBatches(windows, chosen, min(batch_size, len(chosen)), shuffle)
    batches.set_epoch(epoch)
    seen = []
    for inputs, targets in batches:
        assert torch.equal(targets, inputs + 1)
        seen += inputs[:, 0].tolist()
    assert sorted(seen) == windows.windows[chosen, 0].tolist()
    assert len(list(batches)) == len(batches)
    sizes = [len(inputs) for inputs, _ in batches]
    assert all(size == batches.batch_size for size in sizes[:-1])


def test_the_order_is_a_matter_of_seed_and_epoch():
    windows = Windows(torch.arange(1000), 3, 1)

    def order(seed, epoch):
        batches = WindowBatches(windows, torch.arange(len(windows)), 64, shuffle=True, seed=seed)
        batches.set_epoch(epoch)
        return torch.cat([inputs[:, 0] for inputs, _ in batches])

    assert torch.equal(order(0, 1), order(0, 1))
    assert not torch.equal(order(0, 1), order(0, 2))
    assert not torch.equal(order(0, 1), order(1, 1))


def test_a_pass_goes_on_where_another_stopped():
    def batches():
        return WindowBatches(Windows(torch.arange(500), 3, 2), torch.arange(200), 64, shuffle=True)

    first = batches()
    first.set_epoch(2)
    whole = list(first)
    pass_of_two = iter(first)
    next(pass_of_two), next(pass_of_two)
    other = batches()
    other.load_state_dict(first.state_dict())
    assert [inputs.tolist() for inputs, _ in other] == [inputs.tolist() for inputs, _ in whole[2:]]
    assert [inputs.tolist() for inputs, _ in other] == [inputs.tolist() for inputs, _ in whole]


def test_processes_share_each_batch():
    batches = WindowBatches(Windows(torch.arange(500), 3, 2), torch.arange(197), 64, shuffle=True)
    for whole, *parts in zip(batches, *(batches.shard(rank, 4) for rank in range(4)), strict=True):
        assert torch.equal(torch.cat([inputs for inputs, _ in parts]), whole[0])
        assert torch.equal(torch.cat([targets for _, targets in parts]), whole[1])
        assert max(len(inputs) for inputs, _ in parts) - min(len(inputs) for inputs, _ in parts) <= 1
    with pytest.raises(UserError, match="can't be shared evenly by 3 processes"):
        batches.shard(0, 3)
    with pytest.raises(UserError, match="the last batch has 5 windows, too few for 8 processes"):
        batches.shard(0, 8)


def test_the_windows_are_a_view_of_the_tokens():
    tokens = torch.arange(1000)
    assert Windows(tokens, 8, 1).windows.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()


def test_too_few_tokens_or_windows_are_refused():
    with pytest.raises(UserError, match="need 9 tokens"):
        Windows(torch.arange(8), 8, 1)
    with pytest.raises(UserError, match="larger than the corpus"):
        WindowBatches(Windows(torch.arange(20), 8, 1), torch.arange(12), 13, shuffle=True)
