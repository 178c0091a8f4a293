"""A recurrent layer whose state skips steps (Chang et al. 2017, arXiv 1710.02224)."""

from typing import Any

import torch
from torch import Tensor, nn

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class Dilated(nn.Module):
    """Recurrent layers that go from step t − d to step t, with d the dilation: h[t] = cell(x[t], h[t − d]).

    It reads a series as d interleaved ones, one for each phase (of a day, with d = 24 hours), so a gradient that goes
    back through few updates reaches far. With d = 1, it is the layer itself.

    Args:
        cell: "gru", "lstm" or "rnn".
        input_size, hidden_size, num_layers, dropout: as for `nn.GRU`.
        dilation: steps from one update to the next.
    """

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0, dilation: int = 1
    ) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.rnn = CELLS[cell](input_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dilation = dilation

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """
        Args:
            inputs: float `[rows, time, input_size]`.
            state: `[layers, rows, dilation · hidden_size]`, of an LSTM a pair of such: of the last `dilation` steps,
                the oldest first; None for zeros.

        Returns:
            Outputs, float `[rows, time, hidden_size]`, and the state after them.
        """
        rows, time = inputs.shape[:2]
        if state is None:
            shape = (self.rnn.num_layers, rows, self.dilation * self.rnn.hidden_size)
            state = (inputs.new_zeros(shape),) * 2 if self.pairs else inputs.new_zeros(shape)
        parts = state if self.pairs else (state,)
        phases = [part.unflatten(2, (self.dilation, -1)) for part in parts]  # [layers, rows, phases, hidden]
        whole, rest = divmod(time, self.dilation)
        outputs = []
        for first, count, length in ((0, self.dilation, whole), (time - rest, rest, 1)):
            if not count or not length:
                continue
            # [rows, length, phases, size] → a row for each phase
            block = inputs[:, first : first + count * length].unflatten(1, (length, count)).transpose(1, 2)
            begin = [part[:, :, :count].flatten(1, 2).contiguous() for part in phases]
            found, end = self.rnn(block.flatten(0, 1), tuple(begin) if self.pairs else begin[0])
            outputs.append(found.unflatten(0, (rows, count)).transpose(1, 2).flatten(1, 2))
            ends = [part.unflatten(1, (rows, count)) for part in (end if self.pairs else (end,))]
            # those that were read are the latest now
            phases = [torch.cat([old[:, :, count:], new], 2) for old, new in zip(phases, ends, strict=True)]
        after = [part.flatten(2) for part in phases]
        return torch.cat(outputs, 1), (tuple(after) if self.pairs else after[0])

    @property
    def pairs(self) -> bool:
        return isinstance(self.rnn, nn.LSTM)
