"""Large products are computed by whoever is faster on this machine, and a run says who that was."""

import os
import subprocess
import sys
import warnings

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode

import unroll.nn
from unroll import CarriesState, LastCheckpoint, Stream, kernels
from unroll.errors import UserError
from unroll.kernels import products
from unroll.kernels.cross_entropy import LinearCrossEntropy

ONEDNN = products.ONEDNN
pytestmark = pytest.mark.skipif(products.ONEDNN is None, reason="this PyTorch has no oneDNN")


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """As in a process that begins on a machine where nothing was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(products.CHOICE, raising=False)
    products.chosen.cache_clear()
    yield tmp_path / "unroll/kernels"
    products.chosen.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def every_product_is_large():
    """And has several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"LARGE": 0, "MOST": 4, "LARGEST_AT_LEAST": 2, "LEAST": 2}.items():
            patch.setattr(products, name, size)
        yield


def choose(monkeypatch, name):
    monkeypatch.setenv(products.CHOICE, name)
    products.chosen.cache_clear()
    assert products.chosen() == name


@st.composite
def matrices(draw, rows, columns):
    """Also a view of a wider one, or of its transpose."""
    wider = draw(st.integers(0, 3))
    if draw(st.booleans()):
        return torch.randn(columns, rows + wider).t()[wider:]
    return torch.randn(rows, columns + wider)[:, wider:]


@given(data=st.data(), sizes=st.tuples(*[st.integers(1, 9)] * 3), biased=st.booleans())
def test_both_give_the_same(data, sizes, biased):
    rows, inner, columns = sizes
    a, b = data.draw(matrices(rows, inner)), data.draw(matrices(inner, columns))
    bias = torch.randn(2 * columns)[::2] if biased else None
    torch.testing.assert_close(products.by_onednn(a, b, bias), products.by_pytorch(a, b, bias))


class Recorded:
    def __init__(self):
        self.shapes = set()

    def default(self, a, weight, *others):
        self.shapes.add((*a.shape, len(weight)))
        return ONEDNN.default(a, weight, *others)


def test_windows_of_any_length_give_onednn_matrices_of_few_shapes(anew, monkeypatch):
    choose(monkeypatch, "onednn")
    monkeypatch.setattr(products, "ONEDNN", Recorded())
    layer = unroll.nn.LSTM(5, 7)
    for steps in range(3, 30):
        layer(torch.randn(3, steps, 5, requires_grad=True))[0].sum().backward()
    assert len(products.ONEDNN.shapes) == 2 * 4  # blocks of two sizes; forward, and the inputs' and weights' gradients


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN", "Mogrifier"])
def test_layers_and_their_gradients_are_the_same(anew, monkeypatch, kind):
    torch.manual_seed(0)
    layer, x = getattr(unroll.nn, kind)(5, 7), torch.randn(3, 4, 5, requires_grad=True)
    results = []
    for name in products.CHOICES:
        choose(monkeypatch, name)
        outputs, _ = layer(x)
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), [x, *layer.parameters()])])
    torch.testing.assert_close(*results)
    with kernels.plain():
        torch.testing.assert_close(layer(x)[0], results[0][0])


def test_the_loss_of_a_large_vocabulary_is_the_same(anew, monkeypatch):
    torch.manual_seed(0)
    x, targets = torch.randn(9, 5, requires_grad=True), torch.randint(7, (9,))
    head = nn.Linear(5, 7)
    results = []
    for name in products.CHOICES:
        choose(monkeypatch, name)
        loss, minimised = LinearCrossEntropy.apply(x, head.weight, head.bias, targets, 0.0, 4)
        results.append([loss, *torch.autograd.grad(minimised, [x, *head.parameters()])])
    torch.testing.assert_close(*results)


def test_what_is_faster_is_measured_once_for_a_machine(anew, monkeypatch):
    seconds = {products.by_pytorch: 2.0, products.by_onednn: 1.0}
    monkeypatch.setattr(products, "seconds", lambda multiply, a, b: seconds[multiply])
    assert products.chosen() == "onednn"
    seconds[products.by_onednn] = 2.0
    products.chosen.cache_clear()
    assert products.chosen() == "onednn"
    (file,) = anew.glob("*.txt")
    file.write_text("half a wor")
    products.chosen.cache_clear()
    assert products.chosen() == "pytorch"
    assert file.read_text() == "pytorch\n"


@pytest.mark.parametrize("instructions", products.RESTRICTIONS)
def test_it_is_measured_anew_with_other_instructions(anew, monkeypatch, instructions):
    products.chosen()
    monkeypatch.setenv(instructions, "AVX2")
    products.chosen.cache_clear()
    products.chosen()
    assert len([*anew.glob("*.txt")]) == 2


def test_it_is_measured_anew_where_products_are_less_exact(anew):
    products.chosen()
    torch.set_float32_matmul_precision("medium")
    try:
        products.chosen.cache_clear()
        products.chosen()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert len([*anew.glob("*.txt")]) == 2


def test_it_is_measured_in_float32_whatever_is_the_default(monkeypatch):
    multiplied = []
    monkeypatch.setattr(products, "by_pytorch", lambda a, b: multiplied.append(torch.mm(a, b)))
    try:
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            products.measured()
    finally:
        torch.set_default_dtype(torch.float32)
    assert {(product.dtype, product.device.type) for product in multiplied} == {(torch.float32, "cpu")}


def test_two_processes_at_once_choose_the_same(anew):
    """Each of them would choose another."""
    program = """
import sys, time
from unroll.kernels import products
def measured():
    time.sleep(0.3)
    return sys.argv[1]
products.measured = measured
print(products.chosen())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.PIPE, env=environment)
        for name in products.CHOICES
    ]
    first, second = (process.communicate(timeout=60)[0] for process in processes)
    assert first == second != b""


@pytest.mark.usefixtures("every_product_is_large")
def test_nothing_is_measured_while_pytorch_traces(anew):
    x, head, targets = torch.randn(9, 5), nn.Linear(5, 7), torch.randint(7, (9,))

    def minimised():
        return LinearCrossEntropy.apply(x, head.weight, head.bias, targets, 0.0, 4)[1]

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        torch.compile(minimised, backend="eager")()
    with FakeTensorMode(allow_non_fake_inputs=True):
        minimised()
    assert not anew.exists()
    minimised()
    assert anew.exists()


def test_without_a_cache_each_process_measures(anew, monkeypatch, tmp_path):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert products.chosen() in products.CHOICES


def test_another_choice_is_refused(anew, monkeypatch):
    monkeypatch.setenv(products.CHOICE, "mkl")
    with pytest.raises(UserError, match="UNROLL_PRODUCTS=mkl: choose from: pytorch, onednn"):
        products.chosen()
    monkeypatch.setattr(products, "ONEDNN", None)
    monkeypatch.setenv(products.CHOICE, "onednn")
    with pytest.raises(UserError, match=r"UNROLL_PRODUCTS=onednn: choose from: pytorch$"):
        products.chosen()


class Layer(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.lstm = unroll.nn.LSTM(1, 7)

    def training_step(self, window, index):
        outputs, state = self.lstm(window.inputs, self.state(window))
        self.carry(state)
        return outputs.square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


@pytest.mark.parametrize("given", [False, True])
def test_a_run_that_is_resumed_repeats_the_choice_unless_another_is_given(anew, monkeypatch, tmp_path, given):
    def fit(**settings):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(accelerator="cpu", callbacks=LastCheckpoint(tmp_path), **quiet, **settings)
        trainer.fit(Layer(), Stream(torch.ones(40, 1), 2, 4), ckpt_path="last", weights_only=True)
        return torch.load(tmp_path / "last.ckpt")["kernels"]["products"]

    choose(monkeypatch, "onednn")
    assert fit(max_epochs=1) == "onednn"
    monkeypatch.delenv(products.CHOICE)
    monkeypatch.setattr(products, "measured", lambda: "pytorch")
    if given:
        choose(monkeypatch, "pytorch")
        with pytest.warns(UserWarning, match="other last digits: large products were computed by onednn"):
            assert fit(max_epochs=2) == "pytorch"
    else:
        assert fit(max_epochs=2) == "onednn"
    assert products.chosen() == "pytorch"


def test_a_run_that_is_resumed_with_others_hears_of_other_digits(anew, monkeypatch):
    assert kernels.record()["products"] is None
    choose(monkeypatch, "onednn")
    recorded = kernels.record()
    assert recorded["products"] == "onednn"
    assert kernels.difference(recorded) is None
    choose(monkeypatch, "pytorch")
    assert "computed by onednn, here by pytorch (UNROLL_PRODUCTS=onednn)" in kernels.difference(recorded)
    assert kernels.difference(recorded | {"products": None}) is None
