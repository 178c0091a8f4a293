"""The stream: sequences as aligned windows, for truncated backpropagation through time."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Literal

import torch
from torch import Tensor

from unroll.checks import Count, Size, checked
from unroll.errors import UserError
from unroll.streams.layout import Layout, type_and_shape
from unroll.streams.many import ManySequences
from unroll.streams.one import OneSequence
from unroll.streams.packed import PackedSequences
from unroll.streams.resumable import Resumable, refuse_shared, rows_per_process
from unroll.streams.window import Window


class Stream(Resumable):
    """Lays sequences out as `batch_size` rows and yields them window by window.

    Row r of a window continues row r of the window before it, so the state that a model has after one window is the
    state to read the next one with. Targets are the inputs one step ahead, or sequences of their own.

    **One tensor** becomes contiguous rows. Nothing is shuffled, and windows are views: nothing is copied. Nineteen
    tokens a … s with batch_size=4, bptt=2, tail="keep" make rows of ceil(19/4) = 5; the last row ends early (s is a
    target only), the window in which it ends is cut there, and later windows are narrower:

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

    **A list of tensors** is read whole, each sequence from its start: a row that has come to the end of its sequence
    takes the next one at the following window (`starts`), steps past an end are masked, and a window is as long as its
    longest row. The sequences abcdef, ABC, 12345 with batch_size=2, bptt=2:

                 inputs                        mask                          starts
                 window 0 window 1 window 2    window 0 window 1 window 2    0   1   2
        row 0      a b      c d      e           x x      x x      x         x
        row 1      A B      1 2      3 4         x x      x x      x x       x   x

    (row 0 has no target for f, row 1 none for C and 5; in window 2, row 0's second step is masked). Windows without a
    masked step have the mask None. Where the rows of a window are evenly spaced parts of one tensor, it is a view.

    With packed=True, a row takes the next sequence at the next step, and nothing is masked before the last rows end.
    The same sequences with bptt=3:

                 inputs             resets
                 window 0 window 1  window 0 window 1
        row 0      a b c    d e       x . .    . . .
        row 1      A B 1    2 3 4     x . x    . . .

    Args:
        sequences: one sequence, `[n, …]`, of any dtype, or a list of sequences that differ in length alone. Integers of
            a smaller type are converted to int64, window by window. Parts of one tensor (`tensor.split(lengths)`, of a
            mapped file too) are gathered from it: a million of them are held as an index.
        batch_size: the number of rows; of one sequence at most the number of targets. Where there is nothing to read
            for the last rows, windows have fewer.
        bptt: steps per window: how far back gradients reach.
        targets: `[n, …]`, aligned with the sequence step by step, or a list of such; by default the sequences
            themselves, one step ahead.
        tail: for one sequence: "keep" makes every step a target exactly once (all but the first, where targets are one
            step ahead); "drop" leaves out the remainder (fewer than `batch_size` targets) so that all windows are
            equally wide. A list is always kept.
        jitter: for one sequence: vary the windows' lengths around `bptt`, in another way in each epoch; their number
            stays the same.
        shuffle: for a list: draw another order in each epoch; the number of windows stays the same.
        seed: with the epoch, determines jitter and order.
        warm_up: steps after a start that are read but masked, since a state that begins at zeros knows nothing yet.
        packed: for a list: a row that has come to the end of its sequence takes the next one at the next step, so that
            nothing is masked but the ends of the last rows (and `warm_up`). Where a sequence begins within a window,
            `resets` says so, and the model must be given it, as `WindowLearner` does. Shuffling then changes the order
            within each row, and only sequences of the same length change rows.

    A pass can be resumed at any window (`Resumable`) and shared by processes (`shard`).

    Attributes:
        layout: what each row reads: `OneSequence`, `ManySequences` or `PackedSequences`.

    Yields:
        `Window`s. Of one sequence, all rows start in the first of a pass and none in the others.

    Raises:
        UserError: there is nothing to read, a sequence is not like the others, targets don't fit, or an argument is out
            of range.
    """

    setting_names = ("batch_size", "bptt", "tail", "jitter", "shuffle", "warm_up", "packed")

    @checked
    def __init__(
        self,
        sequences: Tensor | Sequence[Tensor],
        batch_size: Size,
        bptt: Size,
        targets: Tensor | Sequence[Tensor] | None = None,
        tail: Literal["keep", "drop"] = "keep",
        jitter: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        warm_up: Count = 0,
        packed: bool = False,
    ) -> None:
        if not isinstance(sequences, (Tensor, list, tuple)):
            raise UserError(f"a stream reads a tensor [n, …], or a list of them, not {type_and_shape(sequences)}")
        self.batch_size = batch_size
        self.bptt = bptt
        self.tail, self.warm_up, self.packed = tail, warm_up, packed
        self.jitter, self.shuffle, self.seed = jitter, shuffle, seed
        self.draws = jitter or shuffle
        self.layout: Layout
        if isinstance(sequences, Tensor):
            if shuffle:
                raise UserError("shuffle=True: is for a list of sequences; one sequence is read in its order")
            if packed:
                raise UserError("packed=True: is for a list of sequences; one sequence fills its rows")
            self.layout = OneSequence(sequences, batch_size, bptt, targets, tail, jitter, warm_up)
        else:
            if jitter:
                raise UserError(
                    "jitter=True: is for one sequence; with a list of them, shuffle=True varies the windows"
                )
            if tail == "drop":
                raise UserError("tail='drop': is for one sequence; a list of sequences is read whole")
            many = PackedSequences if packed else ManySequences
            self.layout = many(sequences, batch_size, bptt, targets, shuffle, warm_up)

    def __len__(self) -> int:
        """The number of windows, the same in every epoch."""
        return len(self.layout)

    def batches(self, first: int) -> Iterator[Window]:
        windows = self.layout.windows(first, self.random)
        return (window.pin_memory() for window in windows) if self.pin else windows

    def shard(self, rank: int, processes: int) -> "Stream":
        """The rows of one of several processes, which keeps their states. Each process has as many windows; of a list
        of sequences, one whose rows have all ended before those of another gets windows of one row in which every step
        is masked.

        Raises:
            UserError: the rows can't be shared evenly, or a process would be left without one.
        """
        refuse_shared(self)
        shard = copy(self)
        shard.shares = processes
        shard.layout = self.layout.shard(rank, processes, rows_per_process(self.batch_size, processes))
        return shard

    @property
    def fingerprints(self) -> list[int]:
        return self.layout.fingerprints

    @property
    def nbytes(self) -> int:
        return self.layout.nbytes

    def move(self, device: torch.device) -> None:
        self.layout = self.layout.moved(device)
