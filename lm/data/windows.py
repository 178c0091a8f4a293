"""Independent windows of a text, for the models that start each from nothing."""

from collections.abc import Iterator

import numpy
import torch
from torch import Tensor

from training.errors import UserError
from training.resumable import Independent


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


class WindowBatches(Independent):
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

    held = ("tokens",)
    samples = "windows"

    def __init__(self, windows: Windows, chosen: Tensor, batch_size: int, shuffle: bool, seed: int = 0) -> None:
        super().__init__(len(chosen), batch_size, shuffle, seed)
        self.tokens = windows.tokens
        self.bptt, self.stride = windows.bptt, windows.stride
        self.chosen = chosen

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        windows = Windows(self.tokens, self.bptt, self.stride).windows
        for numbers in self.numbers(first):
            batch = windows[self.chosen[numbers]]
            if self.pin:
                batch = batch.pin_memory()
            yield batch[:, :-1], batch[:, 1:]
