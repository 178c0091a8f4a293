"""A recurrent model's state between two windows: detached, narrowed to the rows that remain, started anew.

A state is a tensor, or any nest of tuples, lists, dicts and NamedTuples of tensors; None stands for zeros. Every tensor
has the rows of the batch on the same axis: 1, as in `nn.LSTM`, unless another is named.

Every tensor that these functions return is contiguous: cuDNN's recurrent layers take no other state.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unroll.errors import UserError

State = Any

ROW_AXIS = 1


def map_tensors(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The same nest, with the function applied to each of its tensors.

    Raises:
        UserError: there is something else in it.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(map_tensors(part, function) for part in state))
    if isinstance(state, (tuple, list)):
        return type(state)(map_tensors(part, function) for part in state)
    if isinstance(state, Mapping):
        return {key: map_tensors(part, function) for key, part in state.items()}
    raise UserError(
        f"a state is made of tensors in tuples, lists, dicts and NamedTuples; this one has a {type(state).__name__}"
    )


def tensors(state: State) -> list[Tensor]:
    """The tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, Mapping) else state or ()
    return [tensor for part in parts for tensor in tensors(part)]


def detach(state: State) -> State:
    """The same values, cut off from the graph that made them: gradients stop here."""
    return map_tensors(state, lambda part: part.detach().contiguous())


def check_rows(state: State, rows: int, axis: int = ROW_AXIS) -> None:
    """Checks that each tensor of a state has the rows of the window on the row axis.

    Raises:
        UserError: one has not.
    """
    for part in tensors(state):
        rows_first = axis == 1 and part.dim() == 2 and part.size(0) == rows  # of a cell: [rows, hidden]
        if part.dim() <= axis or part.size(axis) != rows or rows_first:
            raise UserError(
                f"the model returned a state of shape {list(part.shape)} for a window of {rows} rows; axis {axis} "
                f"should have size {rows}, as in nn.GRU's [layers, rows, hidden] (unsqueeze(0) adds the first axis)"
            )


def keep_rows(state: State, rows: int, axis: int = ROW_AXIS) -> State:
    """The state of the first `rows` rows: in a narrower window, the last rows have ended."""
    return map_tensors(state, lambda part: part.narrow(axis, 0, rows).contiguous())


def add_rows(state: State, rows: int, axis: int = ROW_AXIS) -> State:
    """The state with rows of zeros behind its own, `rows` in all."""

    def widened(part: Tensor) -> Tensor:
        shape = list(part.shape)
        shape[axis] = rows - part.size(axis)
        return torch.cat([part, part.new_zeros(shape)], axis).contiguous()

    return map_tensors(state, widened)


def start_rows(state: State, starts: Tensor, axis: int = ROW_AXIS) -> State:
    """The state with zeros for the rows that start anew.

    Args:
        starts: bool `[rows]`.
    """

    def started(part: Tensor) -> Tensor:
        shape = [1] * part.dim()
        shape[axis] = -1
        return part.masked_fill(starts.view(shape), 0).contiguous()

    return map_tensors(state, started)


def forget(state: State, share: float, axis: int = ROW_AXIS) -> State:
    """The state with zeros for a random share of the rows (as in Melis et al. 2018, arXiv 1707.05589)."""
    if state is None or share == 0:
        return state
    first = tensors(state)[0]
    return start_rows(state, torch.rand(first.size(axis), 1, device=first.device).squeeze(1) < share, axis)


def hidden_units(state: State) -> Tensor:
    """The hidden units `[layers, rows, hidden]`: the first tensor of a state, as in the pair of an LSTM."""
    return tensors(state)[0]


def pack(state: State) -> Any:
    """The state as a nest of plain types, for a file that is read with `weights_only=True`."""
    if state is None or isinstance(state, Tensor):
        return state
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return {"kind": type(state).__name__, "fields": list(state._fields), "parts": [pack(part) for part in state]}
    if isinstance(state, (tuple, list)):
        return {"kind": "tuple" if isinstance(state, tuple) else "list", "parts": [pack(part) for part in state]}
    return {"kind": "dict", "fields": list(state), "parts": [pack(part) for part in state.values()]}


def unpack(packed: Any) -> State:
    """The state that `pack` was given; a NamedTuple comes back as one with the same name and fields."""
    if packed is None:
        return None
    if isinstance(packed, Tensor):
        return packed.contiguous()
    parts = [unpack(part) for part in packed["parts"]]
    if packed["kind"] == "dict":
        return dict(zip(packed["fields"], parts, strict=True))
    if "fields" in packed:
        return namedtuple(packed["kind"], packed["fields"])(*parts)
    return tuple(parts) if packed["kind"] == "tuple" else parts
