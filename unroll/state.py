"""A recurrent model's state between two windows: detached, narrowed to the rows that remain, started anew.

A state is a tensor, or any nest of tuples, lists, dicts, NamedTuples and dataclasses of tensors; None stands for zeros.
Numbers in it stay as they are. Every tensor has the rows of the batch on the same axis: 1, as in `nn.LSTM`, unless
another is named.

Every tensor that these functions return is contiguous: cuDNN's recurrent layers take no other state.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from unroll.errors import UserError

State = Any

ROW_AXIS = 1
NUMBERS = (bool, int, float, complex)


def map_leaves(state: State, function: Callable[[Any], Any]) -> State:
    """The same nest, with the function applied to each of its tensors and numbers.

    Raises:
        UserError: there is something else in it.
    """
    if state is None:
        return None
    if isinstance(state, (Tensor, *NUMBERS)):
        return function(state)
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(map_leaves(part, function) for part in state))
    if isinstance(state, (tuple, list)):
        return type(state)(map_leaves(part, function) for part in state)
    if isinstance(state, Mapping):
        return {key: map_leaves(part, function) for key, part in state.items()}
    if is_dataclass(state):
        return rebuilt(type(state), {name: map_leaves(part, function) for name, part in parts_by_name(state).items()})
    raise UserError(
        "a state is made of tensors and numbers in tuples, lists, dicts, NamedTuples and dataclasses; this one has a "
        f"{type(state).__name__}"
    )


def map_tensors(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The same nest, with the function applied to each of its tensors.

    Raises:
        UserError: as for `map_leaves`.
    """
    return map_leaves(state, lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf)


def parts_by_name(state: Any) -> dict[str, Any]:
    """The fields of a dataclass."""
    return {field.name: getattr(state, field.name) for field in fields(state)}


def rebuilt(kind: type, parts: Mapping[str, Any]) -> Any:
    """A dataclass with these fields, without a call of its `__init__`."""
    state: Any = object.__new__(kind)
    for name, part in parts.items():
        object.__setattr__(state, name, part)
    return state


def leaves(state: State) -> list[Any]:
    """The tensors and numbers of a state, in order.

    Raises:
        UserError: as for `map_leaves`.
    """
    found: list[Any] = []

    def noted(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_leaves(state, noted)
    return found


def tensors(state: State) -> list[Tensor]:
    """The tensors of a state, in order.

    Raises:
        UserError: as for `map_leaves`.
    """
    return [leaf for leaf in leaves(state) if isinstance(leaf, Tensor)]


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


def join_rows(states: Sequence[State], rows: int, axis: int = ROW_AXIS) -> State:
    """One state of the rows of several, one after the other; those that are missing are zeros.

    Args:
        states: of one kind; None for zeros.
        rows: how many each is to have.
    """
    like = next((state for state in states if state is not None), None)
    zeros = map_tensors(like, torch.zeros_like)
    whole = [tensors(add_rows(zeros if state is None else state, rows, axis)) for state in states]
    side_by_side = zip(*whole, strict=True)
    return map_tensors(like, lambda part: torch.cat(next(side_by_side), axis))


def take_rows(state: State, first: int, rows: int, axis: int = ROW_AXIS) -> State:
    """The state of `rows` rows, from row `first` on."""
    return map_tensors(state, lambda part: part.narrow(axis, first, rows).contiguous())


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
    if state is None or isinstance(state, (Tensor, *NUMBERS)):
        return state
    if is_dataclass(state):
        parts = parts_by_name(state)
        packed = [pack(part) for part in parts.values()]
        return {"kind": type(state).__name__, "dataclass": True, "fields": list(parts), "parts": packed}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return {"kind": type(state).__name__, "fields": list(state._fields), "parts": [pack(part) for part in state]}
    if isinstance(state, (tuple, list)):
        return {"kind": "tuple" if isinstance(state, tuple) else "list", "parts": [pack(part) for part in state]}
    return {"kind": "dict", "fields": list(state), "parts": [pack(part) for part in state.values()]}


def unpack(packed: Any, classes: Mapping[str, Any] | None = None) -> State:
    """The state that `pack` was given.

    Args:
        packed: what `pack` returned.
        classes: of the NamedTuples and dataclasses in it, by name. A NamedTuple that is not among them comes back as
            one with the same name and fields.

    Raises:
        UserError: a dataclass is not among them.
    """
    if packed is None or isinstance(packed, NUMBERS):
        return packed
    if isinstance(packed, Tensor):
        return packed.contiguous()
    parts = [unpack(part, classes) for part in packed["parts"]]
    if packed["kind"] == "dict":
        return dict(zip(packed["fields"], parts, strict=True))
    if "fields" in packed:
        return named_parts(packed, parts, (classes or {}).get(packed["kind"]))
    return tuple(parts) if packed["kind"] == "tuple" else parts


def named_parts(packed: Mapping[str, Any], parts: Sequence[Any], kind: Any) -> Any:
    """A NamedTuple or a dataclass of these parts.

    Args:
        packed: its name and the names of its fields.
        parts: unpacked.
        kind: the class of this name that is known, or None.

    Raises:
        UserError: it is a dataclass, and `kind` is not this one.
    """
    name, names = packed["kind"], packed["fields"]
    if packed.get("dataclass"):
        if not (isinstance(kind, type) and is_dataclass(kind)) or [field.name for field in fields(kind)] != names:
            raise UserError(
                f"the state has a dataclass {name}({', '.join(names)}); name its class: state_classes = ({name},) in "
                f"the module, or load_state(…, classes=[{name}])"
            )
        return rebuilt(kind, dict(zip(names, parts, strict=True)))
    if isinstance(kind, type) and getattr(kind, "_fields", None) == tuple(names):
        return kind(*parts)
    return namedtuple(name, names)(*parts)
