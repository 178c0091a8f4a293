"""What may be done to a recurrent model's state between two windows.

A state is None, a tensor, or a tuple of tensors `[layers, batch, hidden]` (see `lm.models`).
"""

import torch
from torch import Tensor

State = Tensor | tuple[Tensor, ...] | None

BATCH_AXIS = 1


def detach(state: State) -> State:
    """The same state, cut off from the graph that made it: gradients stop here."""
    if isinstance(state, tuple):
        return tuple(tensor.detach() for tensor in state)
    return None if state is None else state.detach()


def for_rows(state: State, rows: int) -> State:
    """The state for a batch of `rows` rows.

    A narrower batch means that the last rows have ended: the state of those that remain is kept. A wider
    one holds rows that were never seen: None, so that all begin from zeros.
    """
    if state is None:
        return None
    parts = state if isinstance(state, tuple) else (state,)
    if any(part.size(BATCH_AXIS) < rows for part in parts):
        return None
    kept = tuple(part.narrow(BATCH_AXIS, 0, rows) for part in parts)
    return kept if isinstance(state, tuple) else kept[0]


def forget(state: State, share: float) -> State:
    """The state, with zeros in place of a random share of the rows' (as in Melis et al. 2018, arXiv 1707.05589)."""
    if state is None or share == 0:
        return state
    parts = state if isinstance(state, tuple) else (state,)
    rows = parts[0].size(BATCH_AXIS)
    forgotten = torch.rand(rows, device=parts[0].device) < share
    kept = tuple(part.masked_fill(along_rows(forgotten, part), 0.0) for part in parts)
    return kept if isinstance(state, tuple) else kept[0]


def along_rows(values: Tensor, part: Tensor) -> Tensor:
    """One value per row `[rows]`, to be combined with a part of a state."""
    shape = [1] * part.dim()
    shape[BATCH_AXIS] = -1
    return values.view(shape)


def output(state: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The hidden units, `[layers, batch, hidden]`: of an LSTM's pair, the first is what it gives."""
    return state[0] if isinstance(state, tuple) else state
