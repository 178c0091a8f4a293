"""Products are PyTorch's, with their gradients, whoever computes them."""

import pytest
import torch
import torch.nn.functional as F

from unroll.kernels import products


@pytest.fixture(params=["oneDNN", "PyTorch"])
def library(request, monkeypatch):
    """Each of the two that compute products, whichever serves this processor."""
    if request.param == "oneDNN" and products.ONEDNN is None:
        pytest.skip("this PyTorch is without oneDNN")
    monkeypatch.setattr(products, "FUSED", products.ONEDNN if request.param == "oneDNN" else None)


def matrices(layout, *shapes):
    """Random ones: rows one after the other, columns one after the other, or every second column of a wider one."""
    draw = torch.Generator().manual_seed(0)
    for rows, columns in shapes:
        if layout == "columns":
            yield torch.randn(columns, rows, generator=draw).t()
        else:
            wide = torch.randn(rows, 2 * columns, generator=draw)
            yield wide[:, ::2] if layout == "gaps" else wide[:, :columns].contiguous()


@pytest.mark.parametrize("layout", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_products_are_those_of_pytorch_however_the_matrices_lie(library, layout, dtype):
    a, b, c = (matrix.to(dtype) for matrix in matrices(layout, (7, 33), (33, 20), (7, 20)))
    torch.testing.assert_close(products.matmul(a, b), a @ b)
    torch.testing.assert_close(products.matmul(a, b, c[0]), torch.addmm(c[0], a, b))
    torch.testing.assert_close(products.matmul(a, b, c[0], tanh=True), torch.addmm(c[0], a, b).tanh())
    torch.testing.assert_close(products.add_matmul(c.clone(), a, b), torch.addmm(c, a, b))


@pytest.mark.parametrize("shape", [(5, 33), (3, 5, 33), (0, 33)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_linear_layer_is_that_of_pytorch(library, shape, bias):
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(*size, generator=draw).requires_grad_() for size in (shape, (20, 33), (20,))][: 2 + bias]
    grad = torch.randn(*shape[:-1], 20, generator=draw)
    found, expected = (layer(*given) for layer in (products.linear, F.linear))
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(*(torch.autograd.grad(y, given, grad) for y in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_scores_of_the_linear_layer_may_be_changed_in_place(library):
    weight = torch.randn(20, 33, requires_grad=True)
    scores = products.linear(torch.randn(3, 5, 33), weight)[0, -1]
    scores[[2, 3]] = 0
    scores.sum().backward()
    assert weight.grad[[2, 3]].abs().sum() == 0
    assert weight.grad.abs().sum() > 0


def test_without_onednn_pytorch_computes(monkeypatch):
    monkeypatch.setattr(products, "FUSED", None)
    a, b, c = matrices("rows", (7, 33), (33, 20), (7, 20))
    assert torch.equal(products.matmul(a, b), a @ b)
    assert torch.equal(products.add_matmul(c.clone(), a, b), torch.addmm(c, a, b))
    assert torch.equal(products.linear(a, b.t()), F.linear(a, b.t()))


@pytest.mark.parametrize(("vendor", "theirs"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_processors_vendor_decides(monkeypatch, vendor, theirs):
    monkeypatch.setattr(products.Path, "read_text", lambda path: f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(products.platform, "processor", lambda: f"Family 25 Model 97, {vendor}")
    assert products.of_amd() is theirs
