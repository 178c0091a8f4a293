"""What recurrent layers have in common."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.errors import UserError
from unroll.kernels import steps
from unroll.state import State, start_rows, tensors


class RecurrentLayer(nn.Module):
    """A recurrent layer: `layer(x, state=None, resets=None) -> (y, state)`.

    A subclass defines `read(x, state) -> (y, state)`; or `forward`, where something is drawn once for a window that
    resets may cut into parts.
    """

    def forward(self, x: Tensor, state: State = None, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """
        Args:
            x: float `[rows, time, size]`.
            state: a tensor or a tuple of tensors, with the rows on axis 1, as it was returned for the window before;
                None for zeros.
            resets: bool `[rows, time]`: the steps before which the state of a row becomes zeros; None for none.

        Returns:
            The outputs, float `[rows, time, hidden]`, and the state after them. No state is kept on the layer.

        Raises:
            UserError: `resets` is not bool `[rows, time]`.
        """
        return self.read(x, state) if resets is None else read_with_resets(self.read, x, state, resets)

    def read(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError


class CompiledLayer(RecurrentLayer):
    """A layer of PyTorch's, whose steps are those of `unroll.kernels.steps` on a CPU: `read(x, state, resets=None)`."""

    def forward(self, x: Tensor, state: State = None, resets: Tensor | None = None) -> tuple[Tensor, State]:
        if resets is None or x.size(1) == 1 or not self.compiles(x):
            return super().forward(x, state, resets)
        check_resets(x, resets)
        return self.read(x, state, resets)

    forward.__doc__ = RecurrentLayer.forward.__doc__

    def read(self, x: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        raise NotImplementedError

    def compiles(self, x: Tensor) -> bool:
        """Whether the steps for these inputs are compiled."""
        return steps.can_run(x) and not steps.single(x)


def check_resets(x: Tensor, resets: Tensor) -> None:
    if resets.dtype != torch.bool or resets.shape != x.shape[:2]:
        raise UserError(f"resets must be bool {list(x.shape[:2])}, not {resets.dtype} {list(resets.shape)}")


def read_with_resets(
    read: Callable[[Tensor, State], tuple[Tensor, State]], x: Tensor, state: State, resets: Tensor
) -> tuple[Tensor, State]:
    """Reads in parts that begin wherever the state of a row becomes zeros.

    Raises:
        UserError: `resets` is not bool `[rows, time]`.
    """
    check_resets(x, resets)
    places = [step for step, begins in enumerate(resets.any(0).tolist()) if begins]  # waits for the device, once
    outputs = []
    for start, stop in pairwise(sorted({0, *places, x.size(1)})):
        if state is not None:
            state = start_rows(state, resets[:, start])
        y, state = read(x[:, start:stop], state)
        outputs.append(y)
    return torch.cat(outputs, 1), state


def read_by_steps(
    layers: nn.RNNBase,
    compiled: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    state: tuple[Tensor, ...],
    resets: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Reads with the `compiled` steps of a layer, a function of `unroll.kernels.steps`."""
    outputs, last = x.transpose(0, 1), []
    resets = None if resets is None else resets.t().contiguous()
    for number in range(layers.num_layers):
        names = (f"{name}_l{number}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        weights = (getattr(layers, name) for name in names)
        outputs, *after = compiled(outputs, *(part[number] for part in state), *weights, resets=resets)
        last.append(after)
        if layers.dropout and layers.training and number < layers.num_layers - 1:
            outputs = F.dropout(outputs, layers.dropout)
    return outputs.transpose(0, 1), tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers, those of half precision as float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def by_layer(state: State, layers: int) -> Iterator[State]:
    """The state of each of some layers, from what `together` returned; of None, each is None."""
    for number in range(layers):
        if state is None:
            yield None
            continue
        if isinstance(state[0], Tensor):
            parts = tuple(part[number : number + 1].contiguous() for part in tensors(state))
        else:
            parts = tuple(part.contiguous() for part in state[number])
        yield parts if len(parts) > 1 else parts[0]


def together(states: Sequence[State]) -> State:
    """The states of several layers as one: stacked on axis 0 if all have the same sizes, else a tuple of tuples.

    Args:
        states: tensors `[1, rows, …]`, or tuples of such.
    """
    parts = [tuple(tensors(state)) for state in states]
    if len({tuple(part.size(-1) for part in of_layer) for of_layer in parts}) > 1:
        return tuple(parts)
    stacked = tuple(torch.cat(layers) for layers in zip(*parts, strict=True))
    return stacked if len(stacked) > 1 else stacked[0]
