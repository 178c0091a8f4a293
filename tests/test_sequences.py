"""The stream of many sequences: each target once, rows that start and end, places that are resumed, shares of them."""

import itertools
import pickle
from copy import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import LambdaCallback
from torch import nn
from torch.utils.data import DataLoader

from unroll import Stream, WindowLearner
from unroll.errors import UserError
from unroll.nn import GRU
from unroll.state import detach, keep_rows, start_rows
from unroll.training.objectives import MeanSquaredError

SEQUENCE = 1000  # step i of sequence s is the number 1000 s + i


@st.composite
def lengths(draw, shortest=2):
    return draw(st.lists(st.integers(shortest, 30), min_size=1, max_size=25))


@st.composite
def streams(draw, **settings):
    counts = draw(lengths())
    parts = [SEQUENCE * number + torch.arange(count) for number, count in enumerate(counts)]
    if draw(st.booleans()):  # parts of one tensor
        parts = list(torch.cat(parts).split(counts))
    chosen = {"shuffle": draw(st.booleans()), "seed": draw(st.integers(0, 3)), **settings}
    stream = Stream(parts, draw(st.integers(1, 12)), draw(st.integers(1, 12)), **chosen)
    stream.set_epoch(draw(st.integers(0, 3)))
    return stream


any_streams = st.one_of(streams(), streams(packed=True))


def mask_of(window):
    return torch.ones(window.inputs.shape[:2], dtype=torch.bool) if window.mask is None else window.mask


def resets_of(window):
    if window.resets is not None:
        return window.resets
    return torch.nn.functional.pad(window.starts[:, None], (0, window.inputs.size(1) - 1))


def joined(windows):
    """The inputs and targets that count, by sequence, in the order of reading."""
    read = {}
    for window in windows:
        mask = mask_of(window)
        for inputs, targets, counted in zip(window.inputs, window.targets, mask, strict=True):
            for pair in zip(inputs[counted].tolist(), targets[counted].tolist(), strict=True):
                read.setdefault(pair[0] // SEQUENCE, []).append(pair)
    return read


def expected(stream):
    return {
        number: [(SEQUENCE * number + step, SEQUENCE * number + step + 1) for step in range(count)]
        for number, count in enumerate(stream.layout.counts.tolist())
    }


@given(any_streams)
def test_windows_joined_give_the_sequences_back_and_each_target_counts_once(stream):
    windows = list(stream)
    assert joined(windows) == expected(stream)
    assert sum(int(mask_of(window).sum()) for window in windows) == sum(stream.layout.counts)


@given(streams(packed=True))
def test_packed_sequences_follow_each_other_in_their_rows(stream):
    rows = [[] for _ in range(stream.batch_size)]
    for window in stream:
        mask, resets = mask_of(window), resets_of(window)
        assert torch.equal(resets[:, 0], window.starts)
        assert 1 <= mask.size(1) <= stream.bptt
        assert mask.any(0).all()
        assert mask.any(1)[-1]
        for row, parts in enumerate(zip(window.inputs, window.targets, mask, resets, strict=True)):
            rows[row].extend(zip(*(part.tolist() for part in parts), strict=True))
    for row in rows:
        counted = [step for step in row if step[2]]
        assert row[: len(counted)] == counted, "something is masked before the row's end"
        assert [reset for *_, reset in counted] == [first % SEQUENCE == 0 for first, *_ in counted]
    lengths = [sum(step[2] for step in row) for row in rows[: stream.layout.rows]]
    assert max(lengths) - min(lengths) <= max(stream.layout.counts), "a row is idle while a sequence waits"


@given(any_streams)
def test_there_are_as_many_windows_in_every_epoch(stream):
    for epoch in range(3):
        stream.set_epoch(epoch)
        assert len(list(stream)) == len(stream)


@given(streams())
def test_a_row_reads_a_sequence_to_its_end_and_then_takes_the_next_one(stream):
    sequence, following, waiting = {}, {}, set(range(len(stream.layout.counts)))
    for window in stream:
        mask = mask_of(window)
        assert window.starts.shape == mask.shape[:1]
        assert window.inputs.shape == window.targets.shape == mask.shape
        assert 1 <= mask.size(1) <= stream.bptt
        assert mask.size(0) <= stream.batch_size
        idle = [row for row in range(stream.batch_size) if row >= len(mask) or not mask[row].any()]
        for row, (inputs, counted) in enumerate(zip(window.inputs, mask, strict=True)):
            steps = int(counted.sum())
            assert counted[:steps].all()  # what is masked comes last
            if not steps:
                assert not window.starts[row]
                continue
            first = int(inputs[0])
            assert window.starts[row] == (first % SEQUENCE == 0)
            if window.starts[row]:
                assert row not in following or following[row] == "end"
                sequence[row] = first // SEQUENCE
                waiting.remove(sequence[row])
            else:
                assert first == following[row]
            ended = first % SEQUENCE + steps == stream.layout.counts[sequence[row]]
            assert ended or steps == min(stream.bptt, mask.size(1))
            following[row] = "end" if ended else first + steps
        assert not (idle and waiting), "a row is idle while a sequence waits"
        assert mask.any(0).all(), "a step that counts for no row"


@given(any_streams, st.data())
def test_a_pass_goes_on_where_another_stopped(stream, data):
    epoch = stream.epoch
    whole = list(stream)
    taken = data.draw(st.integers(0, len(whole)))
    other = copy(stream)
    other.load_state_dict({"epoch": epoch, "batches": taken})
    for ours, theirs in itertools.zip_longest(other, whole[taken:]):
        for one, another in zip(ours, theirs, strict=True):
            assert (one is None) == (another is None)
            assert one is None or torch.equal(one, another)
    stream.set_epoch(epoch + 1)
    assert joined(other) == joined(stream)  # the pass after it is a whole one


@given(any_streams, st.integers(1, 3))
def test_processes_share_the_rows(stream, processes):
    stream.batch_size *= processes
    if stream.layout.rows <= (processes - 1) * (stream.batch_size // processes):
        with pytest.raises(UserError, match="without a row"):
            stream.shard(0, processes)
        return
    shards = [stream.shard(rank, processes) for rank in range(processes)]
    read = [list(shard) for shard in shards]
    assert {len(windows) for windows in read} == {len(stream)}
    assert all(len(window.inputs) >= 1 for windows in read for window in windows)
    together = {}
    for windows in read:
        for number, pairs in joined(windows).items():
            assert number not in together  # a sequence is read by one process
            together[number] = pairs
    assert together == expected(stream)


def test_the_image_in_the_docstring():
    texts = ["abcdef", "ABC", "12345"]
    stream = Stream([torch.tensor([ord(letter) for letter in text]) for text in texts], batch_size=2, bptt=2)
    read = [
        ["".join(map(chr, row[counted])) for row, counted in zip(w.inputs, mask_of(w), strict=True)] for w in stream
    ]
    assert read == [["ab", "AB"], ["cd", "12"], ["e", "34"]]
    assert [window.starts.tolist() for window in stream] == [[True, True], [False, True], [False, False]]
    assert [None if window.mask is None else window.mask.tolist() for window in stream] == [
        None, None, [[True, False], [True, True]],
    ]  # fmt: skip


def test_the_image_of_packed_sequences_in_the_docstring():
    texts = ["abcdef", "ABC", "12345"]
    parts = [torch.tensor([ord(letter) for letter in text]) for text in texts]
    first, second = Stream(parts, batch_size=2, bptt=3, packed=True)
    read = [["".join(map(chr, row)) for row in window.inputs] for window in (first, second)]
    assert read == [["abc", "AB1"], ["de\0", "234"]]
    assert first.resets.int().tolist() == [[1, 0, 0], [1, 0, 1]]
    assert (first.mask, second.resets) == (None, None)
    assert second.mask.tolist() == [[True, True, False], [True] * 3]


def test_shuffling_depends_on_seed_and_epoch_alone():
    parts = [torch.full((2,), number) for number in range(200)]

    def orders(seed):
        stream = Stream(parts, 8, 4, shuffle=True, seed=seed)
        return [torch.cat([window.inputs[:, 0] for window in stream]).tolist() for _ in range(3)]

    first = orders(0)
    assert first == orders(0)
    assert len({tuple(order) for order in [*first, *orders(1)]}) == 6
    assert all(sorted(order) == list(range(200)) for order in first)


def test_sequences_of_equal_length_in_one_tensor_are_views():
    whole = torch.arange(60)
    stream = Stream(whole.split(15), batch_size=4, bptt=7)
    for window in stream:
        assert window.inputs.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    one_row = Stream([torch.arange(9.0), torch.arange(7.0)], batch_size=1, bptt=4)
    storages = {part.untyped_storage().data_ptr() for part in one_row.layout.sequences.parts}
    assert {window.inputs.untyped_storage().data_ptr() for window in one_row} <= storages


@pytest.mark.parametrize("apart", [True, False])
def test_numbers_with_labels_of_another_dtype(apart):
    numbers, labels = torch.randn(30, 3, dtype=torch.float64), torch.arange(30, dtype=torch.int16)
    parts, targets = (
        [part.clone() if apart else part for part in whole.split([7, 1, 12, 10])] for whole in (numbers, labels)
    )
    seen = []
    for window in Stream(parts, 3, 4, targets=targets, shuffle=True):
        assert window.inputs.dtype == torch.float64
        assert window.targets.dtype == torch.int64
        mask = mask_of(window)
        assert torch.equal(window.inputs[mask], numbers[window.targets[mask]])
        seen += window.targets[mask].tolist()
    assert sorted(seen) == list(range(30))


@given(lengths(shortest=3), st.integers(1, 5), st.integers(1, 9), st.integers(0, 40))
def test_the_steps_after_a_start_are_read_but_not_scored(counts, batch_size, bptt, warm_up):
    parts = [SEQUENCE * number + torch.arange(count) for number, count in enumerate(counts)]
    if warm_up >= max(counts) - 1:
        with pytest.raises(UserError, match=f"warm_up={warm_up}: leaves nothing to score"):
            Stream(parts, batch_size, bptt, warm_up=warm_up)
        return
    stream, cold = (Stream(parts, batch_size, bptt, warm_up=steps) for steps in (warm_up, 0))
    scored = sorted(target for window in stream for target in window.targets[mask_of(window)].tolist())
    assert scored == [
        SEQUENCE * number + step for number, count in enumerate(counts) for step in range(warm_up + 1, count)
    ]
    for ours, theirs in zip(stream, cold, strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)


def test_one_sequence_warms_up_each_of_its_rows():
    stream = Stream(torch.arange(101), batch_size=4, bptt=7, warm_up=10)
    scored = [target for window in stream for target in window.targets[mask_of(window)].tolist()]
    cold = [target for start in range(0, 101, stream.layout.row_length) for target in range(start + 1, start + 11)]
    assert sorted(scored) == [target for target in range(1, 101) if target not in cold]
    assert [window.mask is None for window in stream] == [False, False, *[True] * (len(stream) - 2)]


@pytest.mark.slow
def test_many_sequences_cost_their_index(command):
    script = """
import resource, torch
from unroll import Stream

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

parts = torch.arange(2_000_000, dtype=torch.int32).split(10)
next(iter(Stream(parts[:100], 64, 8)))
before = peak()
stream = Stream(parts, 64, 8, shuffle=True)
stream.load_state_dict({"epoch": 3, "batches": len(stream) // 2})
next(iter(stream))
print(peak() - before, stream.state_dict())
"""
    finished = command("-c", script)
    assert finished.returncode == 0, finished.stderr
    mib, state = finished.stdout.split(maxsplit=1)
    assert float(mib) < 50  # 200,000 of them; as many tensors take 80 MiB
    assert len(state) < 50


def test_a_stream_can_be_pickled():
    stream = Stream([torch.arange(5), torch.arange(3)], 2, 2)
    assert joined(pickle.loads(pickle.dumps(stream))) == joined(stream)


class Reader(nn.Module):
    def __init__(self, features=2):
        super().__init__()
        self.rnn = GRU(features, 5)
        self.head = nn.Linear(5, features)

    def forward(self, inputs, state=None, resets=None):
        outputs, state = self.rnn(inputs, state, resets)
        return self.head(outputs), state


class Forgetful(Reader):
    def forward(self, inputs, state=None):
        return super().forward(inputs, state)


@settings(deadline=None, max_examples=30)
@given(lengths(), st.integers(1, 6), st.integers(1, 12), st.booleans(), st.booleans())
def test_a_gru_over_the_stream_computes_what_it_computes_over_each_document_by_itself(
    counts, batch_size, bptt, shuffle, packed
):
    torch.manual_seed(0)
    model = Reader().double()
    documents = [torch.randn(count, 2, dtype=torch.float64) for count in counts]
    labels = [SEQUENCE * number + torch.arange(count) for number, count in enumerate(counts)]
    for window_length in (bptt, sum(counts)):  # the second covers every document whole
        found, loss, state = {}, torch.zeros((), dtype=torch.float64), None
        stream = Stream(documents, batch_size, window_length, targets=labels, shuffle=shuffle, packed=packed)
        model.zero_grad()
        for window in stream:
            if state is not None:
                state = start_rows(keep_rows(detach(state), len(window.starts)), window.starts)
            outputs, state = model(window.inputs, state, window.resets)
            mask = mask_of(window)
            found |= dict(zip(window.targets[mask].tolist(), outputs[mask], strict=True))
            loss = loss + outputs[mask].square().sum()
        loss.backward()
        streamed = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        for document, label in zip(documents, labels, strict=True):
            outputs, _ = model(document[None])
            outputs.square().sum().backward()
            torch.testing.assert_close(
                torch.stack([found[step] for step in label.tolist()]), outputs[0], atol=1e-10, rtol=0
            )
    for ours, theirs in zip(streamed, model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad, atol=1e-10, rtol=1e-10)


def learnt(model, stream):
    """The loss of each epoch of a fit."""
    learner = WindowLearner(model, MeanSquaredError(), optimizer=partial(torch.optim.SGD, lr=0.1))
    losses = []
    keep = LambdaCallback(on_train_epoch_end=lambda trainer, module: losses.append(module.total("train")["loss"]))
    trainer = pl.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", callbacks=[keep],
    )  # fmt: skip
    trainer.fit(learner, DataLoader(stream, batch_size=None))
    return losses


def test_a_learner_gives_the_model_the_resets_of_packed_sequences():
    torch.manual_seed(0)
    documents = [torch.randn(count, 2, dtype=torch.float64) for count in (9, 3, 7, 4, 5)]
    model, other = Reader().double(), Reader().double()
    other.load_state_dict(model.state_dict())
    whole = learnt(model, Stream(documents, 5, 9))  # each document in a row of its own
    assert learnt(other, Stream(documents, 1, 100, packed=True)) == pytest.approx(whole, abs=1e-10)
    with pytest.raises(UserError, match="Forgetful has no argument `resets`"):
        learnt(Forgetful().double(), Stream(documents, 1, 100, packed=True))


@pytest.mark.parametrize(
    ("sequences", "settings", "words"),
    [
        ([], {}, "at least one sequence; the list is empty"),
        ([torch.arange(3), torch.zeros(0, dtype=torch.int64)], {}, "sequence 1 is empty; leave it out"),
        ([torch.arange(3), torch.arange(1)], {}, "sequence 1 has a single step, so nothing to predict"),
        ([torch.zeros(3, 2), torch.zeros(3, 4)], {}, r"sequence 1 is torch.float32 \[3, 4\] and the first .* \[3, 2\]"),
        ([torch.zeros(3), torch.arange(3)], {}, r"sequence 1 is torch.int64 \[3\] and the first torch.float32 \[3\]"),
        ([torch.zeros(3), [1, 2]], {}, r"sequence 1 must be a tensor \[n, …\], not a list"),
        ([torch.zeros(3), torch.tensor(3)], {}, r"not torch.int64 \[\]"),
        ([torch.zeros(3)], {"targets": torch.zeros(3)}, "targets must be a list of 1 tensors"),
        ([torch.zeros(3)] * 2, {"targets": [torch.zeros(3)]}, "targets must be a list of 2 tensors"),
        ([torch.zeros(3)], {"targets": [torch.zeros(2)]}, "the targets of sequence 0 have 2 steps, the sequence has 3"),
        ([torch.zeros(3)], {"targets": [torch.zeros(0)]}, "targets: sequence 0 is empty; leave it out"),
        ([torch.zeros(3)], {"jitter": True}, "jitter=True: is for one sequence"),
        ([torch.zeros(3)], {"tail": "drop"}, "tail='drop': is for one sequence"),
        (torch.zeros(30), {"packed": True}, "packed=True: is for a list of sequences"),
        (torch.zeros(30), {"shuffle": True}, "shuffle=True: is for a list of sequences"),
        (torch.zeros(30), {"warm_up": 30}, "warm_up=30: leaves nothing to score; the longest row has 15 targets"),
        ([torch.zeros(3)], {"warm_up": -1}, "warm_up=-1: must be a whole number, 0 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_line(sequences, settings, words):
    with pytest.raises(UserError, match=words) as error:
        Stream(sequences, **{"batch_size": 2, "bptt": 3, **settings})
    assert "\n" not in str(error.value)
