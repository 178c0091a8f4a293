"""Faster versions of a model, for windows of one shape: torch.compile, and CUDA graphs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lm import rng
from lm.errors import UserError
from lm.state import State, output

CUDA_GRAPH = "graph"


class FastWindows:
    """Calls a model; training windows that come twice in a row in the same shape go to a faster version of it.

    The others (the first of an epoch, which has no state yet; shorter or narrower ones at its end; validation) are
    read by the model itself, so nothing is compiled for them.

    Args:
        model: as described in `lm.models`.
        how: True for torch.compile, "graph" for CUDA graphs of the forward and the backward pass (launched as
            one each, where a small recurrent model is bound by launching hundreds of kernels).
    """

    def __init__(self, model: nn.Module, how: bool | str) -> None:
        self.model = model
        self.how = how
        self.latest: Any = None
        self.fast: Any = None
        self.fast_for: Any = None

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """The logits, the state after them, and what the model adds to the loss in training (see `lm.models`)."""
        if not (self.how and self.model.training and torch.is_grad_enabled()):
            return self.read(inputs, state)
        kind = (inputs.shape, None if state is None else output(state).shape)
        if self.fast is None and kind == self.latest:
            self.fast, self.fast_for = self.make(inputs, state), kind
        self.latest = kind
        return self.fast(inputs, state) if kind == self.fast_for else self.read(inputs, state)

    def read(self, inputs: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        model: Any = self.model
        if model.training and hasattr(model, "penalised"):
            return model.penalised(inputs, state)
        return *model(inputs, state), None

    def make(self, inputs: Tensor, state: State) -> Any:
        """The faster version; what its trial runs change (running statistics, random generators) is put back."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        random = rng.state()
        if self.how == CUDA_GRAPH:
            fast = graph(self.model, self.read, inputs, state)
        else:
            fast = compiled(self.read, inputs, state)
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        rng.restore(random)
        return fast


def compiled(read: Callable[..., Any], inputs: Tensor, state: State) -> Any:
    """The reading by torch.compile, run once."""
    torch._dynamo.config.allow_rnn = True
    fast = torch.compile(read, dynamic=False)
    try:
        fast(inputs, state)
    except Exception as error:  # many kinds; a missing C++ compiler among them
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.compile=true: torch.compile can't do it here ({reason}); leave it out") from error
    return fast


def graph(model: nn.Module, read: Callable[..., Any], inputs: Tensor, state: State) -> Any:
    """The model as two CUDA graphs (`torch.cuda.make_graphed_callables`)."""
    arguments = (inputs,) if state is None else (inputs, state)
    tensors = TensorsOnly(model, read)
    with torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
    ):
        graphed: Any = torch.cuda.make_graphed_callables(tensors, arguments)  # type: ignore[arg-type]

    def fast(inputs: Tensor, state: State) -> tuple[Any, ...]:
        given = iter(graphed(inputs) if state is None else graphed(inputs, state))
        return tuple(next(given) if present else None for present in tensors.present)

    return fast


class TensorsOnly(nn.Module):
    """What the model gives without the parts that are None: a graph can't hand those on."""

    def __init__(self, model: nn.Module, read: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model  # its parameters are to be found
        self.read = read
        self.present: list[bool] = []

    def forward(self, inputs: Tensor, state: State = None) -> Any:
        parts = self.read(inputs, state)
        self.present = [part is not None for part in parts]
        return tuple(part for part in parts if part is not None)
