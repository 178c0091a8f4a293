"""One long sequence as contiguous rows."""

import math
from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.streams.resumable import rows_per_process
from unroll.streams.sequences import described
from unroll.streams.stream import Stream
from unroll.streams.window import Window

# The lesson's recipe for windows of varying length (AWD-LSTM, Merity et al. 2017, section 5.1): lengths are normal
# around bptt, a few around half of it, and none is very short.
JITTER_HALF_SHARE = 0.05
JITTER_STD = 5.0
JITTER_SHORTEST = 5.0


class OneSequence(Stream):
    """The `Stream` of one tensor. Its windows are views.

    Attributes:
        sequence: `[n, …]`.
        row_length: the targets of a row.
        rows: how many there are; the last has `last_row_length` targets.
    """

    def lay_out(self, sequences: Any, targets: Any) -> None:
        if sequences.dim() == 0:
            raise UserError(f"a stream reads a tensor [n, …], or a list of them, not {described(sequences)}")
        self.sequence = sequence = sequences
        if targets is not None and (not isinstance(targets, Tensor) or targets.shape[:1] != sequence.shape[:1]):
            raise UserError(f"targets must be a tensor [{len(sequence)}, …] like the inputs, not {described(targets)}")
        if self.shuffle:
            raise UserError("shuffle=True: is for a list of sequences; one sequence is read in its order")
        batch_size, ahead = self.batch_size, self.ahead
        count = len(sequence) - ahead
        if count < 1:
            raise UserError(f"a stream needs at least {1 + ahead} steps to read and to predict; here: {len(sequence)}")
        if batch_size > count:
            raise UserError(
                f"batch_size={batch_size} is larger than the data: {len(sequence)} steps fill at most {count} rows"
            )
        self.targets = targets
        self.held = ("sequence",) if targets is None else ("sequence", "targets")
        drop = self.tail == "drop"
        self.row_length = count // batch_size if drop else math.ceil(len(sequence) / batch_size)
        self.num_targets = self.row_length * batch_size if drop else count
        self.rows = math.ceil(self.num_targets / self.row_length)
        # The last row is at most as long as the others; with a single row, it is all there is.
        self.last_row_length = self.num_targets - (self.rows - 1) * self.row_length
        full_length = self.row_length if self.rows > 1 else self.last_row_length
        self._stretches = [(0, self.last_row_length), (self.last_row_length, full_length)]
        self._shard = range(self.rows)
        self.refuse_unless_scored(full_length)

    def __len__(self) -> int:
        """The number of windows, the same in every epoch."""
        return sum(math.ceil((stop - start) / self.bptt) for start, stop in self._stretches)

    def batches(self, first: int) -> Iterator[Window]:
        starting, continuing = (
            torch.full((len(self._shard),), value, dtype=torch.bool, device=self.sequence.device)
            for value in (True, False)
        )
        targets, ahead = (self.sequence, 1) if self.targets is None else (self.targets, 0)
        for start, stop in islice(self.windows(), first, None):
            rows = self.rows if start < self.last_row_length else self.rows - 1
            mine = self._shard[: rows - self._shard.start]
            starts = continuing if start else starting
            yield Window(
                self._view(self.sequence, mine, start, stop),
                self._view(targets, mine, start + ahead, stop + ahead),
                starts if len(starts) == len(mine) else starts[: len(mine)],
                self._mask(len(mine), start, stop) if start < self.warm_up else None,
            )

    def _mask(self, rows: int, start: int, stop: int) -> Tensor:
        scored = torch.arange(start, stop, device=self.sequence.device) >= self.warm_up
        return scored.expand(rows, -1)

    def windows(self) -> Iterator[tuple[int, int]]:
        """The steps `[start, stop)` of each window within its rows, in order."""
        for number, (start, stop) in enumerate(self._stretches):
            if self.jitter:
                yield from self._jittered(number, start, stop)
            else:
                for at in range(start, stop, self.bptt):
                    yield at, min(at + self.bptt, stop)

    def shard(self, rank: int, processes: int) -> "OneSequence":
        """The rows of one of several processes: neighbours, so that each process keeps the states of its rows.

        Raises:
            UserError: the rows can't be shared evenly, or the last process would run out of them.
        """
        share = rows_per_process(self.batch_size, processes)
        left_at_the_end = self.rows - (self.last_row_length < self.row_length)
        if processes > 1 and left_at_the_end <= (processes - 1) * share:
            raise UserError(
                f"data.batch_size={self.batch_size} leaves the last of {processes} processes without a row; "
                f"use a larger batch_size or fewer processes"
            )
        shard = copy(self)
        shard._shard = range(rank * share, min((rank + 1) * share, self.rows))
        return shard

    def _view(self, sequence: Tensor, rows: range, start: int, stop: int) -> Tensor:
        step, *rest = sequence.stride()
        offset = sequence.storage_offset() + (rows.start * self.row_length + start) * step
        shape = (len(rows), stop - start, *sequence.shape[1:])
        return self.widened(sequence.as_strided(shape, (self.row_length * step, step, *rest), offset))

    def _jittered(self, stretch: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """As many windows as without jitter: one step each, and the rest in proportion to lengths drawn at random."""
        count = math.ceil((stop - start) / self.bptt)
        if count == 0:
            return
        generator = self.random(stretch)
        mean = torch.full((count,), float(self.bptt))
        mean[torch.rand(count, generator=generator) < JITTER_HALF_SHARE] /= 2
        lengths = (
            torch.normal(mean, JITTER_STD, generator=generator).clamp(min=min(JITTER_SHORTEST, self.bptt)).double()
        )
        shares = lengths.cumsum(0) / lengths.sum()
        ends = start + torch.arange(1, count + 1) + (shares * (stop - start - count)).round().long()
        at = start
        for end in ends.tolist():
            yield at, end
            at = end
