"""Large products are compiled like the steps of layers, and equal PyTorch's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import unroll.nn
from unroll import kernels
from unroll.kernels import calls, products
from unroll.kernels.cross_entropy import LinearCrossEntropy

COMPILED = not math.isinf(products.LARGE) and calls.has_library(torch.float32)
pytestmark = pytest.mark.skipif(not COMPILED, reason="they are PyTorch's")


@pytest.fixture
def called(monkeypatch):
    """What was called of steps.c, where every product is large."""
    found = []

    def run(name, *others, **resets):
        found.append(name)
        calls.run(name, *others, **resets)

    for name, size in {"LARGE": 0, "ROWS": 1, "run": run}.items():
        monkeypatch.setattr(products, name, size)
    return found


@st.composite
def matrices(draw, rows, columns, dtype):
    """Also a view of a wider one, or of its transpose."""
    wider = draw(st.integers(0, 3))
    if draw(st.booleans()):
        return torch.randn(columns, rows + wider, dtype=dtype).t()[wider:]
    return torch.randn(rows, columns + wider, dtype=dtype)[:, wider:]


SIZES = st.one_of(st.integers(1, 9), st.sampled_from([31, 32, 63, 64, 130]))


@given(
    data=st.data(), rows=SIZES, inner=st.one_of(SIZES, st.sampled_from([511, 512, 513, 1100])), columns=SIZES,
    biased=st.booleans(), dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_they_equal_pytorchs(data, rows, inner, columns, biased, dtype):
    a, b = data.draw(matrices(rows, inner, dtype)), data.draw(matrices(inner, columns, dtype))
    bias = torch.randn(2 * columns, dtype=dtype)[::2] if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "LARGE", 0)
        patch.setattr(products, "ROWS", 1)
        found = products.matmul(a, b, bias)
    exact = a.double() @ b.double() + (0 if bias is None else bias.double())
    tolerance = 2e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)


def test_they_are_as_exact_as_pytorchs():
    a, b = torch.randn(256, 4096), torch.randn(4096, 96)
    exact = a.double() @ b.double()
    ours, theirs = ((found.double() - exact).abs().mean() for found in (products.matmul(a, b), a @ b))
    assert ours < 1.5 * theirs


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_neither_threads_nor_other_rows_change_a_digit(threads):
    torch.manual_seed(0)
    a, b = torch.randn(1501, 300), torch.randn(300, 130)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = products.matmul(a, b)
        assert torch.equal(products.matmul(a[701:], b), found[701:])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(products.matmul(a, b), found)


def test_what_is_not_a_number_stays_so(called):
    a, b = torch.ones(9, 5), torch.ones(5, 7)
    a[2, 3], b[1, 4] = torch.nan, torch.inf
    torch.testing.assert_close(products.matmul(a, b), a @ b, equal_nan=True)
    assert called == ["matmul"]


@pytest.mark.parametrize("biased", [False, True])
def test_a_linear_layer_and_its_gradients_are_the_same(called, biased):
    x, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((3, 4, 5), (7, 5), (7,)))
    given = (x, weight, bias) if biased else (x, weight)
    found = []
    for linear in (products.linear, nn.functional.linear):
        outputs = linear(*given)
        found.append([outputs, *torch.autograd.grad(outputs.square().sum(), given)])
    torch.testing.assert_close(*found)
    assert called == ["matmul"] * 3
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(*given).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN", "Mogrifier"])
def test_layers_and_their_gradients_are_the_same(called, kind):
    torch.manual_seed(0)
    layer, x = getattr(unroll.nn, kind)(5, 7), torch.randn(3, 4, 5, requires_grad=True)
    found = []
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not compiled:
                patch.setattr(products, "LARGE", math.inf)
            outputs, _ = layer(x)
            found.append([outputs, *torch.autograd.grad(outputs.square().sum(), [x, *layer.parameters()])])
    torch.testing.assert_close(*found)
    assert "matmul" in called


def test_the_loss_of_a_large_vocabulary_is_the_same(called, monkeypatch):
    torch.manual_seed(0)
    x, targets = torch.randn(9, 5, requires_grad=True), torch.randint(7, (9,))
    head = nn.Linear(5, 7)
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(products, "LARGE", 0 if compiled else math.inf)
        loss, minimised = LinearCrossEntropy.apply(x, head.weight, head.bias, targets, 0.0, 4)
        found.append([loss, *torch.autograd.grad(minimised, [x, *head.parameters()])])
    torch.testing.assert_close(*found)
    assert called.count("matmul") == 3 * 3  # a chunk's scores, and the gradients of its features and of the weights


def test_they_are_pytorchs_without_kernels_or_numbers_and_in_half_precision(called):
    a, b = torch.randn(9, 5), torch.randn(5, 7)
    with kernels.plain():
        assert torch.equal(products.matmul(a, b), a @ b)
    assert products.matmul(a.bfloat16(), b.bfloat16()).dtype == torch.bfloat16
    negative = torch.complex(a, a).conj().imag  # whose numbers are those in memory times −1
    assert negative.is_neg()
    torch.testing.assert_close(products.matmul(negative, b), -a @ b)
    with FakeTensorMode() as mode:
        assert products.matmul(mode.from_tensor(a), mode.from_tensor(b)).shape == (9, 7)
    torch.testing.assert_close(torch.func.vmap(lambda a: products.matmul(a, b))(torch.stack([a, a]))[1], a @ b)
    assert called == []


def test_sizes_that_do_not_fit_are_left_to_pytorch(called):
    x, weight = torch.randn(9, 5), torch.randn(7, 5)
    for product in (products.matmul, torch.mm):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            product(x, weight)
    for linear in (products.linear, nn.functional.linear):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            linear(x, weight[:, :4])
        with pytest.raises(RuntimeError, match="same dtype"):
            linear(x, weight.double())
    for parts in ((x[0], weight), (x, weight[0]), (x, weight, torch.ones(1)), (x, weight, torch.ones(9, 1))):
        torch.testing.assert_close(products.linear(*parts), nn.functional.linear(*parts))
    assert called == []


def test_tensors_whose_numbers_do_not_lie_in_memory_are_left_to_pytorch(called):
    x, weight = torch.randn(9, 5), torch.randn(7, 5)
    negative = torch.complex(weight, weight).conj().imag[:, 0]
    nothing = torch._efficientzerotensor((9, 5))
    for parts in ((x, weight.to_sparse()), (nothing, weight), (x, weight, negative)):
        torch.testing.assert_close(products.linear(*parts), nn.functional.linear(*parts))
    assert called == []


def test_gradients_of_several_losses_at_once_are_left_to_pytorch(called):
    x, weight = torch.randn(9, 5, requires_grad=True), torch.randn(7, 5, requires_grad=True)
    losses = torch.randn(3, 9, 7)
    found, expected = (
        torch.autograd.grad(linear(x, weight), (x, weight), losses, is_grads_batched=True)
        for linear in (products.linear, nn.functional.linear)
    )
    torch.testing.assert_close(found, expected)
    assert called == ["matmul"]


def test_what_watches_pytorchs_operations_sees_them(called):
    x, other, weight = torch.randn(9, 5), torch.randn(9, 5), torch.randn(7, 5)
    with FlopCounterMode(display=False) as counter:
        products.linear(x, weight)
    assert counter.get_total_flops() == 2 * 9 * 5 * 7
    recorded = make_fx(lambda x, weight: products.linear(x, weight))(x, weight)
    torch.testing.assert_close(recorded(other, weight), nn.functional.linear(other, weight))
    assert called == []


def test_small_products_compile_nothing(monkeypatch):
    monkeypatch.setattr(calls, "library", None)
    products.linear(torch.randn(9, 5), torch.randn(7, 5))
