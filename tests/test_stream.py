"""The stream's contract, for any length, batch size, bptt and tail."""

import math
from copy import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from unroll import Stream
from unroll.errors import UserError


@st.composite
def streams(draw, tails=("keep", "drop")):
    length = draw(st.integers(2, 300))
    return Stream(
        torch.arange(length),
        batch_size=draw(st.integers(1, length - 1)),
        bptt=draw(st.integers(1, 40)),
        tail=draw(st.sampled_from(tails)),
        jitter=draw(st.booleans()),
        seed=draw(st.integers(0, 5)),
    )


def rows_of(stream):
    """Each row's targets, joined over the batches."""
    rows = [[] for _ in range(stream.batch_size)]
    for _, targets, *_ in stream:
        for row, words in zip(rows, targets.tolist(), strict=False):
            row.extend(words)
    return rows


@given(streams())
def test_targets_are_one_step_ahead_and_windows_have_at_most_batch_size_rows(stream):
    for inputs, targets, *_ in stream:
        assert torch.equal(targets, inputs + 1)  # token i is the number i
        assert inputs.dtype == torch.int64
        assert 1 <= inputs.size(0) <= stream.batch_size
        assert inputs.size(1) >= 1


@given(streams(tails=["keep"]))
def test_keep_makes_every_token_but_the_first_a_target_once_and_in_order(stream):
    assert [target for row in rows_of(stream) for target in row] == list(range(1, len(stream.layout.sequence)))


@given(streams(tails=["keep"]))
def test_keep_makes_rows_of_equal_length_but_the_last(stream):
    lengths = [len(row) for row in rows_of(stream) if row]
    row_length = math.ceil(len(stream.layout.sequence) / stream.batch_size)
    assert all(length == row_length for length in lengths[:-1])
    assert lengths[-1] <= row_length


@given(streams(tails=["drop"]))
def test_drop_makes_equal_rows_and_leaves_out_less_than_one_target_a_row(stream):
    rows = rows_of(stream)
    assert len({len(row) for row in rows}) == 1
    flat = [target for row in rows for target in row]
    assert flat == list(range(1, len(flat) + 1))
    assert 0 <= len(stream.layout.sequence) - 1 - len(flat) < stream.batch_size


@given(streams())
def test_row_r_continues_row_r(stream):
    previous = None
    for inputs, _, starts, mask, resets in stream:
        assert resets is None
        assert mask is None
        assert starts.shape == inputs.shape[:1]
        assert (starts == (previous is None)).all()  # all rows start with the pass, and none later
        if previous is not None:
            assert inputs.size(0) <= previous.size(0)
            assert torch.equal(inputs[:, 0], previous[: inputs.size(0), -1] + 1)
        previous = inputs


@given(streams())
def test_len_is_the_number_of_batches_in_every_epoch(stream):
    for epoch in range(3):
        stream.set_epoch(epoch)
        assert len(list(stream)) == len(stream)


@given(streams())
def test_nothing_is_copied(stream):
    storage = stream.layout.sequence.untyped_storage().data_ptr()
    for inputs, targets, *_ in stream:
        assert inputs.untyped_storage().data_ptr() == storage
        assert targets.untyped_storage().data_ptr() == storage


@given(streams())
def test_without_jitter_only_a_rows_end_cuts_a_window(stream):
    stream.layout.jitter = False
    ends = {stream.layout.last_row_length, stream.layout.row_length, len(stream.layout.sequence) - 1}
    for start, stop in stream.layout.cuts(stream.random):
        assert stop - start == stream.bptt or stop in ends


def test_the_image_in_the_docstring():
    letters = "abcdefghijklmnopqrs"
    stream = Stream(torch.arange(19), batch_size=4, bptt=2)
    batches = [["".join(letters[i] for i in row) for row in inputs.tolist()] for inputs, *_ in stream]
    assert batches == [["ab", "fg", "kl", "pq"], ["c", "h", "m", "r"], ["de", "ij", "no"]]


def test_a_view_of_other_tokens_streams_as_a_copy_does():
    tokens = torch.arange(100)[7::3]
    copied = [inputs.tolist() for inputs, *_ in Stream(tokens.clone(), 4, 5)]
    assert [inputs.tolist() for inputs, *_ in Stream(tokens, 4, 5)] == copied


@given(streams(), st.data())
def test_a_pass_goes_on_where_another_stopped(stream, data):
    stream.set_epoch(3)
    whole = list(stream)
    taken = data.draw(st.integers(0, len(whole)))
    stream.set_epoch(3)
    first = iter(stream)
    for _ in range(taken):
        next(first)
    state = stream.state_dict() if taken else {"epoch": 3, "batches": 0}
    other = copy(stream)
    other.set_epoch(0)
    other.load_state_dict(state)
    assert other.state_dict() == state
    stream.set_epoch(4)
    for batches in (whole[taken:], list(stream)):  # and the pass after it is a whole one, of the next epoch
        again = list(other)
        assert len(again) == len(batches)
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(again, batches, strict=True))


@given(streams(), st.integers(2, 4))
def test_processes_share_the_rows(stream, processes):
    try:
        shards = [stream.shard(rank, processes) for rank in range(processes)]
    except UserError:
        short_of_rows = stream.layout.rows - (stream.layout.last_row_length < stream.layout.row_length)
        assert stream.batch_size % processes or short_of_rows <= stream.batch_size // processes * (processes - 1)
        return
    assert {len(shard) for shard in shards} == {len(stream)}
    for whole, *parts in zip(stream, *shards, strict=True):
        for number in (0, 1):
            assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])
        assert all(len(part[0]) > 0 for part in parts)


class TestJitter:
    def windows(self, seed, epoch):
        stream = Stream(torch.arange(10_000), batch_size=4, bptt=20, jitter=True, seed=seed)
        stream.set_epoch(epoch)
        return list(stream.layout.cuts(stream.random))

    def test_comes_from_seed_and_epoch_alone(self):
        assert self.windows(1, 2) == self.windows(1, 2)
        assert self.windows(1, 2) != self.windows(1, 3)
        assert self.windows(1, 2) != self.windows(2, 2)

    def test_lengths_vary_around_bptt(self):
        lengths = torch.tensor([stop - start for start, stop in self.windows(0, 0)], dtype=torch.float)
        assert lengths.mean() == pytest.approx(20, abs=1)
        assert 3 < lengths.std() < 8


@pytest.mark.parametrize(
    ("tokens", "settings", "words"),
    [
        (torch.arange(1), {}, "at least 2 steps"),
        (torch.arange(4), {"batch_size": 4}, "larger than the data"),
        (torch.arange(9), {"bptt": 0}, "bptt=0"),
        (torch.arange(9), {"bptt": 1.5}, "bptt=1.5: must be a whole number, 1 or more"),
        (torch.arange(9), {"batch_size": 2.0}, "batch_size=2.0: must be a whole number, 1 or more"),
        (torch.arange(9), {"warm_up": 0.5}, "warm_up=0.5: must be a whole number, 0 or more"),
        (torch.arange(9), {"batch_size": 0}, "batch_size=0"),
        (torch.arange(9), {"tail": "cut"}, "keep, drop"),
        (torch.tensor(3), {}, r"a tensor \[n, …\], or a list of them, not torch.int64 \[\]"),
        ([1, 2, 3], {}, r"sequence 0 must be a tensor \[n, …\], not a int"),
        ("abc", {}, r"a tensor \[n, …\], or a list of them, not a str"),
        (
            torch.arange(9),
            {"targets": torch.zeros(8)},
            r"must be a tensor \[9, …\] like the inputs, not torch.float32 \[8\]",
        ),
        (torch.zeros(0), {"targets": torch.zeros(0)}, "at least 1 step"),
    ],
)
def test_what_cannot_be_a_stream_is_refused(tokens, settings, words):
    with pytest.raises(UserError, match=words):
        Stream(tokens, **{"batch_size": 2, "bptt": 3, **settings})


@given(st.integers(1, 200), st.data())
def test_numbers_with_targets_of_their_own_are_all_read_once(length, data):
    numbers = torch.randn(length, 3)
    labels = torch.arange(length)
    stream = Stream(numbers, data.draw(st.integers(1, length)), data.draw(st.integers(1, 40)), targets=labels)
    rows = [[] for _ in range(stream.batch_size)]
    for window in stream:
        assert window.inputs.dtype == numbers.dtype
        assert torch.equal(window.inputs, numbers[window.targets])
        for row, targets in zip(rows, window.targets.tolist(), strict=False):
            row.extend(targets)
    assert [target for row in rows for target in row] == list(range(length))


def test_numbers_without_targets_are_predicted_one_step_ahead():
    numbers = torch.randn(101, 2)
    for window in Stream(numbers, 4, 7):
        assert window.inputs.shape == window.targets.shape
        assert torch.equal(window.inputs[:, 1:], window.targets[:, :-1])


def test_each_pass_is_the_next_epoch():
    counting, told = (Stream(torch.arange(2000), 4, 20, jitter=True) for _ in range(2))
    for epoch in range(3):
        told.set_epoch(epoch)
        assert [window.inputs.shape for window in counting] == [window.inputs.shape for window in told]
    shapes = []
    for _ in range(2):
        counting.set_epoch(7)
        shapes.append([window.inputs.shape for window in counting])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("data", [{"shuffle": True}, {"jitter": True}])
def test_a_worker_is_refused_where_it_would_repeat_the_order_of_an_epoch(data):
    sequences = [torch.arange(9), torch.arange(5)] if "shuffle" in data else torch.arange(99)
    loader = DataLoader(Stream(sequences, 2, 5, **data), batch_size=None, num_workers=1)
    with pytest.raises(UserError, match="use 0"):
        list(loader)
