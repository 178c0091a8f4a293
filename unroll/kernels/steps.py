"""Recurrent layers whose steps are compiled (steps.c), forward and backward, for inputs `[time, rows, size]` on a CPU.

What does not depend on the step before is done for all steps at once (`products`): what the inputs contribute to the
gates, and the gradients of the weights and of the inputs. All is float32 or float64, and equals PyTorch's layers
and the cells of `unroll.nn`. A function here records a gradient; its double gradient is refused.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels.calls import has_library, readable, run
from unroll.kernels.products import matmul

FEW = 4  # rows of one step of an LSTM without gradients, for which its weights are read as they lie
MOST_ROUNDS = 32  # of a Mogrifier, as in steps.c


def can_run(x: Tensor) -> bool:
    """Whether the steps of a layer with these inputs are compiled."""
    return x.dim() == 3 and x.numel() > 0 and readable(x, torch.is_autocast_enabled("cpu")) and has_library(x.dtype)


def single(x: Tensor) -> bool:
    """Whether it is one step of inference, `[rows, 1, size]`: PyTorch's is as fast there, but for an LSTM."""
    return x.size(1) == 1 and not torch.is_grad_enabled()


def gru(
    x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, resets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`unroll.nn.GRUCell` over all steps: the outputs `[time, rows, hidden]`, and the last.

    Args:
        resets: bool `[time, rows]`, contiguous: the steps, of two or more, before which a row's state becomes zeros.
    """
    return apply(GRUSteps, x, h0, w_ih, w_hh, b_ih, b_hh, resets)


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`unroll.nn.LSTMCell` over all steps, with resets as of `gru`: the outputs, the last, and the last c."""
    if len(x) == 1 and x.size(1) <= FEW and not torch.is_grad_enabled():
        return lstm_step(x, h0, c0, w_ih, w_hh, b_ih, b_hh)
    return apply(LSTMSteps, x, h0, c0, w_ih, w_hh, b_ih + b_hh, resets)


def rnn(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    resets: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor]:
    """`unroll.nn.RNNCell` over all steps, or the same with a ReLU, with resets as of `gru`: outputs, and the last."""
    return apply(RNNSteps, x, h0, w_ih, w_hh, b_ih + b_hh, resets, relu)


def mogrifier(
    x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, *scales: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`unroll.nn.MogrifierCell` over all steps: the outputs, the last, and the last c.

    Args:
        scales: the weight and the bias of each round, in turn. 2σ(z) = 1 + tanh(z/2): they are halved here.
    """
    return apply(MogrifierSteps, x, h0, c0, w_ih, w_hh, bias, *(scale / 2 for scale in scales))


def apply(steps: Any, *given: Any) -> Any:
    if torch.is_autocast_enabled("cpu"):
        given = tuple(part.float() if isinstance(part, Tensor) and part.is_floating_point() else part for part in given)
    if torch.is_grad_enabled() and any(isinstance(part, Tensor) and part.requires_grad for part in given):
        return steps.apply(*given)
    return steps.forward(None, *given)


def lstm_step(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of `lstm` for a few rows, without gradients."""
    x, h0, c0, w_ih, w_hh, *biases = (part.contiguous() for part in given)
    h, c = torch.empty_like(h0), torch.empty_like(c0)
    sizes, work = (1, *h0.shape, x.size(2)), len(h0) * (w_ih.numel() + w_hh.numel())
    run("lstm_step", sizes, work, x, h0, c0, w_ih, w_hh, *biases, h, c)
    return h[None], h, c


def before_steps(states: Tensor, resets: Tensor | None) -> Tensor:
    """The states before each step, `[time × rows, units]`, of all states."""
    before = states[:-1] if resets is None else states[:-1].masked_fill(resets.unsqueeze(2), 0)
    return before.flatten(0, 1)


def states(start: Tensor, steps: int) -> Tensor:
    """Room for a state and those after it."""
    every = start.new_empty(steps + 1, *start.shape)
    every[0] = start
    return every


def inputs_product(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs, `[time × rows, size]`, and the weight, both in autocast's precision; their product and the bias."""
    flat = x.flatten(0, 1)
    if not torch.is_autocast_enabled("cpu"):
        return flat, weight, matmul(flat, weight.t(), bias)
    flat, weight = (part.to(torch.get_autocast_dtype("cpu")) for part in (flat, weight))
    return flat, weight, torch.mm(flat, weight.t()).to(bias.dtype).add_(bias)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b in the precision of b, the result in that of a."""
    return matmul(a.to(b.dtype), b).to(a.dtype)


def inner_stride_of_one(grad: Tensor) -> Tensor:
    return grad if grad.stride(2) == 1 or grad.size(2) == 1 else grad.contiguous()


class GRUSteps(torch.autograd.Function):
    """With m = W_hn h + b_hn, h′ = n + z ⊙ (h − n)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        resets: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        steps, rows, _ = x.shape
        units = w_hh.size(1)
        w_hh, b_hn = w_hh.contiguous(), b_hh[2 * units :].contiguous()
        bias = torch.cat([b_ih[: 2 * units] + b_hh[: 2 * units], b_ih[2 * units :]])
        flat, w_ih, gates = inputs_product(x, w_ih, bias)
        hs = states(h0, steps)
        m = torch.empty_like(hs[1:]) if ctx else None
        run("gru", (steps, rows, units), gates.numel() * units, gates, w_hh, b_hn, hs, m, resets=resets)
        if ctx:
            ctx.save_for_backward(flat, w_ih, w_hh, gates, hs, m, resets)
        return hs[1:], hs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, hs, m, resets = ctx.saved_tensors
        grad = inner_stride_of_one(grad)
        units = grad.size(2)
        d = gates.new_empty(len(x), 4 * units)  # of m, r, z and n
        dh = d_last.clone(memory_format=torch.contiguous_format)
        sizes = *grad.shape, 0, 0, 0, *grad.stride()[:2]
        run("gru_back", sizes, 3 * units * grad.numel(), gates, w_hh, None, hs, m, grad, d, dh, resets=resets)
        of_inputs, of_states, sums = d[:, units:], d[:, : 3 * units], d.sum(0)
        d_w_hh = product(of_states.t(), before_steps(hs, resets).to(x.dtype)).roll(-units, 0)
        d_x = product(of_inputs, w_ih).view(*grad.shape[:2], -1) if ctx.needs_input_grad[0] else None
        return d_x, dh, product(of_inputs.t(), x), d_w_hh, sums[units:], sums[: 3 * units].roll(-units), None


class LSTMSteps(torch.autograd.Function):
    """The gates in the order i, f, g, o."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, resets: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, rows, _ = x.shape
        units, w_hh = w_hh.size(1), w_hh.contiguous()
        flat, w_ih, gates = inputs_product(x, w_ih, bias)
        hs, cs = states(h0, steps), states(c0, steps)
        tanh_c = torch.empty_like(cs[1:]) if ctx else None
        if steps == 1 and not ctx:  # packing the weights takes longer than the product
            run("lstm_gates", (steps, rows, units), 0, gates.addmm_(hs[0], w_hh.t()), hs, cs, None)
        else:
            unused = [None] * 4
            work = gates.numel() * units
            run("lstm", (steps, rows, units), work, gates, hs, cs, tanh_c, *unused, w_hh, resets=resets)
        if ctx:
            ctx.save_for_backward(flat, w_ih, w_hh, gates, hs, cs, tanh_c, resets)
        return hs[1:], hs[-1].clone(), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, d_last: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, hs, cs, tanh_c, resets = ctx.saved_tensors
        grad = inner_stride_of_one(grad)
        d = torch.empty_like(gates)
        dh, dc = (part.clone(memory_format=torch.contiguous_format) for part in (d_last, d_c))
        sizes = *grad.shape, 0, 0, 0, *grad.stride()[:2]
        run("lstm_back", sizes, d.numel() * grad.size(2), gates, hs, cs, tanh_c, grad, d, dh, dc, w_hh, resets=resets)
        d_x = product(d, w_ih).view(*grad.shape[:2], -1) if ctx.needs_input_grad[0] else None
        d_w_hh = product(d.t(), before_steps(hs, resets).to(x.dtype))
        return d_x, dh, dc, product(d.t(), x), d_w_hh, d.sum(0), None


class RNNSteps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, resets: Tensor | None, relu: bool
    ) -> tuple[Tensor, Tensor]:
        steps, rows, _ = x.shape
        units, w_hh = w_hh.size(1), w_hh.contiguous()
        flat, w_ih, sums = inputs_product(x, w_ih, bias)
        hs = states(h0, steps)
        run("rnn", (steps, rows, units, 0, 0, relu), sums.numel() * units, sums, w_hh, hs, resets=resets)
        if ctx:
            ctx.save_for_backward(flat, w_ih, w_hh, hs, resets)
            ctx.relu = relu
        return hs[1:], hs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, hs, resets = ctx.saved_tensors
        grad = inner_stride_of_one(grad)
        d = hs.new_empty(len(x), grad.size(2))
        dh = d_last.clone(memory_format=torch.contiguous_format)
        sizes = *grad.shape, 0, 0, ctx.relu, *grad.stride()[:2]
        run("rnn_back", sizes, d.numel() * grad.size(2), None, w_hh, hs, grad, d, dh, resets=resets)
        d_x = product(d, w_ih).view(*grad.shape[:2], -1) if ctx.needs_input_grad[0] else None
        d_w_hh = product(d.t(), before_steps(hs, resets).to(x.dtype))
        return d_x, dh, product(d.t(), x), d_w_hh, d.sum(0), None, None


class MogrifierSteps(torch.autograd.Function):
    """x and h have versions, x first: a round makes the next from the last but one, v′ = v + tanh(…) ⊙ v."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, *scales: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, rows, size = x.shape
        units = w_hh.size(1)
        x, w_ih, w_hh, bias, *of_rounds = [part.contiguous() for part in (x, w_ih, w_hh, bias, *scales)]
        weights, biases = of_rounds[::2], of_rounds[1::2]
        hs, cs = states(h0, steps), states(c0, steps)
        versions = [x, hs]
        turns = [torch.empty_like((x, hs[1:])[number % 2]) for number in range(len(weights))]
        versions += [torch.empty_like(turn) for turn in turns]
        gates = x.new_empty(steps * rows, 4 * units) if ctx else None
        tanh_c = torch.empty_like(cs[1:]) if ctx else None
        sizes = steps, rows, units, size, len(weights)
        fixed = [hs, cs, tanh_c, None, None, None, None, w_ih, w_hh, bias, None]
        places = laid_out(versions, turns, weights, biases)
        run("mogrifier", sizes, work(steps * rows, w_ih, w_hh, *weights), gates, *fixed, *places)
        if ctx:
            ctx.save_for_backward(w_ih, w_hh, gates, hs, cs, tanh_c, *weights, *versions, *turns)
        return hs[1:], hs[-1].clone(), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, d_last: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        w_ih, w_hh, gates, hs, cs, tanh_c, *rest = ctx.saved_tensors
        rounds = (len(rest) - 2) // 3
        weights, versions, turns = rest[:rounds], rest[rounds : 2 * rounds + 2], rest[2 * rounds + 2 :]
        grad = inner_stride_of_one(grad)
        x = versions[0]
        d, d_x, d_turns = torch.empty_like(gates), torch.empty_like(x), [torch.empty_like(turn) for turn in turns]
        dh, dc = (part.clone(memory_format=torch.contiguous_format) for part in (d_last, d_c))
        sizes = *grad.shape, x.size(2), rounds, 0, *grad.stride()[:2]
        fixed = [hs, cs, tanh_c, grad, d, dh, dc, w_ih, w_hh, None, d_x]
        places = laid_out(versions, turns, weights, [], d_turns)
        run("mogrifier_back", sizes, work(len(gates), w_ih, w_hh, *weights), gates, *fixed, *places)
        flat = [version[: len(grad)].flatten(0, 1) for version in versions]
        last_x, last_h = sorted((rounds, rounds + 1), key=lambda number: number % 2)
        of_scales: list[Tensor] = []
        for number, d_turn in enumerate(d_turns):
            of_scale = d_turn.flatten(0, 1)
            of_scales += [matmul(of_scale.t(), flat[number + 1]), of_scale.sum(0)]
        d_w_ih, d_w_hh = (matmul(d.t(), flat[last]) for last in (last_x, last_h))
        return d_x, dh, dc, d_w_ih, d_w_hh, d.sum(0), *of_scales


def laid_out(versions: list[Tensor], *others: list[Tensor]) -> list[Tensor | None]:
    """What belongs to the rounds of a Mogrifier, where steps.c looks for it."""
    places: list[Tensor | None] = [*versions, *[None] * (MOST_ROUNDS + 2 - len(versions))]
    for tensors in others:
        places += [*tensors, *[None] * (MOST_ROUNDS - len(tensors))]
    return places


def work(positions: int, *weights: Tensor) -> int:
    return positions * sum(weight.numel() for weight in weights)
