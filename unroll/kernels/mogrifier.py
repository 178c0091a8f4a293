"""A layer of Mogrifier LSTM cells with a faster training step on CPUs than PyTorch's record of the loop."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels.products import matmul, transposed

aten: Any = torch.ops.aten


class MogrifierSteps(torch.autograd.Function):
    """All steps of an `unroll.nn.MogrifierCell` of two rounds or more, for inputs `[time, batch, input]`.

    2σ(z) = 1 + tanh(z/2), so with half of a scale's weights v′ = v + tanh(…) ⊙ v. What the gradients of the gates and
    of the scales have for factors is computed for all steps before the backward loop; the gradients of all weights are
    products over all steps, after it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, *scales: Tensor
    ) -> tuple[Tensor, Tensor]:
        size, hidden = x.size(2), h0.size(1)
        halves = [scale / 2 for scale in scales]
        weights, biases = halves[::2], halves[1::2]
        both = x.new_empty(*x.shape[:2], size + hidden)  # x and h as they meet
        meet = both.split([size, hidden], dim=2)
        hs = x.new_empty(len(x) + 1, *h0.shape)
        cs = torch.empty_like(hs)
        hs[0], cs[0] = h0, c0
        versions = [x, hs[:-1]]  # of x and h in turn: a round makes the next from the last but one
        for number in range(len(weights)):
            last = number + 2 >= len(weights)
            versions.append(meet[number % 2] if last else torch.empty_like(versions[number]))
        turns = [torch.empty_like(versions[number]) for number in range(len(weights))]
        gates = x.new_empty(*x.shape[:2], 4 * hidden)
        tanh_c = torch.empty_like(cs[1:])
        w = torch.cat([w_ih, w_hh], dim=1)
        of_gates, of_turns = transposed(w), [transposed(weight) for weight in weights]
        for t in range(len(x)):
            now = [version[t] for version in versions]
            for number, (weight, half) in enumerate(zip(of_turns, biases, strict=True)):
                turn = turns[number][t].copy_(matmul(now[number + 1], weight, half, tanh=True))
                torch.addcmul(now[number], turn, now[number], out=now[number + 2])
            gates[t] = matmul(both[t], of_gates, bias)
            i, f, g, o = gates[t].chunk(4, dim=1)
            gates[t, :, : 2 * hidden].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            c = torch.mul(f, cs[t], out=cs[t + 1]).addcmul_(i, g)
            torch.mul(o, torch.tanh(c, out=tanh_c[t]), out=hs[t + 1])
        ctx.save_for_backward(w, both, gates, hs, cs, tanh_c, *weights, *versions, *turns)
        return hs[1:], cs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Tensor, ...]:
        w, both, gates, hs, cs, tanh_c, *rest = ctx.saved_tensors
        rounds = (len(rest) - 2) // 3
        weights, versions, turns = rest[:rounds], rest[rounds : 2 * rounds + 2], rest[2 * rounds + 2 :]
        hidden = hs.size(2)
        size = both.size(2) - hidden
        i, f, g, o = gates.chunk(4, dim=2)
        d_gates = torch.empty_like(gates)  # at first the factors, as `d_turns` too
        d_i, d_f, d_g, d_o = d_gates.chunk(4, dim=2)
        aten.sigmoid_backward.grad_input(g, i, grad_input=d_i)
        aten.sigmoid_backward.grad_input(cs[:-1], f, grad_input=d_f)
        aten.tanh_backward.grad_input(i, g, grad_input=d_g)
        aten.sigmoid_backward.grad_input(tanh_c, o, grad_input=d_o)
        of_c = aten.tanh_backward(o, tanh_c)
        d_turns = [aten.tanh_backward(versions[number], turns[number]) for number in range(rounds)]
        growths = [turn + 1 for turn in turns]

        d_both = torch.empty_like(both)
        dc, dh = grad_c.clone(), torch.zeros_like(grad[0])
        for t in reversed(range(len(grad))):
            dh = dh + grad[t]
            dc.addcmul_(dh, of_c[t])
            d_gates[t].unflatten(1, (4, hidden))[:, :3].mul_(dc.unsqueeze(1))
            d_o[t].mul_(dh)
            dc.mul_(f[t])
            d_both[t] = matmul(d_gates[t], w)
            pair = d_both[t].split([size, hidden], dim=1)
            for number in reversed(range(rounds)):
                scaled, other = pair[number % 2], pair[1 - number % 2]
                d_turn = d_turns[number][t].mul_(scaled)
                scaled.mul_(growths[number][t])
                other.add_(matmul(d_turn, weights[number]))
            dh = pair[1]

        every = d_gates.flatten(0, 1)
        d_w_ih, d_w_hh = matmul(both.flatten(0, 1).t(), every).t().split([size, hidden], dim=1)
        of_scales: list[Tensor] = []
        for number, d_turn in enumerate(d_turns):
            flat = d_turn.flatten(0, 1)
            of_scales += [matmul(versions[number + 1].flatten(0, 1).t(), flat).t() / 2, flat.sum(0) / 2]
        return d_both[..., :size], dh, dc, d_w_ih, d_w_hh, every.sum(0), *of_scales
