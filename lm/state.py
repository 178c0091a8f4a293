"""What may be done to a recurrent model's state between two windows.

A state is None, a tensor, or a tuple of tensors `[layers, batch, hidden]` (see `lm.models`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

State = Tensor | tuple[Tensor, ...] | None

BATCH_AXIS = 1


def parts(state: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors that a state is made of."""
    return state if isinstance(state, tuple) else (state,)


def each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """The state with each of its tensors changed."""
    if isinstance(state, tuple):
        return tuple(change(part) for part in state)
    return None if state is None else change(state)


def detach(state: State) -> State:
    """The same state, cut off from the graph that made it: gradients stop here."""
    return each(state, Tensor.detach)


def for_rows(state: State, rows: int) -> State:
    """The state for a batch of `rows` rows.

    A narrower batch means that the last rows have ended: the state of those that remain is kept. A wider
    one holds rows that were never seen: None, so that all begin from zeros.
    """
    if state is None or any(part.size(BATCH_AXIS) < rows for part in parts(state)):
        return None
    return each(state, lambda part: part.narrow(BATCH_AXIS, 0, rows))


def forget(state: State, share: float) -> State:
    """The state, with zeros in place of a random share of the rows' (as in Melis et al. 2018, arXiv 1707.05589)."""
    if state is None or share == 0:
        return state
    one = parts(state)[0]
    forgotten = torch.rand(one.size(BATCH_AXIS), 1, device=one.device) < share
    return each(state, lambda part: part.masked_fill(forgotten, 0.0))


def output(state: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The hidden units, `[layers, batch, hidden]`: of an LSTM's pair, the first is what it gives."""
    return state[0] if isinstance(state, tuple) else state
