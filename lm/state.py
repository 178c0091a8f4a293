"""What may be done to a recurrent model's state between two windows.

A state is None, a tensor, or a tuple of tensors `[layers, batch, hidden]` (see `lm.models`).
"""

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
    if isinstance(state, tuple):
        parts = [for_rows(tensor, rows) for tensor in state]
        return None if any(part is None for part in parts) else tuple(parts)
    if state is None or state.size(BATCH_AXIS) < rows:
        return None
    return state.narrow(BATCH_AXIS, 0, rows)
