"""The quasi-recurrent network."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unroll.kernels.scan import scan
from unroll.nn.layer import RecurrentLayer, at_least_float32, read_with_resets
from unroll.nn.regularisation import drop_weights
from unroll.state import State


class QRNN(RecurrentLayer):
    """Convolutions over time, and a pooling with memory (Bradbury et al. 2016, arXiv 1611.01576).

    z, f, o from the inputs x_t (and x_{t−1}, if the window is 2); then, step by step,

    c_t = f_t c_{t−1} + (1 − f_t) z_t      f-pooling, whose output is c_t
    h_t = o_t c_t                          fo-pooling, whose output is h_t

    The gates depend on the inputs alone, so all steps are computed at once (`unroll.kernels.scan`). The state is c; for
    a window of 2, the pair of c and what the last input contributes to the gates of the next step.

    Args:
        input_size, hidden_size: of the inputs and of the outputs.
        window: the number of steps in a convolution.
        pooling: "f" (forget gate) or "fo" (and an output gate).
        weight_drop: the share of the convolutions' weights dropped for a window (Merity et al. 2018, arXiv 1803.08240).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        window: Literal[1, 2] = 2,
        pooling: Literal["f", "fo"] = "fo",
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_drop = weight_drop
        gates = (len(pooling) + 1) * hidden_size
        self.now = nn.Linear(input_size, gates)
        self.earlier = nn.Linear(input_size, gates, bias=False) if window == 2 else None

    def forward(self, x: Tensor, state: State = None, resets: Tensor | None = None) -> tuple[Tensor, State]:
        now = self.dropped(self.now.weight)
        earlier = None if self.earlier is None else self.dropped(self.earlier.weight)
        pool = partial(self.pool, now, earlier)  # the parts that resets cut a window into share the dropped weights
        return pool(x, state) if resets is None else read_with_resets(pool, x, state, resets)

    def pool(self, now: Tensor, earlier: Tensor | None, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads with these weights in place of the convolutions'."""
        gates = linear(x, now, self.now.bias)
        before, contributed = state if isinstance(state, tuple) else (state, None)
        given: Tensor | None = None
        if earlier is not None:
            given = linear(x, earlier)
            first = torch.zeros_like(given[:, 0]) if contributed is None else contributed[0].to(given.dtype)
            gates = gates + torch.cat([first.unsqueeze(1), given[:, :-1]], dim=1)
        z, f, *o = at_least_float32(gates).chunk(gates.size(-1) // self.hidden_size, dim=-1)
        f = torch.sigmoid(f)
        c0 = torch.zeros_like(f[:, 0]) if before is None else before[0].to(f.dtype)
        c = scan(f, (1 - f) * torch.tanh(z), c0)
        last = c[:, -1].unsqueeze(0)
        y = torch.sigmoid(o[0]) * c if o else c
        return y.to(x.dtype), last if given is None else (last, given[:, -1].unsqueeze(0))

    def dropped(self, weight: Tensor) -> Tensor:
        return drop_weights(weight, self.weight_drop) if self.training and self.weight_drop else weight
