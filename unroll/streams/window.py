"""What a stream yields."""

from typing import NamedTuple

from torch import Tensor


class Window(NamedTuple):
    """Some steps of every row.

    Windows that are independent of each other are windows in which every row starts.

    Attributes:
        inputs: `[rows, time, …]`.
        targets: `[rows, time, …]`.
        starts: bool `[rows]`: the rows that begin a new sequence at the window's first step.
        mask: bool `[rows, time]`: the steps that count; None where all do.
    """

    inputs: Tensor
    targets: Tensor
    starts: Tensor
    mask: Tensor | None = None
