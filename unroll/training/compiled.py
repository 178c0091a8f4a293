"""Faster versions of a model for batches of one shape: torch.compile and CUDA graphs."""

from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from unroll.errors import UserError
from unroll.resume import random_state
from unroll.state import NUMBERS, leaves, map_tensors, tensors
from unroll.terminal import say

CUDA_GRAPH = "graph"
PLACE = torch.empty(0)  # of a tensor, where only the nest is kept

Forward = Callable[..., tuple[Any, ...]]


def read(model: nn.Module, *inputs: Tensor) -> tuple[Tensor]:
    """The features of a model without a state, as a tuple of one: without a method `features`, its outputs."""
    return (getattr(model, "features", model)(*inputs),)


def read_window(
    model: nn.Module, inputs: Tensor, state: Any = None, resets: Tensor | None = None
) -> tuple[Tensor, Any, Tensor | None]:
    """The features of a recurrent model, the state after them, and what training adds to the loss, or None.

    The last is there for models with a method `penalised(inputs, state) -> (features, state, penalty)`.

    Raises:
        UserError: there are resets, and the model has no such argument.
    """
    penalised = model.training and hasattr(model, "penalised")
    method = model.penalised if penalised else getattr(model, "features", model.forward)
    more = {}
    if resets is not None:
        if "resets" not in signature(method).parameters:  # type: ignore[arg-type]
            raise UserError(
                f"sequences begin within a window (packed=True), and {type(model).__name__} has no argument "
                f"`resets`: give it one, or read the stream with packed=False"
            )
        more["resets"] = resets
    features, state, *penalty = method(inputs, state, **more)  # type: ignore[operator]
    return features, state, penalty[0] if penalised else None


class FastModel:
    """Calls a model; training batches that come twice in a row in the same shapes go to a faster version of it.

    All others go to the model itself, so nothing is compiled for them: the first window of a pass, which has no state
    yet, smaller ones at the end of an epoch, and validation. CUDA graphs are made anew for weights that lie elsewhere,
    as in a second fit, and for others that are trained, as where layers are thawed.

    Args:
        model: the model.
        how: True for torch.compile; "graph" for CUDA graphs of the forward and the backward pass (each is launched as
            one, where a small model is bound by launching hundreds of kernels). A model whose steps can't be captured
            is called as it is; one that says why, in `not_captured`, is not tried.
        call: calls the model with a batch's inputs; returns a tuple of tensors, states, or None.
    """

    def __init__(self, model: nn.Module, how: bool | str, call: Forward = read) -> None:
        self.model = model
        self.how = how
        self.call = call
        self.latest: Any = None
        self.fast: Any = None
        self.fast_for: Any = None

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """What `call` returns; inputs are tensors, states, or None."""
        if not (self.how and self.model.training and torch.is_grad_enabled()):
            return self.call(self.model, *inputs)
        kind = tuple(part.shape for part in tensors(inputs)), places(self.model) if self.how == CUDA_GRAPH else None
        if kind == self.latest and (self.fast is None or kind[1] != self.fast_for[1]):
            self.fast, self.fast_for = self.make(inputs), kind
        self.latest = kind
        return self.fast(*inputs) if kind == self.fast_for else self.call(self.model, *inputs)

    def make(self, inputs: tuple[Any, ...]) -> Any:
        """The faster version; what its trial runs change (running statistics, random generators) is put back."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        random = random_state.get()
        fast = self.graphed(inputs) if self.how == CUDA_GRAPH else self.compiled(inputs)
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        random_state.restore(random)
        return fast

    def graphed(self, inputs: tuple[Any, ...]) -> Any:
        """The call by CUDA graphs; of a model that can't be captured, the call itself, which is said once."""
        reason = getattr(self.model, "not_captured", None)
        if any(isinstance(part, NUMBERS) for part in leaves(inputs)):
            reason = "its state has numbers, which a graph would not change"
        stream = torch.cuda.current_stream() if torch.cuda.is_available() else None
        try:
            if reason is None:
                return graph(self.model, self.call, inputs)
        except (RuntimeError, AssertionError) as error:  # such as an operation that waits for the device
            if stream is not None:
                leave_capture(stream)
            first: BaseException = error  # the last says no more than that there was one before
            while first.__context__ is not None:
                first = first.__context__
            reason = (str(first).strip() or repr(first)).splitlines()[0]
        name = type(self.model).__name__
        say(f"model.compile=graph: {name} trains without CUDA graphs: it can't be captured ({reason})")
        self.how = False
        return partial(self.call, self.model)

    def compiled(self, inputs: tuple[Any, ...]) -> Any:
        """The call by torch.compile, run once."""

        def call(*inputs: Any) -> tuple[Any, ...]:
            return self.call(self.model, *inputs)

        torch._dynamo.config.allow_rnn = True
        fast = torch.compile(call, dynamic=False)
        try:
            fast(*inputs)
        except Exception as error:  # many kinds; a missing C++ compiler among them
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"model.compile=true: torch.compile can't do it here ({reason}); leave it out") from error
        return fast


def leave_capture(stream: Any) -> None:
    """Puts back what a capture that failed leaves behind: its own stream as the current one, and in torch 2.11 a
    generator that draws no more, as if it were captured still (PyTorch's issue 171263)."""
    torch.cuda.synchronize()
    torch.cuda.set_stream(stream)
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())


def places(model: nn.Module) -> list[tuple[int, bool]]:
    """Where each weight lies, and whether it is trained: CUDA graphs go on with both as they were."""
    return [(parameter.data_ptr(), parameter.requires_grad) for parameter in model.parameters()]


def graph(model: nn.Module, call: Forward, inputs: tuple[Any, ...]) -> Any:
    """The model as two CUDA graphs (`torch.cuda.make_graphed_callables`).

    The graphs read from buffers of their own, into which every later window is copied, and write to others, which the
    next call overwrites. So what is kept beyond a step is a copy: the state, and gradients that are accumulated, since
    a weight's first gradient is the graph's own (PyTorch's issue 181723).
    """
    tensors_only = TensorsOnly(model, call, inputs)
    buffers = tuple(part.clone() for part in tensors(inputs))
    with torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
    ):
        # the head is not called here: the loss is computed from the features, outside of the graphs
        graphed: Any = torch.cuda.make_graphed_callables(tensors_only, buffers, allow_unused_input=True)

    def keep_gradients(_: Tensor | None) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()

    def fast(*inputs: Any) -> tuple[Any, ...]:
        outputs, *others = graphed(*tensors(inputs))
        if outputs.requires_grad:
            outputs.register_hook(keep_gradients)  # is called before the graph of the backward pass
        return filled(tensors_only.form, (outputs, *(part.clone() for part in others)))

    return fast


class TensorsOnly(nn.Module):
    """A call with the tensors of its inputs, which returns those of what the call returns: a CUDA graph knows no nests.

    Args:
        inputs: such as it will be called with.

    Attributes:
        form: what the call returned last, without its tensors.
    """

    def __init__(self, model: nn.Module, call: Forward, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.model = model  # registered, so that its parameters are found
        self.call = call
        self.inputs = emptied(inputs)
        self.form: Any = None

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        parts = self.call(self.model, *filled(self.inputs, given))
        self.form = emptied(parts)
        return tuple(tensors(parts))


def emptied(values: Any) -> Any:
    """The nest alone."""
    return map_tensors(values, lambda part: PLACE)


def filled(nest: Any, values: Iterable[Tensor]) -> Any:
    """The nest with these tensors, in order."""
    given = iter(values)
    return map_tensors(nest, lambda part: next(given))
