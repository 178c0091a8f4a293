"""One long sequence as contiguous rows."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.streams.layout import Layout, Random, check_scored, type_and_shape
from unroll.streams.sequences import to_int64
from unroll.streams.window import Window

# The lesson's recipe for windows of varying length (AWD-LSTM, Merity et al. 2017, section 5.1): lengths are normal
# around bptt, a few around half of it, and none is very short.
JITTER_HALF_SHARE = 0.05
JITTER_STD = 5.0
JITTER_SHORTEST = 5.0


class OneSequence(Layout):
    """The layout of one tensor. Its windows are views.

    Args:
        sequence, batch_size, bptt, targets, tail, jitter, warm_up: as for `Stream`.

    Attributes:
        row_length: the targets of a row.
        rows: how many there are; the last has `last_row_length` targets.
    """

    def __init__(
        self,
        sequence: Tensor,
        batch_size: int,
        bptt: int,
        targets: Any,
        tail: Literal["keep", "drop"],
        jitter: bool,
        warm_up: int,
    ) -> None:
        if sequence.dim() == 0:
            raise UserError(f"a stream reads a tensor [n, …], or a list of them, not {type_and_shape(sequence)}")
        if targets is not None and (not isinstance(targets, Tensor) or targets.shape[:1] != sequence.shape[:1]):
            raise UserError(
                f"targets must be a tensor [{len(sequence)}, …] like the inputs, not {type_and_shape(targets)}"
            )
        self.sequence, self.targets = sequence, targets
        self.bptt, self.jitter, self.warm_up = bptt, jitter, warm_up
        self.ahead = 1 if targets is None else 0  # steps from an input to its target
        count = len(sequence) - self.ahead
        if count < 1:
            raise UserError(
                f"a stream needs at least {1 + self.ahead} steps to read and to predict; here: {len(sequence)}"
            )
        if batch_size > count:
            raise UserError(
                f"batch_size={batch_size} is larger than the data: {len(sequence)} steps fill at most {count} rows"
            )
        self.batch_size = batch_size
        self.tensor_names = ("sequence",) if targets is None else ("sequence", "targets")
        drop = tail == "drop"
        self.row_length = count // batch_size if drop else math.ceil(len(sequence) / batch_size)
        self.num_targets = self.row_length * batch_size if drop else count
        self.rows = math.ceil(self.num_targets / self.row_length)
        # The last row is at most as long as the others; with a single row, it is all there is.
        self.last_row_length = self.num_targets - (self.rows - 1) * self.row_length
        full_length = self.row_length if self.rows > 1 else self.last_row_length
        self.stretches = [(0, self.last_row_length), (self.last_row_length, full_length)]
        self.shard_rows = range(self.rows)
        check_scored(warm_up, full_length)

    def __len__(self) -> int:
        return sum(math.ceil((stop - start) / self.bptt) for start, stop in self.stretches)

    def windows(self, first: int, random: Random) -> Iterator[Window]:
        starting, continuing = (torch.full((len(self.shard_rows),), value, dtype=torch.bool) for value in (True, False))
        targets = self.sequence if self.targets is None else self.targets
        for start, stop in islice(self.cuts(random), first, None):
            rows = self.rows if start < self.last_row_length else self.rows - 1
            mine = self.shard_rows[: rows - self.shard_rows.start]
            yield Window.of(
                self._view(self.sequence, mine, start, stop),
                self._view(targets, mine, start + self.ahead, stop + self.ahead),
                (continuing if start else starting)[: len(mine)],
                self._mask(len(mine), start, stop) if start < self.warm_up else None,
            )

    def _mask(self, rows: int, start: int, stop: int) -> Tensor:
        return (torch.arange(start, stop) >= self.warm_up).expand(rows, -1)

    def cuts(self, random: Random) -> Iterator[tuple[int, int]]:
        """The steps `[start, stop)` of each window within its rows, in order."""
        for number, (start, stop) in enumerate(self.stretches):
            if self.jitter:
                yield from self._jittered(random(number), start, stop)
            else:
                for at in range(start, stop, self.bptt):
                    yield at, min(at + self.bptt, stop)

    def check_shard(self, processes: int, share: int) -> None:
        left_at_the_end = self.rows - (self.last_row_length < self.row_length)
        if processes > 1 and left_at_the_end <= (processes - 1) * share:
            raise UserError(
                f"data.batch_size={self.batch_size} leaves the last of {processes} processes without a row; "
                f"use a larger batch_size or fewer processes"
            )

    def _view(self, sequence: Tensor, rows: range, start: int, stop: int) -> Tensor:
        step, *rest = sequence.stride()
        offset = sequence.storage_offset() + (rows.start * self.row_length + start) * step
        shape = (len(rows), stop - start, *sequence.shape[1:])
        return to_int64(sequence.as_strided(shape, (self.row_length * step, step, *rest), offset))

    def _jittered(self, generator: torch.Generator, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """As many windows as without jitter: one step each, and the rest in proportion to lengths drawn at random."""
        count = math.ceil((stop - start) / self.bptt)
        if count == 0:
            return
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
