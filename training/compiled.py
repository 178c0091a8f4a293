"""Faster versions of a model, for batches of one shape: torch.compile, and CUDA graphs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training import rng
from training.errors import UserError

CUDA_GRAPH = "graph"


class FastModel:
    """Calls a model; training batches that come twice in a row in the same shapes go to a faster version of it.

    The others (the first window of a text, which has no state yet; smaller ones at the end of an epoch; validation) are
    read by the model itself, so nothing is compiled for them.

    Args:
        model: what is called.
        how: True for torch.compile, "graph" for CUDA graphs of the forward and the backward pass (launched as
            one each, where a small model is bound by launching hundreds of kernels).
    """

    def __init__(self, model: nn.Module, how: bool | str) -> None:
        self.model = model
        self.how = how
        self.latest: Any = None
        self.fast: Any = None
        self.fast_for: Any = None

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """What `read` gives; inputs are tensors, tuples of tensors, or None."""
        if not (self.how and self.model.training and torch.is_grad_enabled()):
            return self.read(*inputs)
        kind = shapes(inputs)
        if self.fast is None and kind == self.latest:
            self.fast, self.fast_for = self.make(inputs), kind
        self.latest = kind
        return self.fast(*inputs) if kind == self.fast_for else self.read(*inputs)

    def read(self, *inputs: Any) -> tuple[Any, ...]:
        """What the model gives, as a tuple of tensors, tuples of tensors, or None."""
        return (self.model(*inputs),)

    def make(self, inputs: tuple[Any, ...]) -> Any:
        """The faster version; what its trial runs change (running statistics, random generators) is put back."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        random = rng.state()
        fast = graph(self.model, self.read, inputs) if self.how == CUDA_GRAPH else compiled(self.read, inputs)
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        rng.restore(random)
        return fast


def shapes(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(shapes, value))
    return None if value is None else value.shape


def compiled(read: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """The reading by torch.compile, run once."""
    torch._dynamo.config.allow_rnn = True
    fast = torch.compile(read, dynamic=False)
    try:
        fast(*inputs)
    except Exception as error:  # many kinds; a missing C++ compiler among them
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.compile=true: torch.compile can't do it here ({reason}); leave it out") from error
    return fast


def graph(model: nn.Module, read: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """The model as two CUDA graphs (`torch.cuda.make_graphed_callables`)."""
    tensors = TensorsOnly(model, read)
    with torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
    ):
        graphed: Any = torch.cuda.make_graphed_callables(tensors, present(inputs))

    def fast(*inputs: Any) -> tuple[Any, ...]:
        given = iter(graphed(*present(inputs)))
        return tuple(next(given) if there else None for there in tensors.there)

    return fast


def present(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value for value in values if value is not None)


class TensorsOnly(nn.Module):
    """What the model gives without the parts that are None: a graph can't hand those on."""

    def __init__(self, model: nn.Module, read: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model  # its parameters are to be found
        self.read = read
        self.there: list[bool] = []

    def forward(self, *inputs: Any) -> Any:
        parts = self.read(*inputs)
        self.there = [part is not None for part in parts]
        return present(parts)
