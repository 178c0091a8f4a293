"""Many sequences: each row reads one after the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.streams.layout import Layout, Random, check_scored
from unroll.streams.queues import Queues, Shuffled, in_order
from unroll.streams.sequences import Sequences, to_int64
from unroll.streams.window import Window


class ManySequences(Layout):
    """The layout of a list of tensors.

    Args:
        sequences, batch_size, bptt, targets, shuffle, warm_up: as for `Stream`.

    Attributes:
        counts: the targets of each sequence, int64 `[sequences]`.
    """

    def __init__(
        self,
        sequences: Sequence[Tensor],
        batch_size: int,
        bptt: int,
        targets: Any,
        shuffle: bool,
        warm_up: int,
    ) -> None:
        self.batch_size, self.bptt, self.warm_up = batch_size, bptt, warm_up
        self.sequences = Sequences(sequences)
        lengths = self.sequences.lengths
        self.counts = lengths - (1 if targets is None else 0)
        if not self.counts.all():
            number = int(self.counts.argmin())
            raise UserError(f"sequence {number} has a single step, so nothing to predict; leave it out")
        self.targets = None if targets is None else aligned(targets, lengths)
        self.tensor_names = ("sequences",) if targets is None else ("sequences", "targets")
        units = self.queue_units()
        self.rows = min(batch_size, len(sequences))
        self.shard_rows = range(self.rows)
        self.drawn: Queues | Shuffled = Shuffled(units, self.rows) if shuffle else in_order(units, self.rows)
        # as long in every epoch
        self.length = len(self.drawn.draw(torch.Generator()) if isinstance(self.drawn, Shuffled) else self.drawn)
        check_scored(warm_up, int(self.counts.max()))

    def queue_units(self) -> numpy.ndarray:
        """How long each sequence occupies its row: windows, int64 `[sequences]`."""
        return -(-self.counts // self.bptt)

    def queues(self, random: Random) -> Queues:
        """What each row reads in the current epoch."""
        return self.drawn.draw(random()) if isinstance(self.drawn, Shuffled) else self.drawn

    def __len__(self) -> int:
        return self.length

    def windows(self, first: int, random: Random) -> Iterator[Window]:
        queues, mine = self.queues(random), slice(self.shard_rows.start, self.shard_rows.stop)
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
            both = to_int64(self.sequences.stack(numbers, at, read + 1))
            inputs, targets = both[:, :-1], both[:, 1:]
        else:
            inputs, targets = (to_int64(part.stack(numbers, at, read)) for part in (self.sequences, self.targets))
        steps = numpy.arange(read.max())
        scored = steps < lengths[:, None]
        if self.warm_up:
            scored &= at[:, None] + steps >= self.warm_up
        starts = torch.from_numpy((at == 0) & ~ended)
        mask = None if scored.all() else torch.from_numpy(scored)
        return Window.of(inputs, targets, starts, mask)

    def check_shard(self, processes: int, share: int) -> None:
        if self.rows <= (processes - 1) * share:
            raise UserError(
                f"data.batch_size={self.batch_size} leaves the last of {processes} processes without a row: there are "
                f"{len(self.counts)} sequences; use a smaller batch_size or fewer processes"
            )


def aligned(targets: Any, lengths: numpy.ndarray) -> Sequences:
    """Targets for sequences of these lengths, step by step.

    Raises:
        UserError: they don't fit.
    """
    if not isinstance(targets, (list, tuple)) or len(targets) != len(lengths):
        raise UserError(f"targets must be a list of {len(lengths)} tensors like the sequences")
    try:
        found = Sequences(targets)
    except UserError as error:
        raise UserError(f"targets: {error}") from None
    unequal = (found.lengths != lengths).nonzero()[0]
    if len(unequal):
        number = unequal[0]
        raise UserError(
            f"the targets of sequence {number} have {found.lengths[number]} steps, "
            f"the sequence has {lengths[number]}; they must be aligned step by step"
        )
    return found
