"""The minimal gated recurrent unit."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.kernels.scan import scan
from unroll.nn.layer import RecurrentLayer, at_least_float32


class MinGRU(RecurrentLayer):
    """A gated recurrent unit whose gate does not depend on the state (Feng et al. 2024, arXiv 2410.01201).

    h_t = (1 − z_t) h_{t−1} + z_t g(W_h x_t), with z_t = σ(W_z x_t); g keeps h above 0.

    All steps are computed at once (`unroll.kernels.scan`). The state is h, `[1, rows, hidden]`.

    Args:
        input_size, hidden_size: of the inputs and of the outputs.
    """

    parts = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_size, self.parts * hidden_size)

    def read(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        products = at_least_float32(self.gates(x))
        *scores, candidate = products.chunk(self.parts, dim=-1)
        z = torch.sigmoid(self.update(*scores))
        h0 = torch.zeros_like(z[:, 0]) if state is None else state[0].to(z.dtype)
        h = scan(1 - z, z * positive(candidate), h0)
        return h.to(x.dtype), h[:, -1].unsqueeze(0)

    def update(self, *scores: Tensor) -> Tensor:
        """What z is the sigmoid of."""
        return scores[0]


def positive(x: Tensor) -> Tensor:
    """The authors' g: x + ½ for x ≥ 0, σ(x) below."""
    return F.relu(x) + torch.sigmoid(x.clamp(max=0))
