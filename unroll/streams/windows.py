"""Independent windows of a sequence, for models that start each window from zeros."""

from collections.abc import Iterator

import torch
from torch import Tensor

from unroll.checks import Size, checked
from unroll.device import sent
from unroll.errors import UserError
from unroll.streams.fingerprint import fingerprint
from unroll.streams.layout import type_and_shape
from unroll.streams.samples import IndependentSamples
from unroll.streams.sequences import to_int64
from unroll.streams.window import Window


def windows_of(sequence: Tensor, bptt: int, stride: int) -> Tensor:
    """All windows of `bptt` steps and the step after them, `[windows, bptt + 1, …]`: a view.

    Args:
        sequence: `[n, …]`.
        bptt: steps per window.
        stride: from the start of one window to the start of the next.

    Raises:
        UserError: the sequence does not fill one window.
    """
    if len(sequence) < bptt + 1:
        raise UserError(f"a window of {bptt} steps and a target need {bptt + 1} steps; here: {len(sequence)}")
    return sequence.unfold(0, bptt + 1, stride).movedim(-1, 1)


class IndependentWindows(IndependentSamples):
    """Windows of a sequence as samples, batch by batch; the last batch may be smaller.

    With bptt=3 and stride=3, the text `PREFACE SUP…` has the windows PRE→REF, FAC→ACE, E S→ SU, …: the targets are the
    inputs shifted by one. Only the windows of a batch are ever gathered; the others are a view of the sequence.

    Args:
        sequence: `[n, …]`, of any dtype. Integers of a smaller type are converted to int64, batch by batch.
        batch_size: windows per batch.
        bptt: steps per window.
        stride: from the start of one window to the start of the next; by default `bptt`, so that none overlap.
        chosen: the numbers of the windows to yield, int64 `[m]`; by default all.
        shuffle: draw another order in each epoch, reproducible from `seed`.
        seed: of the order.

    Yields:
        `Window`s in which every row starts.

    Raises:
        UserError: there are fewer windows than a batch holds, or an argument is out of range.
    """

    tensor_names = ("sequence",)
    setting_names = ("batch_size", "shuffle", "bptt", "stride")
    samples = "windows"

    @checked
    def __init__(
        self,
        sequence: Tensor,
        batch_size: Size,
        bptt: Size,
        stride: Size | None = None,
        chosen: Tensor | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(sequence, Tensor) or sequence.dim() == 0:
            raise UserError(f"windows are cut from a tensor [n, …], not {type_and_shape(sequence)}")
        self.sequence = sequence
        self.bptt = bptt
        self.stride = bptt if stride is None else stride
        self.chosen = torch.arange(len(self.windows)) if chosen is None else chosen
        super().__init__(len(self.chosen), batch_size, shuffle, seed)

    @property
    def fingerprints(self) -> list[int]:
        return [*super().fingerprints, fingerprint(self.chosen)]

    @property
    def windows(self) -> Tensor:
        """All windows of the sequence, chosen or not, `[windows, bptt + 1, …]`: a view."""
        return windows_of(self.sequence, self.bptt, self.stride)

    def batches(self, first: int) -> Iterator[Window]:
        windows = self.windows
        for numbers in self.numbers(first):
            batch = to_int64(windows[sent(self.chosen[numbers], self.sequence.device)])
            window = Window.of(batch[:, :-1], batch[:, 1:], torch.ones(len(batch), dtype=torch.bool))
            yield window.pin_memory() if self.pin else window
