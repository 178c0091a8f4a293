"""A layer of gated recurrent units with a faster training step on CPUs than PyTorch's, which it equals.

PyTorch records every step of the loop and differentiates each separately. Here the gradient is written out: whatever
does not depend on the following step, all but one of the products with weight matrices included, is computed for all
steps at once.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll.kernels import switch
from unroll.kernels.products import add_matmul, matmul, transposed

aten: Any = torch.ops.aten


def written_out(x: Tensor) -> bool:
    """Whether a written-out gradient serves for a layer's inputs."""
    return (
        switch.in_use()
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dim() == 3
        and not torch.compiler.is_compiling()
    )


class GRUSteps(torch.autograd.Function):
    """A layer of gated recurrent units (the equations: `unroll.nn.GRUCell`), for inputs `[time, batch, input]`.

    With m = W_hn h + b_hn, h′ = n + z ⊙ (h − n). The gradients of what the gates are made of are products
    with dh′: ∂n → (1 − z)(1 − n²), ∂m → ∂n r, ∂r → ∂n m r(1 − r), ∂z → (h − n) z(1 − z). The factors are
    computed before dh′, so that the backward loop has four operations per step.

    In mixed precision the weight matrices are given in the lower one, and so are all products; the state, the gates and
    the biases stay in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        hidden = w_hh.size(1)
        bias = torch.cat([b_ih[: 2 * hidden] + b_hh[: 2 * hidden], b_ih[2 * hidden :]])
        gates = matmul(x.flatten(0, 1), transposed(w_ih), bias).unflatten(0, x.shape[:2])
        # a copy of the input's part, whose place W_hn h + b_hn takes: tanh of a strided tensor is slow
        n = gates[..., 2 * hidden :].clone(memory_format=torch.contiguous_format)
        gates[..., 2 * hidden :] = b_hh[2 * hidden :]
        hs = torch.empty(len(x) + 1, *h0.shape, dtype=x.dtype)
        h = hs[0].copy_(h0)
        w = transposed(w_hh)
        rz, m = gates.split([2 * hidden, hidden], dim=-1)
        r, z = rz.chunk(2, dim=-1)
        for gates_t, rz_t, r_t, z_t, m_t, n_t, following in zip(gates, rz, r, z, m, n, hs[1:], strict=True):
            sums = add_matmul(gates_t, h, w)
            sums_rz, sums_m = sums.split([2 * hidden, hidden], dim=-1)
            torch.sigmoid(sums_rz, out=rz_t)
            n_t.addcmul_(r_t, sums_m).tanh_()
            if sums is not gates_t:
                m_t.copy_(sums_m)
            h = torch.lerp(n_t, h, z_t, out=following)
        ctx.save_for_backward(x, w_ih, w_hh, gates, n, hs)
        return hs[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, w_ih, w_hh, gates, n, hs = ctx.saved_tensors
        hidden = w_hh.size(1)
        r, z, m = gates.chunk(3, -1)
        d_gates = torch.empty_like(gates)  # at first the factors, then the gradients of r, z and m
        d_r, d_z, d_m = d_gates.chunk(3, -1)
        factor_n = aten.tanh_backward(1 - z, n)
        torch.mul(factor_n, r, out=d_m)
        aten.sigmoid_backward.grad_input(factor_n * m, r, grad_input=d_r)
        aten.sigmoid_backward.grad_input(hs[:-1] - n, z, grad_input=d_z)

        dhs = torch.empty_like(n)
        factors, of_gates = d_gates.unflatten(-1, (3, hidden)).unbind(0), d_gates.unbind(0)
        grads, keeps, d_states = grad.unbind(0), z.unbind(0), dhs.unbind(0)
        dh = d_states[-1].copy_(grads[-1])
        for t in reversed(range(len(n))):
            factors[t].mul_(dh.unsqueeze(1))
            before = torch.addcmul(grads[t - 1], dh, keeps[t], out=d_states[t - 1]) if t > 0 else dh * keeps[0]
            dh = before.copy_(add_matmul(before, of_gates[t], w_hh))

        every = d_gates.flatten(0, 1)
        d_b_hh = every.sum(0)
        every = every.to(w_hh.dtype)
        d_w_hh = matmul(hs[:-1].flatten(0, 1).t(), every).t()
        torch.mul(dhs, factor_n, out=d_m)  # the input's part of n is not behind the reset gate
        d_b_ih = torch.cat([d_b_hh[: 2 * hidden], d_m.sum((0, 1))])
        every = d_gates.flatten(0, 1).to(w_ih.dtype)
        d_w_ih = matmul(x.flatten(0, 1).t(), every).t()
        return matmul(every, w_ih).view_as(x), dh, d_w_ih, d_w_hh, d_b_ih, d_b_hh
