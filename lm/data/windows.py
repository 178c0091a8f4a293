"""Independent windows of a text, for the models that start each from nothing."""

from collections.abc import Iterator
from copy import copy

import numpy
import torch
from torch import Tensor

from lm.data.resumable import Resumable, fair_share
from lm.errors import UserError


class Windows:
    """All windows of `bptt` tokens at a stride, each with the token after every one of its tokens as targets.

    With bptt=3 and stride=3, the text `PREFACE SUP…` has the windows PRE→REF, FAC→ACE, E S→ SU, …; a model that
    guesses only after the last token is compared with the last target. The windows are one view of the
    tokens; only a batch's own are gathered.

    Args:
        tokens: int64 `[n]`.
        bptt: tokens per window.
        stride: from the start of one window to the start of the next.

    Raises:
        UserError: the tokens do not fill one window.
    """

    def __init__(self, tokens: Tensor, bptt: int, stride: int) -> None:
        if len(tokens) < bptt + 1:
            raise UserError(f"a window of {bptt} tokens and a target need {bptt + 1} tokens; here: {len(tokens)}")
        self.tokens = tokens
        self.bptt = bptt
        self.stride = stride

    @property
    def windows(self) -> Tensor:
        """All of them, `[windows, bptt + 1]`, a view."""
        return self.tokens.unfold(0, self.bptt + 1, self.stride)

    def __len__(self) -> int:
        return len(self.windows)

    def split(self, valid_fraction: float, seed: int, among: int | None = None) -> tuple[Tensor, Tensor]:
        """The windows' numbers, int64, for training and for validation.

        Drawn as fastai 0.7's `get_cv_idxs` drew them, by NumPy's old generator, so that the lesson's seed gives
        the lesson's split.

        Args:
            valid_fraction: the share that is for validation.
            seed: decides which.
            among: validation windows are drawn from the first so many; by default from all.
        """
        candidates = min(among or len(self), len(self))
        order = numpy.random.RandomState(seed).permutation(candidates)
        for_valid = torch.zeros(len(self), dtype=torch.bool)
        for_valid[order[: int(valid_fraction * candidates)]] = True
        return (~for_valid).nonzero()[:, 0], for_valid.nonzero()[:, 0]


class WindowBatches(Resumable):
    """Some of the windows, batch by batch; the last batch may be smaller.

    Args:
        windows: all windows.
        chosen: the numbers of those to yield, int64 `[m]`.
        batch_size: windows per batch.
        shuffle: yield them in another order in each epoch (`set_epoch`), reproducible from `seed`.

    Yields:
        `(inputs, targets)`, int64 `[rows, bptt]` each.

    Raises:
        UserError: there are fewer windows than a batch holds.
    """

    def __init__(self, windows: Windows, chosen: Tensor, batch_size: int, shuffle: bool, seed: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch has at least 1 row")
        if batch_size > len(chosen):
            raise UserError(f"batch_size={batch_size} is larger than the corpus: it has {len(chosen)} windows")
        self.tokens = windows.tokens
        self.bptt, self.stride = windows.bptt, windows.stride
        self.chosen = chosen
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.processes = 0, 1

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = self.chosen
        if self.shuffle:
            generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
            chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        windows = Windows(self.tokens, self.bptt, self.stride).windows
        for numbers in chosen.split(self.batch_size)[first:]:
            batch = windows[numbers.tensor_split(self.processes)[self.rank]]
            if self.pin:
                batch = batch.pin_memory()
            yield batch[:, :-1], batch[:, 1:]

    def shard(self, rank: int, processes: int) -> "WindowBatches":
        """One of several processes' share of each batch.

        Raises:
            UserError: the windows of a batch can't be shared out evenly, or there are fewer than processes in the last.
        """
        fair_share(self.batch_size, processes)
        last = (len(self.chosen) - 1) % self.batch_size + 1
        if last < processes:
            raise UserError(
                f"with data.batch_size={self.batch_size} the last batch has {last} windows, "
                f"too few for {processes} processes; use another batch_size"
            )
        shard = copy(self)
        shard.rank, shard.processes = rank, processes
        return shard
