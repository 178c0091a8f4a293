"""The stream: one long sequence as aligned windows, for truncated backpropagation through time."""

import math
from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.streams.resumable import Resumable, rows_per_process
from unroll.streams.window import Window

# The lesson's recipe for windows of varying length (AWD-LSTM, Merity et al. 2017, section 5.1): lengths are normal
# around bptt, a few around half of it, and none is very short.
JITTER_HALF_SHARE = 0.05
JITTER_STD = 5.0
JITTER_SHORTEST = 5.0


class Stream(Resumable):
    """Lays a sequence out as `batch_size` contiguous rows and yields them window by window.

    Row r of a window continues row r of the window before it, so the state that a model has after one window is the
    state to read the next one with. Targets are the inputs one step ahead, or a sequence of their own. Nothing is
    shuffled, and windows are views: nothing is copied.

    Nineteen tokens a … s with batch_size=4, bptt=2, tail="keep" make rows of ceil(19/4) = 5; the last row
    ends early (s is a target only), the window in which it ends is cut there, and later windows are narrower:

                 inputs                        targets
                 window 0 window 1 window 2    window 0 window 1 window 2
        row 0      a b      c       d e          b c      d       e f
        row 1      f g      h       i j          g h      i       j k
        row 2      k l      m       n o          l m      n       o p
        row 3      p q      r                    q r      s

    With tail="drop" all rows are equal, floor(18/4) = 4 long, and the last two targets are left out:

        row 0      a b     c d                   b c     d e
        row 1      e f     g h                   f g     h i
        row 2      i j     k l                   j k     l m
        row 3      m n     o p                   n o     p q

    Args:
        sequences: one sequence, `[n, …]`, of any dtype. Integers of a smaller type are converted to int64, window by
            window.
        batch_size: the number of rows; at most the number of targets. With "keep", rounding up can leave the last rows
            empty, and windows then have fewer rows.
        bptt: steps per window: how far back gradients reach.
        targets: `[n, …]`, aligned with the sequence step by step; by default the sequence itself, one step ahead.
        tail: "keep" makes every step a target exactly once (all but the first, where targets are one step ahead);
            "drop" leaves out the remainder (fewer than `batch_size` targets) so that all windows are equally wide.
        jitter: vary the windows' lengths around `bptt`, in another way in each epoch; their number stays the same.
        seed: with the epoch, determines the jitter.

    A pass can be resumed at any window (`Resumable`) and shared by processes (`shard`).

    Yields:
        `Window`s; all rows start in the first of a pass and none in the others.

    Raises:
        UserError: there is nothing to read, fewer targets than rows, or an argument is out of range.
    """

    def __init__(
        self,
        sequences: Tensor,
        batch_size: int,
        bptt: int,
        targets: Tensor | None = None,
        tail: Literal["keep", "drop"] = "keep",
        jitter: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(sequences, Tensor) or sequences.dim() == 0:
            raise UserError(f"a stream reads a tensor [n, …], not {described(sequences)}")
        sequence = sequences
        if targets is not None and (not isinstance(targets, Tensor) or targets.shape[:1] != sequence.shape[:1]):
            raise UserError(f"targets must be a tensor [{len(sequence)}, …] like the inputs, not {described(targets)}")
        if bptt < 1:
            raise UserError(f"bptt={bptt}: a window has at least 1 step")
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch has at least 1 row")
        if tail not in ("keep", "drop"):
            raise UserError(f"tail={tail!r}: choose from: keep, drop")
        ahead = 1 if targets is None else 0
        count = len(sequence) - ahead
        if count < 1:
            raise UserError(f"a stream needs at least {1 + ahead} tokens to read and to predict; here: {len(sequence)}")
        if batch_size > count:
            raise UserError(
                f"batch_size={batch_size} is larger than the corpus: "
                f"its {len(sequence)} tokens fill at most {count} rows"
            )
        self.sequence = sequence
        self.targets = targets
        self.held = ("sequence",) if targets is None else ("sequence", "targets")
        self.batch_size = batch_size
        self.bptt = bptt
        self.tail = tail
        self.jitter = jitter
        self.seed = seed
        self.row_length = count // batch_size if tail == "drop" else math.ceil(len(sequence) / batch_size)
        self.num_targets = self.row_length * batch_size if tail == "drop" else count
        self.rows = math.ceil(self.num_targets / self.row_length)
        # The last row is at most as long as the others; with a single row, it is all there is.
        self.last_row_length = self.num_targets - (self.rows - 1) * self.row_length
        full_length = self.row_length if self.rows > 1 else self.last_row_length
        self._stretches = [(0, self.last_row_length), (self.last_row_length, full_length)]
        self._shard = range(self.rows)

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
            )

    def windows(self) -> Iterator[tuple[int, int]]:
        """The steps `[start, stop)` of each window within its rows, in order."""
        for number, (start, stop) in enumerate(self._stretches):
            if self.jitter:
                yield from self._jittered(number, start, stop)
            else:
                for at in range(start, stop, self.bptt):
                    yield at, min(at + self.bptt, stop)

    def shard(self, rank: int, processes: int) -> "Stream":
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
        window = sequence.as_strided(shape, (self.row_length * step, step, *rest), offset)
        if not (window.is_floating_point() or window.is_complex() or window.dtype == torch.bool):
            window = window.long()
        return window.pin_memory() if self.pin else window

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


def described(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
