"""Many sequences, packed: each row reads one right after the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from unroll.streams.layout import Random
from unroll.streams.many import ManySequences
from unroll.streams.queues import Queues
from unroll.streams.sequences import to_int64
from unroll.streams.window import Window


class PackedSequences(ManySequences):
    """The layout of a list of tensors whose rows are read on at the next step where a sequence ends.

    Its queues count steps where those of `ManySequences` count windows. So an order that is drawn anew changes the
    order within each row, and only sequences of the same length change rows.

    Sequences that are not parts of one tensor are copied into one.

    Args:
        sequences, batch_size, bptt, targets, shuffle, warm_up: as for `Stream`.
    """

    def __init__(
        self, sequences: Sequence[Tensor], batch_size: int, bptt: int, targets: Any, shuffle: bool, warm_up: int
    ) -> None:
        super().__init__(sequences, batch_size, bptt, targets, shuffle, warm_up)
        self.sequences = self.sequences.in_one()
        if self.targets is not None:
            self.targets = self.targets.in_one()

    def queue_units(self) -> numpy.ndarray:
        return self.counts

    def __len__(self) -> int:
        return -(-self.length // self.bptt)

    def windows(self, first: int, random: Random) -> Iterator[Window]:
        queues, mine = self.queues(random), self.shard_rows
        row_ends = queues.row_ends()
        # One sorted array finds the entry of any row and step: the rows' ends one after the other.
        apart = int(row_ends.max()) + self.bptt
        ends = queues.ends + apart * numpy.repeat(numpy.arange(self.rows), numpy.diff(queues.bounds))
        for start in range(first * self.bptt, self.length, self.bptt):
            reading = [row for row in mine if row_ends[row] > start]
            rows = numpy.arange(mine.start, reading[-1] + 1 if reading else mine.start + 1)
            # At least one step, for a process whose rows have all ended.
            stop = min(start + self.bptt, int(row_ends[rows].max(initial=start + 1)))
            yield self._cut_steps(queues, ends, rows, numpy.arange(start, max(stop, start + 1)), row_ends, apart)

    def _cut_steps(
        self,
        queues: Queues,
        ends: numpy.ndarray,
        rows: numpy.ndarray,
        steps: numpy.ndarray,
        row_ends: numpy.ndarray,
        apart: int,
    ) -> Window:
        """The window of some steps of some rows. A row that has ended reads a step that is masked."""
        ended = steps >= row_ends[rows][:, None]
        entries = ends.searchsorted(rows[:, None] * apart + steps, side="right").clip(max=len(ends) - 1)
        numbers = queues.order[entries]
        at = steps - queues.begins[entries]
        at[ended] = 0
        source, ahead = (self.sequences, 1) if self.targets is None else (self.targets, 0)
        inputs, targets = self.sequences.gather(numbers, at, ended), source.gather(numbers, at + ahead, ended)
        begins = (at == 0) & ~ended
        scored = ~ended & (at >= self.warm_up)
        return Window.of(
            to_int64(inputs),
            to_int64(targets),
            torch.from_numpy(begins[:, 0].copy()),
            None if scored.all() else torch.from_numpy(scored),
            torch.from_numpy(begins) if begins[:, 1:].any() else None,
        )
