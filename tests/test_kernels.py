"""The compiled steps equal the plain forms, with their gradients; without a compiler the plain forms serve."""

import os
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unroll.nn
from unroll import kernels
from unroll.kernels import build, calls, steps

ROOT = Path(__file__).parent.parent
KINDS = {
    "GRU": lambda size, hidden: unroll.nn.GRU(size, hidden, 2),
    "LSTM": lambda size, hidden: unroll.nn.LSTM(size, hidden, 2),
    "RNN": lambda size, hidden: unroll.nn.RNN(size, hidden, 2),
    "Mogrifier": lambda size, hidden: unroll.nn.Mogrifier(size, hidden, rounds=3),
    "Mogrifier of low rank": lambda size, hidden: unroll.nn.Mogrifier(size, hidden, rounds=2, rank=2),
    "Mogrifier without rounds": lambda size, hidden: unroll.nn.Mogrifier(size, hidden, rounds=0),
}
compiler = pytest.mark.skipif(build.library(torch.float32) is None, reason="there is no C compiler")
every_kind = pytest.mark.parametrize("kind", KINDS)


def case(kind, size, hidden, rows, time, dtype=torch.float64):
    """A layer, inputs and a state."""
    torch.manual_seed(0)
    layer = KINDS[kind](size, hidden).to(dtype)
    parts = 1 if kind in ("GRU", "RNN") else 2
    shape = (1 if "Mogrifier" in kind else 2), rows, hidden
    state = tuple(torch.randn(shape, dtype=dtype) for _ in range(parts))
    return layer, torch.randn(rows, time, size, dtype=dtype), state if parts > 1 else state[0]


def tensors(state):
    return state if isinstance(state, tuple) else (state,)


def results(layer, x, state=None, resets=None):
    """What a layer gives, and the gradients of everything that goes in."""
    x = x.clone().requires_grad_()
    begin = [] if state is None else [part.clone().requires_grad_() for part in tensors(state)]
    y, after = layer(x, None if state is None else tuple(begin) if len(begin) > 1 else begin[0], resets)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    loss = (y * weights).sum() + sum(part.square().sum() for part in tensors(after))
    inputs = [x, *begin, *layer.parameters()]
    return [y.detach(), *(part.detach() for part in tensors(after)), *torch.autograd.grad(loss, inputs)]


def assert_equals_the_plain_form(layer, x, state, **tolerance):
    assert steps.can_run(x)
    found = results(layer, x, state)
    with torch.no_grad():
        read, _ = layer(x, state)
    if x.size(1) > 1:
        assert torch.equal(read, found[0])
    torch.testing.assert_close(read, found[0], **tolerance)
    with kernels.plain():
        expected = results(layer, x, state)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@compiler
@every_kind
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 20),
    time=st.integers(1, 5),
    size=st.integers(1, 20),
    hidden=st.integers(1, 70),
    with_state=st.booleans(),
    transposed=st.booleans(),
)
def test_float64_is_exact(kind, rows, time, size, hidden, with_state, transposed):
    layer, x, state = case(kind, size, hidden, rows, time)
    if transposed:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert_equals_the_plain_form(layer, x, state if with_state else None, rtol=1e-12, atol=1e-12)


@compiler
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 12),
    time=st.integers(2, 6),
    hidden=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_resets_are_those_of_parts_read_alone(kind, rows, time, hidden, share, seed):
    layer, x, state = case(kind, 3, hidden, rows, time)
    resets = torch.rand(rows, time, generator=torch.Generator().manual_seed(seed)) < share
    found = results(layer, x, state, resets)
    with torch.no_grad():
        assert torch.equal(layer(x, state, resets)[0], found[0])
    with kernels.plain():
        expected = results(layer, x, state, resets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@compiler
def test_resets_in_mixed_precision_without_bfloat16(monkeypatch):
    monkeypatch.setattr("unroll.nn.lstm.cpu_has_bfloat16", lambda: False)
    layer, x, state = case("LSTM", 3, 5, rows=2, time=4, dtype=torch.float32)
    resets = torch.tensor([[False, True, False, False], [False, False, False, True]])
    expected, _ = layer(x, state, resets)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x, state, resets)[0], expected)


@compiler
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_a_reset_forgets_a_state_that_is_no_number(kind):
    layer, x, state = case(kind, 3, 5, rows=2, time=4)
    resets = torch.zeros(2, 4, dtype=torch.bool)
    resets[0, 0] = True
    for part in tensors(state):
        part[:, 0] = torch.nan
    y, *gradients = results(layer, x, state, resets)
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@compiler
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 6), size=st.integers(1, 40), hidden=st.integers(1, 70))
def test_step_by_step_inference_is_exact(kind, rows, size, hidden):
    layer, x, state = case(kind, size, hidden, rows, time=3)
    with torch.no_grad():
        with kernels.plain():
            expected, last = layer(x, state)
        read = []
        for inputs in x.unbind(1):
            y, state = layer(inputs.unsqueeze(1), state)
            read.append(y)
    found = torch.cat(read, 1), *tensors(state)
    torch.testing.assert_close(found, (expected, *tensors(last)), rtol=1e-12, atol=1e-12)


@compiler
@every_kind
def test_float32_is_as_accurate_as_pytorchs(kind):
    layer, x, state = case(kind, 32, 48, 8, 50)
    exact = results(layer, x, state)
    layer, x = layer.float(), x.float()
    state = tuple(part.float() for part in state) if isinstance(state, tuple) else state.float()
    found = results(layer, x, state)
    with kernels.plain():
        plain = results(layer, x, state)
    for ours, theirs, wanted in zip(found, plain, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - wanted).norm() <= 2 * (theirs - wanted).norm() + 1e-7 * wanted.norm()


@compiler
@every_kind
def test_gradients_are_those_of_small_differences(kind):
    layer, x, state = case(kind, 3, 5, 2, 3)
    parts = [part.requires_grad_() for part in tensors(state)]

    def read(x, *parts):
        y, after = layer(x, parts if len(parts) > 1 else parts[0])
        return (y, *tensors(after))

    assert torch.autograd.gradcheck(read, (x.requires_grad_(), *parts))


@compiler
def test_extreme_numbers_and_those_that_are_none():
    for dtype in (torch.float32, torch.float64):
        layer = unroll.nn.RNN(1, 1).to(dtype)
        for weight in layer.parameters():
            nn.init.constant_(weight, 1)
        nn.init.zeros_(layer.weight_hh_l0)
        x = torch.tensor([-1e30, -200, -20, -1e-5, 0, 1e-5, 20, 200, 1e30, float("nan"), float("inf")], dtype=dtype)
        y, _ = layer(x.view(-1, 1, 1) - 2)
        torch.testing.assert_close(y.flatten(), torch.tanh(x), rtol=1e-6, atol=1e-6, equal_nan=True)
        gates = unroll.nn.LSTM(1, 1).to(dtype)
        y, _ = gates(x.view(-1, 1, 1))
        with kernels.plain():
            expected, _ = gates(x.view(-1, 1, 1))
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@compiler
@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_have_the_same_bits_with_one_thread_and_with_two(kind, dtype, monkeypatch):
    monkeypatch.setattr(calls, "WORTH", 1)  # so that each of two threads has work
    layer, x, state = case(kind, 8, 70, 13, 6, dtype)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            for worth_waiting in (1, calls.WORTH_WAITING):
                for openmp in (calls.OPENMP, None):
                    with monkeypatch.context() as patched:
                        patched.setattr(calls, "OPENMP", openmp)
                        patched.setattr(calls, "WORTH_WAITING", worth_waiting)
                        torch.set_num_threads(count)
                        found.append(results(layer, x, state))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@compiler
@every_kind
def test_a_row_alone_has_the_bits_that_it_has_among_others(kind):
    layer, x, state = case(kind, 16, 32, 11, 6, torch.float32)
    # inputs of 0 and 1 make the products with them, which PyTorch computes, exact for any number of rows
    x = nn.functional.one_hot(torch.arange(66) % 16, 16).view(11, 6, 16).float()
    if "Mogrifier" not in kind:
        layer = type(layer)(16, 32)
        state = tuple(part[:1] for part in state) if isinstance(state, tuple) else state[:1]
    together, _ = layer(x, state)
    for row in range(11):
        own = tuple(part[:, row : row + 1] for part in tensors(state))
        alone, _ = layer(x[row : row + 1], own if len(own) > 1 else own[0])
        assert torch.equal(alone[0], together[row])


@compiler
def test_relu():
    torch.manual_seed(0)
    theirs = nn.RNN(4, 6, nonlinearity="relu", dtype=torch.float64)
    x, h0 = (torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64).requires_grad_())
    expected, _ = theirs(x, h0.unsqueeze(0))
    found, last = steps.rnn(x, h0, *theirs.parameters(), relu=True)
    given = [h0, *theirs.parameters()]
    torch.testing.assert_close((found, last), (expected, expected[-1]), rtol=1e-12, atol=1e-12)
    for ours, plain in zip(*(torch.autograd.grad(y.sin().sum(), given) for y in (found, expected)), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@compiler
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_dropout_between_layers_is_pytorchs(kind):
    layer = getattr(unroll.nn, kind)(4, 6, 2, dropout=0.5)
    x = torch.randn(3, 5, 4)
    torch.manual_seed(1)
    found, _ = layer(x)
    with kernels.plain():
        torch.manual_seed(1)
        expected, _ = layer(x)
    torch.testing.assert_close(found, expected)


@compiler
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN", "Mogrifier"])
def test_in_mixed_precision_it_is_near_to_float32(kind):
    layer, x, state = case(kind, 32, 48, 8, 30, torch.float32)
    exact = results(layer, x, state)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(layer, x, state)
    for wanted, near in zip(exact, found, strict=True):
        assert (near - wanted).norm() < 0.05 * wanted.norm()
    assert kind == "LSTM" or found[0].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(layer(x[:, :1], state)[0].float(), exact[0][:, :1], rtol=0.05, atol=0.05)


@compiler
def test_a_second_derivative_is_refused_in_a_line():
    x = torch.randn(2, 3, 4, requires_grad=True)
    y, _ = unroll.nn.GRU(4, 6)(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^trying to differentiate twice .*once_differentiable$"):
        gradient.sum().backward()


@compiler
@pytest.mark.parametrize(("shape", "dtype"), [((1, 2, 6), torch.float32), ((2, 3, 6), torch.float32)])
def test_a_state_of_another_shape_is_refused(shape, dtype):
    with pytest.raises(RuntimeError, match="hidden size"):
        unroll.nn.GRU(4, 6)(torch.randn(3, 5, 4), torch.zeros(shape, dtype=dtype))


def test_one_switch_turns_the_kernels_off(monkeypatch):
    monkeypatch.setattr(steps, "run", pytest.fail)
    with kernels.plain():
        assert not kernels.in_use()
        unroll.nn.GRU(4, 6)(torch.randn(3, 5, 4))
    assert kernels.in_use()


def test_the_first_weights_are_those_of_pytorch():
    torch.manual_seed(0)
    theirs = nn.GRU(4, 6, 2).state_dict()
    torch.manual_seed(0)
    ours = unroll.nn.GRU(4, 6, 2).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """As in a process that begins with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library.cache_clear()
    yield tmp_path / "unroll/kernels"
    monkeypatch.undo()
    build.library.cache_clear()


def reads():
    """Whether the steps that every kind of layer takes, forward and backward, are compiled ones."""
    x = torch.ones(2, 3, 4, requires_grad=True)
    for kind in KINDS:
        KINDS[kind](4, 6)(x)[0].sum().backward()
    return steps.can_run(x)


@pytest.mark.parametrize(
    "environment",
    [{"CC": "/nonexistent"}, {"PATH": "", "CC": ""}, {"CC": "false"}, {"CC": "true"}, {"CC": "'"}],
    ids=["no such compiler", "no compiler", "it fails", "it writes nothing", "not a command"],
)
def test_without_a_compiler_everything_works(anew, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not reads()
    assert kernels.record()["steps"] == ""


@compiler
@pytest.mark.parametrize("home", ["/proc/no", "a file"], ids=["can't be written to", "can't be made"])
@pytest.mark.few(1)
def test_without_a_cache_a_process_compiles_for_itself(anew, monkeypatch, home, tmp_path):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    assert reads()


COMPILE = "import torch; from unroll.kernels import build; print(build.library(torch.float32) is not None)"


@compiler
@pytest.mark.slow
def test_two_processes_compile_at_once_and_a_broken_file_is_compiled_again(anew):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen([sys.executable, "-c", COMPILE], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in started] == ["True\n"] * 2
    (file,) = anew.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    assert build.library(torch.float32) is not None
    assert file.read_bytes() == whole


@compiler
@pytest.mark.skipif(sys.platform != "linux", reason="another linker")
def test_a_library_names_what_it_needs(anew, monkeypatch):
    monkeypatch.setenv("CC", f"{shlex.join(build.compiler())} -Wl,-z,defs")
    assert build.library(torch.float32) is not None


@compiler
def test_a_run_that_is_resumed_elsewhere_hears_of_other_digits(anew, monkeypatch):
    assert kernels.record()["steps"] is None
    reads()
    compiled = kernels.record()
    assert kernels.difference(compiled) is None
    assert "another compiler" in kernels.difference(compiled | {"steps": "0"})
    assert "(CC=false" in kernels.difference(compiled | {"steps": ""})
    assert kernels.difference(compiled | {"steps": None}) is None
    with kernels.plain():
        assert "(UNROLL_KERNELS=on)" in kernels.difference(compiled)
        assert kernels.difference(kernels.record()) is None
    monkeypatch.setenv("CC", "false")
    build.library.cache_clear()
    assert "no C compiler that works" in kernels.difference(compiled)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "Mogrifier"])
@pytest.mark.parametrize("on", [True, False])
def test_without_bfloat16_instructions_mixed_precision_trains(kind, on, monkeypatch):
    """oneDNN has no LSTM in bfloat16 there, and raises."""
    monkeypatch.setattr("unroll.nn.lstm.cpu_has_bfloat16", lambda: False)
    layer, x, state = case(kind, 8, 12, 3, 5, torch.float32)
    exact = results(layer, x, state)
    kernels.use(on)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = results(layer, x.bfloat16(), None if kind != "LSTM" else tuple(part.bfloat16() for part in state))
    finally:
        kernels.use(True)
    assert all(part.isfinite().all() for part in found)
    assert kind != "LSTM" or (found[0] - exact[0]).norm() < 0.05 * exact[0].norm()


@compiler
def test_other_dtypes_and_transforms():
    layer = unroll.nn.GRU(4, 6)
    with pytest.raises(TypeError, match="differ in dtype"):
        layer(torch.randn(2, 3, 4), torch.zeros(1, 2, 6, dtype=torch.float64))
    with pytest.raises(TypeError, match="on meta"):
        layer(torch.randn(2, 3, 4), torch.zeros(1, 2, 6, device="meta"))
    x = torch.randn(2, 3, 4)
    found = torch.func.grad(lambda x: layer(x)[0].sum())(x)
    (expected,) = torch.autograd.grad(layer(x.requires_grad_())[0].sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("inputs", "h", "c"),
    [
        ((4, 3, 6), (4, 7), (4, 7)),
        ((4, 3, 5), (1, 7), (1, 7)),
        ((4, 3, 5), (4, 7), (1, 7)),
        ((4, 3, 5), (4, 6), (4, 7)),
    ],
)
def test_a_mogrifier_takes_and_refuses_the_sizes_that_its_cell_does(inputs, h, c):
    layer, x, state = unroll.nn.Mogrifier(5, 7), torch.randn(inputs), (torch.randn(1, *h), torch.randn(1, *c))
    found = []
    for on in (True, False):
        with nullcontext() if on else kernels.plain():
            try:
                found.append(layer(x, state)[0])
            except RuntimeError as error:
                found.append(str(error))
    if isinstance(found[1], str):
        assert found[0] == found[1]
    else:
        torch.testing.assert_close(*found)
