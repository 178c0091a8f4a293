"""The stream: one long sequence of tokens as aligned batches, for truncated backpropagation through time."""

import math
from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from training.errors import UserError
from training.resumable import Resumable, fair_share

# The lesson's recipe for varying windows (AWD-LSTM, Merity et al. 2017, section 5.1): lengths are normal
# around bptt, now and then around half of it, and none is very short.
JITTER_HALF_SHARE = 0.05
JITTER_STD = 5.0
JITTER_SHORTEST = 5.0


class BpttStream(Resumable):
    """Lays tokens out as `batch_size` contiguous rows and yields them window by window.

    Row r of a batch continues row r of the batch before it, so that a model's state after one batch is the
    right state to begin the next with. Targets are the inputs one step ahead. Nothing is shuffled, and
    batches are views: nothing is copied.

    Nineteen tokens a … s with batch_size=4, bptt=2, tail="keep" make rows of ceil(19/4) = 5; the last row
    ends early (s is a target only), the window in which it ends is cut there, and later batches are narrower:

                 inputs                        targets
                 batch 0  batch 1  batch 2     batch 0  batch 1  batch 2
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
        tokens: int64 `[n]`, or of a smaller integer type; then it is the windows that become int64 as they are read.
        batch_size: how many rows are read side by side; at most n - 1, the number of targets. With "keep",
            rounding up can leave the last rows without a token, and batches then have fewer rows.
        bptt: how many steps a window has: as far as gradients reach back.
        tail: "keep" makes every token but the first a target exactly once; "drop" leaves out the remainder
            (fewer than `batch_size` targets) so that all batches are equally wide.
        jitter: vary the windows' lengths around `bptt`, anew in each epoch; their number stays the same.
        seed: with the epoch (`set_epoch`), decides the jitter.

    A pass can be resumed in its middle (`training.resumable`), and shared by processes (`shard`).

    Yields:
        `(inputs, targets)`, int64 `[rows, time]` each.

    Raises:
        UserError: there are fewer than two tokens, fewer targets than rows, or an argument is out of range.
    """

    held = ("tokens",)

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        bptt: int,
        tail: Literal["keep", "drop"] = "keep",
        jitter: bool = False,
        seed: int = 0,
    ) -> None:
        if tokens.dim() != 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
            raise UserError(f"tokens must be int64 [n], not {tokens.dtype} {list(tokens.shape)}")
        if bptt < 1:
            raise UserError(f"bptt={bptt}: a window has at least 1 step")
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch has at least 1 row")
        if tail not in ("keep", "drop"):
            raise UserError(f"tail={tail!r}: choose from: keep, drop")
        targets = len(tokens) - 1
        if targets < 1:
            raise UserError(f"a stream needs at least 2 tokens, one to read and one to guess; here: {len(tokens)}")
        if batch_size > targets:
            raise UserError(
                f"batch_size={batch_size} is larger than the corpus: "
                f"its {len(tokens)} tokens fill at most {targets} rows"
            )
        self.tokens = tokens
        self.batch_size = batch_size
        self.bptt = bptt
        self.tail = tail
        self.jitter = jitter
        self.seed = seed
        self.row_length = targets // batch_size if tail == "drop" else math.ceil(len(tokens) / batch_size)
        self.num_targets = self.row_length * batch_size if tail == "drop" else targets
        self.rows = math.ceil(self.num_targets / self.row_length)
        # The last row is at most as long as the others; with a single row, it is all there is.
        self.last_row_length = self.num_targets - (self.rows - 1) * self.row_length
        full_length = self.row_length if self.rows > 1 else self.last_row_length
        self._stretches = [(0, self.last_row_length), (self.last_row_length, full_length)]
        self._shard = range(self.rows)

    def __len__(self) -> int:
        """The number of batches, the same in every epoch."""
        return sum(math.ceil((stop - start) / self.bptt) for start, stop in self._stretches)

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start, stop in islice(self.windows(), first, None):
            rows = self.rows if start < self.last_row_length else self.rows - 1
            mine = self._shard[: rows - self._shard.start]
            yield self._view(mine, start, stop), self._view(mine, start + 1, stop + 1)

    def windows(self) -> Iterator[tuple[int, int]]:
        """The steps `[start, stop)` of each batch within its rows, in order."""
        for number, (start, stop) in enumerate(self._stretches):
            if self.jitter:
                yield from self._jittered(number, start, stop)
            else:
                for at in range(start, stop, self.bptt):
                    yield at, min(at + self.bptt, stop)

    def shard(self, rank: int, processes: int) -> "BpttStream":
        """The rows of one of several processes: neighbours, so that each process keeps the states of its rows.

        Raises:
            UserError: the rows can't be shared out evenly, or the last process would run out of them.
        """
        share = fair_share(self.batch_size, processes)
        left_at_the_end = self.rows - (self.last_row_length < self.row_length)
        if processes > 1 and left_at_the_end <= (processes - 1) * share:
            raise UserError(
                f"data.batch_size={self.batch_size} leaves the last of {processes} processes without a row; "
                f"use a larger batch_size or fewer processes"
            )
        shard = copy(self)
        shard._shard = range(rank * share, min((rank + 1) * share, self.rows))
        return shard

    def _view(self, rows: range, start: int, stop: int) -> Tensor:
        step = self.tokens.stride(0)
        offset = self.tokens.storage_offset() + (rows.start * self.row_length + start) * step
        window = self.tokens.as_strided((len(rows), stop - start), (self.row_length * step, step), offset).long()
        return window.pin_memory() if self.pin else window

    def _jittered(self, stretch: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """As many windows as without jitter: one step each, and the rest in proportion to lengths drawn at random."""
        count = math.ceil((stop - start) / self.bptt)
        if count == 0:
            return
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch, stretch)) % 2**63)
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
