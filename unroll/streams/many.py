"""Many sequences: each row reads one after the other."""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy
import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.streams.queues import Queues, Shuffled, in_order
from unroll.streams.resumable import rows_per_process
from unroll.streams.sequences import Sequences
from unroll.streams.stream import Stream
from unroll.streams.window import Window


class ManySequences(Stream):
    """The `Stream` of a list of tensors.

    Attributes:
        sequences: those.
        targets: the same for the targets; None if they are the sequences, one step ahead.
        counts: the targets of each sequence, int64 `[sequences]`.
    """

    def lay_out(self, sequences: Any, targets: Any) -> None:
        if self.jitter:
            raise UserError("jitter=True: is for one sequence; with a list of them, shuffle=True varies the windows")
        if self.tail == "drop":
            raise UserError("tail='drop': is for one sequence; a list of sequences is read whole")
        self.sequences = Sequences(sequences)
        lengths = self.sequences.lengths
        self.counts = lengths - self.ahead
        if not self.counts.all():
            number = int(self.counts.argmin())
            raise UserError(f"sequence {number} has a single step, so nothing to predict; leave it out")
        self.targets: Sequences | None = None
        self.held: tuple[str, ...] = ("sequences",)
        if targets is not None:
            if not isinstance(targets, (list, tuple)) or len(targets) != len(sequences):
                raise UserError(f"targets must be a list of {len(sequences)} tensors like the sequences")
            try:
                self.targets = Sequences(targets)
            except UserError as error:
                raise UserError(f"targets: {error}") from None
            unequal = (self.targets.lengths != lengths).nonzero()[0]
            if len(unequal):
                number = unequal[0]
                raise UserError(
                    f"the targets of sequence {number} have {self.targets.lengths[number]} steps, "
                    f"the sequence has {lengths[number]}; they must be aligned step by step"
                )
            self.held = ("sequences", "targets")
        windows = -(-self.counts // self.bptt)
        self.rows = min(self.batch_size, len(sequences))
        self._shard = range(self.rows)
        self._queues = Shuffled(windows, self.rows) if self.shuffle else in_order(windows, self.rows)
        self._length = len(self.queues())
        self.refuse_unless_scored(int(self.counts.max()))

    def queues(self) -> Queues:
        """What each row reads in the current epoch."""
        return self._queues.draw(self.random()) if isinstance(self._queues, Shuffled) else self._queues

    def __len__(self) -> int:
        """The number of windows, the same in every epoch."""
        return self._length

    def batches(self, first: int) -> Iterator[Window]:
        queues, mine = self.queues(), slice(self._shard.start, self._shard.stop)
        stops = queues.bounds[1:][mine]
        entries = queues.entries(first)[mine]
        last = len(queues.order) - 1
        for window in range(first, len(self)):
            ended = entries == stops
            # At least one row, for a process whose rows have all ended.
            rows = 1 + int((~ended).nonzero()[0].max(initial=0))
            entry, ended = entries[:rows].clip(max=last), ended[:rows]
            numbers = queues.order[entry]
            at = (window - queues.begins[entry]) * self.bptt
            lengths = (self.counts[numbers] - at).clip(max=self.bptt)
            at[ended] = lengths[ended] = 0
            yield self._cut(numbers, at, lengths, ended)
            entries = entries + ((entries < stops) & (queues.ends[entries.clip(max=last)] == window + 1))

    def _cut(self, numbers: numpy.ndarray, at: numpy.ndarray, lengths: numpy.ndarray, ended: numpy.ndarray) -> Window:
        """The window of some sequences, each from a step on. Rows that have ended have the length 0."""
        read = lengths.clip(min=1)  # a row that has ended reads a step that is masked
        if self.targets is None:
            both = self.widened(self.sequences.stack(numbers, at, read + 1))
            inputs, targets = both[:, :-1], both[:, 1:]
        else:
            inputs, targets = (self.widened(part.stack(numbers, at, read)) for part in (self.sequences, self.targets))
        steps = numpy.arange(read.max())
        scored = steps < lengths[:, None]
        if self.warm_up:
            scored &= at[:, None] + steps >= self.warm_up
        return Window(
            inputs,
            targets,
            self._like(inputs, (at == 0) & ~ended),
            None if scored.all() else self._like(inputs, scored),
        )

    @staticmethod
    def _like(inputs: Tensor, flags: numpy.ndarray) -> Tensor:
        return torch.from_numpy(flags).to(inputs.device)

    def shard(self, rank: int, processes: int) -> "ManySequences":
        """The rows of one of several processes. Each has as many windows; where all of its rows have ended before those
        of another, it gets windows of one row in which every step is masked.

        Raises:
            UserError: the rows can't be shared evenly, or there are too few sequences.
        """
        share = rows_per_process(self.batch_size, processes)
        if self.rows <= (processes - 1) * share:
            raise UserError(
                f"data.batch_size={self.batch_size} leaves the last of {processes} processes without a row: there are "
                f"{len(self.counts)} sequences; use a smaller batch_size or fewer processes"
            )
        shard = copy(self)
        shard._shard = range(rank * share, min((rank + 1) * share, self.rows))
        return shard
