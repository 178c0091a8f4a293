"""The state of a recurrent model in anybody's LightningModule."""

from typing import NamedTuple

import numpy
import pytest
import pytorch_lightning as pl
import torch
from helpers.processes import train
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import unroll.nn
from unroll import CarriesState, LastCheckpoint, Stream, UserError, Window, kernels, load_state, save_state
from unroll.state import add_rows, detach, forget, keep_rows, map_tensors, pack, start_rows, tensors, unpack


class Pair(NamedTuple):
    hidden: Tensor
    cell: Tensor


def states():
    """The same numbers as every kind of state, `[layers, rows, hidden]` each."""
    h, c = torch.arange(24.0).view(2, 4, 3), -torch.arange(24.0).view(2, 4, 3)
    return [h, (h, c), [h, c], {"h": h, "c": c}, Pair(h, c), (h, {"c": [c]})]


@pytest.mark.parametrize("state", states(), ids=lambda state: type(state).__name__)
class TestEveryKindOfState:
    def test_rows_that_remain_keep_theirs(self, state):
        for kept, whole in zip(tensors(keep_rows(state, 3)), tensors(state), strict=True):
            assert torch.equal(kept, whole[:, :3])
        assert type(keep_rows(state, 3)) is type(state)

    def test_rows_that_start_get_zeros_and_no_others(self, state):
        starts = torch.tensor([False, True, False, True])
        for started, whole in zip(tensors(start_rows(state, starts)), tensors(state), strict=True):
            assert not started[:, starts].any()
            assert torch.equal(started[:, ~starts], whole[:, ~starts])

    def test_rows_that_are_added_have_zeros(self, state):
        for wider, whole in zip(tensors(add_rows(state, 6)), tensors(state), strict=True):
            assert torch.equal(wider[:, :4], whole)
            assert wider.shape == (2, 6, 3)
            assert not wider[:, 4:].any()

    def test_detached_it_has_no_graph(self, state):
        attached = [part.requires_grad_() * 1 for part in tensors(state)]
        assert all(part.requires_grad for part in attached)
        assert not any(part.requires_grad for part in tensors(detach(state)))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("kind", ["checkpoint", "plain file"])
    def test_a_file_that_runs_no_code_holds_it(self, state, tmp_path, kind, dtype):
        state = map_tensors(state, lambda part: part.to(dtype))
        if kind == "checkpoint":
            torch.save(pack(state), tmp_path / "state")
            loaded = unpack(torch.load(tmp_path / "state", weights_only=True))
        else:
            save_state(state, tmp_path / "state")
            loaded = load_state(tmp_path / "state")
        assert type(loaded).__name__ == type(state).__name__
        for ours, theirs in zip(tensors(loaded), tensors(state), strict=True):
            assert torch.equal(ours, theirs)
        if isinstance(state, Pair):
            assert torch.equal(loaded.cell, state.cell)


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    order=st.permutations(range(4)),
    axis=st.integers(0, 1),
    rows=st.integers(1, 5),
)
def test_what_leaves_here_is_contiguous_as_cudnn_asks(tmp_path_factory, shape, order, axis, rows):
    """cuDNN's recurrent layers end in "hx is not contiguous"; a CPU takes any state."""
    order = [place for place in order if place < len(shape)]
    part = torch.randn(shape).permute(order)
    state = {"h": part, "c": [(part.flip(0),)]}
    count = part.size(axis)
    path = tmp_path_factory.getbasetemp() / "state.npz"
    save_state(state, path)
    for found in (
        detach(state),
        keep_rows(state, min(rows, count), axis),
        add_rows(state, count + rows, axis),
        start_rows(state, torch.arange(count) % 2 == 0, axis),
        forget(state, 0.5, axis),
        unpack(pack(state)),
        load_state(path),
    ):
        assert all(tensor.is_contiguous() for tensor in tensors(found))


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_the_state_that_a_module_is_given_is_contiguous_where_windows_get_narrower(cell):
    class Carrier(CarriesState, nn.Module):
        pass

    carrier, rnn, widths = Carrier(), cell(1, 5, 2, batch_first=True), set()
    for window in Stream(torch.randn(1007, 1), batch_size=8, bptt=10):
        state = carrier.state(window)
        assert all(part.is_contiguous() for part in tensors(state))
        widths.add(len(window.inputs))
        carrier.carry(rnn(window.inputs, state)[1])
    assert widths == {7, 8}


def test_another_row_axis():
    state = torch.arange(12.0).view(4, 3)
    assert torch.equal(keep_rows(state, 2, axis=0), state[:2])
    assert torch.equal(start_rows(state, torch.tensor([True, False, True, False]), axis=0)[1::2], state[1::2])


class Forecaster(CarriesState, pl.LightningModule):
    """As a user would write one."""

    def __init__(self, cell=nn.GRU):
        super().__init__()
        self.model = cell(1, 8, batch_first=True)
        self.head = nn.Linear(8, 1)
        self.read = []

    def training_step(self, window, index):
        state = self.state(window)
        self.read.append(("train", window.starts, state))
        outputs, state = self.model(window.inputs, state)
        self.carry(state)
        return nn.functional.mse_loss(self.head(outputs), window.targets)

    def validation_step(self, window, index):
        state = self.state(window)
        self.read.append(("valid", window.starts, state))
        _, state = self.model(window.inputs, state)
        self.carry(state)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def waves(length=203):
    return torch.linspace(0, 20, length).sin().unsqueeze(1)


def fit(module, stream=None, valid=None, **settings):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(accelerator="cpu", **quiet | {"max_epochs": 2, "num_sanity_val_steps": 0} | settings)
    trainer.fit(module, stream or Stream(waves(), 4, 10), valid)
    return trainer


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_the_state_is_that_of_reading_each_row_from_its_start(cell):
    torch.manual_seed(0)
    module, stream = Forecaster(cell), Stream(waves(), 4, 10)
    for window in stream:
        _, state = module.model(window.inputs, module.state(window))
        module.carry(state)
    # The last row has ended before; the others have been read to their ends.
    rows = stream.layout.sequence[: 3 * stream.layout.row_length].view(3, -1, 1)
    _, whole = module.model(rows)
    for carried, expected in zip(tensors(module.states["train"]), tensors(whole), strict=True):
        torch.testing.assert_close(carried, expected, atol=1e-6, rtol=0)


def test_a_pass_starts_from_zeros_and_a_validation_in_its_middle_leaves_training_alone():
    torch.manual_seed(0)
    once, often = Forecaster(), Forecaster()
    often.load_state_dict(once.state_dict())
    fit(once)
    fit(often, valid=Stream(waves(90), 4, 10), val_check_interval=2, num_sanity_val_steps=2)
    states = [[state for split, _, state in module.read if split == "train"] for module in (once, often)]
    assert len(states[0]) == len(states[1]) == 2 * len(Stream(waves(), 4, 10))
    for ours, theirs in zip(*states, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
    for _, starts, state in often.read:
        assert (state is None) == bool(starts.all())


def window(rows, starts=(), steps=5):
    starting = torch.zeros(rows, dtype=torch.bool)
    starting[list(starts)] = True
    return Window(torch.randn(rows, steps, 1), torch.randn(rows, steps, 1), starting)


class TestRows:
    @pytest.fixture
    def module(self):
        module = Forecaster()
        first = window(4, range(4))
        assert module.state(first) is None
        _, state = module.model(first.inputs, None)
        module.carry(state)
        return module

    def test_each_row_starts_for_itself(self, module):
        state = module.state(window(4, [1, 2]))
        assert not state[:, 1:3].any()
        assert torch.equal(state[:, [0, 3]], module.states["train"][:, [0, 3]])

    def test_rows_that_come_later_must_start(self, module):
        state = module.state(window(6, [4, 5]))
        assert state.shape == (1, 6, 8)
        assert not state[:, 4:].any()
        assert torch.equal(state[:, :4], module.states["train"])
        with pytest.raises(UserError, match=r"6 rows and the one before had 4; the others must start anew"):
            module.state(window(6, [4]))

    def test_a_state_with_its_rows_elsewhere_is_refused_in_one_line(self, module):
        module.state(window(4))
        with pytest.raises(UserError, match=r"of shape \[4, 8\] for a window of 4 rows; axis 1 should have size 4"):
            module.carry(torch.zeros(4, 8))  # of an nn.GRUCell

    @pytest.mark.parametrize("other", ["text", len, object(), numpy.ones((1, 4, 8)), {1}, nn.Linear(1, 1)], ids=type)
    def test_what_is_no_state_is_refused_in_one_line(self, module, other):
        module.state(window(4))
        for state in (other, (torch.ones(1, 4, 8), other)):
            with pytest.raises(UserError, match=f"^a state is made of .*; this one has a {type(other).__name__}$"):
                module.carry(state)

    def test_an_optimizer_that_reads_a_window_again_and_again_is_refused(self, module):
        module.configure_optimizers = lambda: torch.optim.LBFGS(module.parameters())
        with pytest.raises(UserError, match="LBFGS evaluates a window several times"):
            fit(module)

    def test_unless_the_axis_is_named(self, module):
        module.state_axis = 0
        module.states["train"] = None
        module.state(window(4, range(4)))
        module.carry(torch.ones(4, 8))
        assert torch.equal(module.state(window(4, [0]))[:, 0], torch.tensor([0.0, 1, 1, 1]))

    def test_a_batch_that_is_no_window_is_refused(self, module):
        with pytest.raises(
            UserError, match=r"windows with `starts`, as unroll.Stream yields them; this batch is a tuple: give "
        ):
            module.state((torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)))


class Saves:
    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = 1


class SavesToo(Forecaster):
    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint):
        CarriesState.on_load_checkpoint(self, checkpoint)


@pytest.mark.parametrize(
    ("bases", "methods", "words"),
    [
        ((pl.LightningModule, CarriesState), {}, "class Own: name CarriesState before LightningModule"),
        ((Saves, SavesToo), {}, r"Saves.on_save_checkpoint does not call super\(\).on_save_checkpoint"),
        ((Forecaster,), {"configure_callbacks": lambda self: []}, r"does not call super\(\).configure_callbacks"),
        ((Forecaster,), {"on_load_checkpoint": lambda self, checkpoint: None}, "without which no fit resumes exactly"),
    ],
)
def test_a_class_that_leaves_out_its_hooks_is_refused_in_one_line(bases, methods, words):
    with pytest.raises(UserError, match=words) as caught:
        type("Own", bases, methods)
    assert "\n" not in str(caught.value)


class Layers(nn.Module):
    """Those of `unroll.nn` whose steps are compiled, one on the other."""

    def __init__(self):
        super().__init__()
        kinds = unroll.nn.GRU(1, 8, 2), unroll.nn.LSTM(8, 8), unroll.nn.RNN(8, 8), unroll.nn.Mogrifier(8, 8)
        self.layers = nn.ModuleList(kinds)

    def forward(self, x, state=None):
        after = []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, last = layer(x, before)
            after.append(last)
        return x, tuple(after)


class Compiled(Forecaster):
    def __init__(self):
        super().__init__()
        self.model = Layers()


class Plain(Compiled):
    def training_step(self, window, index):
        with kernels.plain():
            return super().training_step(window, index)


class Elsewhere(Forecaster):
    """Its state is a dict of tensors with the rows on axis 0."""

    state_axis = 0

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(1, 8)

    def training_step(self, window, index):
        state = self.state(window)
        hidden = self.cell.weight_hh.new_zeros(len(window.starts), 8) if state is None else state["hidden"]
        outputs = []
        for inputs in window.inputs.unbind(1):
            hidden = self.cell(inputs, hidden)
            outputs.append(hidden)
        self.carry({"hidden": hidden})
        return nn.functional.mse_loss(self.head(torch.stack(outputs, 1)), window.targets)

    def validation_step(self, window, index):
        """Reads nothing."""


class Manual(Forecaster):
    """Optimizes by itself."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, window, index):
        loss, optimizer = super().training_step(window, index), self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class Scored(Forecaster):
    """Counts the steps that count."""

    def training_step(self, window, index):
        outputs, state = self.model(window.inputs, self.state(window))
        self.carry(state)
        errors = (self.head(outputs) - window.targets).square()
        return errors.mean() if window.mask is None else errors[window.mask].sum() / window.mask.sum().clamp(min=1)


def documents(**settings):
    return Stream(list(waves(400).split([90, 7, 33, 120, 64, 2, 45, 39])), 3, 10, shuffle=True, **settings)


class Stop(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise InterruptedError


@pytest.mark.parametrize("stop", [4, 11])
@pytest.mark.parametrize(
    ("make", "batches", "settings"),
    [
        (Compiled, Stream, {}),
        (Compiled, Stream, {"precision": "bf16-mixed"}),
        (Plain, Stream, {}),
        (Elsewhere, Stream, {}),
        (Manual, Stream, {}),
        (Scored, lambda: documents(warm_up=12), {"accumulate_grad_batches": 2, "max_epochs": 5}),
    ],
    ids=["compiled steps", "compiled steps, 16-bit", "kernels off", "axis 0", "manual", "warm-up"],
)
@pytest.mark.slow
def test_a_fit_stopped_anywhere_and_resumed_ends_the_same(tmp_path, make, batches, settings, stop):
    def fitted(*callbacks, ckpt_path=None):
        torch.manual_seed(0)
        module = make()
        stream = Stream(waves(), 4, 10) if batches is Stream else batches()
        valid = Stream(waves(90), 4, 10)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        last = LastCheckpoint(str(tmp_path), every_n_steps=3)
        trainer = pl.Trainer(accelerator="cpu", **quiet | {"max_epochs": 4} | settings, callbacks=[last, *callbacks])
        trainer.fit(module, stream, valid, ckpt_path=ckpt_path, weights_only=True)
        return module.state_dict(), module.states["train"]

    whole, state = fitted()
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(InterruptedError):
        fitted(Stop(stop))
    resumed, state_then = fitted(ckpt_path=tmp_path / "last.ckpt")
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    for ours, theirs in zip(tensors(state), tensors(state_then), strict=True):
        assert torch.equal(ours, theirs)


def test_documents_in_a_fit_start_from_zeros_row_by_row():
    torch.manual_seed(0)
    module, read = Forecaster(), {}
    stream = documents()

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, window, batch_idx):
            read[batch_idx] = window

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)  # so that states matter
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    fit(module, stream, callbacks=[Watch()], max_epochs=1)
    assert len(module.read) == len(read) == len(stream)
    for number, (_, starts, state) in enumerate(module.read):
        assert torch.equal(starts, read[number].starts)
        if state is not None:
            assert not state[:, starts].any()
            assert state[:, ~starts].any(-1).all()


class Service(CarriesState, pl.LightningModule):
    """Has a `forward`, to be read on with."""

    def __init__(self):
        super().__init__()
        self.rnn, self.drop, self.head = nn.LSTM(1, 8, batch_first=True), nn.Dropout(0.5), nn.Linear(8, 1)

    def forward(self, inputs, state=None):
        outputs, state = self.rnn(inputs, state)
        return self.head(self.drop(outputs)), state


class TestReadingOn:
    def test_parts_give_what_the_whole_gives(self):
        module, series = Service(), waves(60)[None]
        whole, _ = module.eval()(series)
        module.train()
        parts = [module.stream(part) for part in series.split([1, 20, 5, 34], dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert module.training
        assert not any(part.requires_grad for part in parts)

    @pytest.mark.parametrize("other", [7, [1.0], None])
    def test_what_is_neither_a_window_nor_inputs_is_refused_in_one_line(self, other):
        with pytest.raises(UserError, match=f"this batch is a {type(other).__name__}: give unroll.Stream"):
            Service().stream(other)

    def test_it_can_begin_anew(self):
        module, series = Service(), waves(60)[None]
        first = module.stream(series[:, :20])
        assert not torch.equal(module.stream(series[:, :20]), first)
        assert torch.equal(module.stream(series[:, :20], anew=True), first)
        assert not torch.equal(module.stream(window(1, [])), first[:, :5])
        following = window(3, [])
        assert torch.allclose(module.stream(following, anew=True), module.eval()(following.inputs)[0])

    def test_rows_start_for_themselves_and_training_is_left_alone(self):
        module = Service().eval()
        module.stream(torch.randn(3, 5, 1))
        following = window(3, [1])
        assert torch.allclose(module.stream(following)[1], module(following.inputs[1:2])[0][0])
        assert set(module.states) == {"stream"}

    def test_a_service_goes_on_where_it_stopped(self, tmp_path):
        module, series = Service().eval(), waves(60)[None]
        first = module.stream(series[:, :30])
        module.save_state(tmp_path / "state.npz")
        rest = module.stream(series[:, 30:])
        again = Service().eval()
        again.load_state_dict(module.state_dict())
        again.load_state(tmp_path / "state.npz")
        assert torch.equal(again.stream(series[:, 30:]), rest)
        assert first.shape == rest.shape
        with numpy.load(tmp_path / "state.npz", allow_pickle=False) as arrays:  # plain arrays, for any program
            assert arrays["0"].shape == (1, 1, 8)

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 and no more"])
    def test_another_file_is_refused_in_one_line(self, tmp_path, content):
        (tmp_path / "state.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"state\.npz: not a state saved by unroll"):
            load_state(tmp_path / "state.npz")
        with pytest.raises(UserError, match="there is no such file"):
            load_state(tmp_path / "none.npz")

    def test_a_damaged_file_is_refused(self, tmp_path):
        save_state((torch.ones(2, 3, 4), torch.zeros(2, 3, 4)), tmp_path / "state.npz")
        content = bytearray((tmp_path / "state.npz").read_bytes())
        content[200] ^= 1
        (tmp_path / "state.npz").write_bytes(content)
        with pytest.raises(UserError, match="not a state saved by unroll"):
            load_state(tmp_path / "state.npz")


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_a_fit_that_is_resumed_in_the_middle_of_an_epoch_ends_the_same(tmp_path, cell):
    class SaveAt(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 8:
                trainer.save_checkpoint(tmp_path / "some.ckpt")

    torch.manual_seed(0)
    whole, resumed = Forecaster(cell), Forecaster(cell)
    resumed.load_state_dict(whole.state_dict())
    fit(whole, callbacks=[SaveAt()])
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(resumed, Stream(waves(), 4, 10), ckpt_path=tmp_path / "some.ckpt", weights_only=True)
    assert resumed.read[0][2] is not None
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


SCRIPT = """
import os, signal, sys
from pathlib import Path
import pytorch_lightning as pl, torch
from torch import nn
import unroll.nn
from unroll import CarriesState, LastCheckpoint, Stream

class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.drop, self.head = nn.LSTM(1, 8, batch_first=True), nn.Dropout(0.3), nn.Linear(8, 1)

    def training_step(self, window, index):
        if self.global_step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        return nn.functional.mse_loss(self.head(self.drop(outputs)), window.targets)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

torch.manual_seed(0)
module, last = Forecaster(), Path("kept", "last.ckpt")
stream = Stream(torch.arange(900.0).mul(0.1).sin().unsqueeze(1), 4, 10, jitter=True)
trainer = pl.Trainer(accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False,
                     enable_model_summary=False, callbacks=[LastCheckpoint("kept", every_n_steps=5)])
trainer.fit(module, stream, ckpt_path=last if last.exists() else None, weights_only=True)
torch.save(module.state_dict(), "weights.pt")
"""


@pytest.mark.slow  # some combinations of tests/test_resume_matrix.py are killed, too
def test_a_run_of_anybodys_module_that_is_killed_ends_the_same(tmp_path):
    def run(name, kill_at):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "script.py").write_text(SCRIPT)
        return train(kill_at, folder=tmp_path / name, module="script.py")

    assert run("undisturbed", -1).returncode == 0
    for step in (3, 31):  # before the first checkpoint, and in the second epoch
        assert run("killed", step).returncode == -9
    finished = run("killed", -1)
    assert finished.returncode == 0, finished.stderr
    ours, theirs = (torch.load(tmp_path / name / "weights.pt") for name in ("killed", "undisturbed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


TWO = """
import sys
import pytorch_lightning as pl, torch
from torch import nn
import unroll.nn
from unroll import CarriesState, Stream

class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 8, batch_first=True).double(), nn.Linear(8, 1).double()

    def training_step(self, window, index):
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        errors = (self.head(outputs) - window.targets).square().flatten(1).sum(1)
        return errors.mean() if window.mask is None else (errors * window.mask.any(1)).mean()

    def train_dataloader(self):
        series = torch.arange(401.0, dtype=torch.float64).mul(0.1).sin().unsqueeze(1)
        stream = Stream(series[:400].split(100), 4, 10) if sys.argv[2] == "many" else Stream(series, 4, 10, tail="drop")
        return stream.shard(self.global_rank, self.trainer.world_size)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)

torch.manual_seed(0)
module, processes = Forecaster(), int(sys.argv[1])
trainer = pl.Trainer(accelerator="cpu", devices=processes, strategy="ddp_fork" if processes > 1 else "auto",
                     max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False)
trainer.fit(module)
torch.save(module.state_dict(), f"{processes}.pt")
"""


@pytest.mark.parametrize("kind", ["one", "many"])
@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path, kind):
    (tmp_path / "script.py").write_text(TWO)
    for processes in (1, 2):
        finished = train(processes, kind, folder=tmp_path, module="script.py")
        assert finished.returncode == 0, finished.stderr
    one, two = (torch.load(tmp_path / f"{processes}.pt") for processes in (1, 2))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-12, rtol=0)


@pytest.mark.slow  # tests/test_architecture.py reads it from the code
def test_import_unroll_imports_neither_hydra_nor_the_rest_of_the_house(command):
    script = "import sys, unroll; print(*{'hydra', 'omegaconf', 'lm', 'vision', 'torch'} & set(sys.modules)); "
    script += "unroll.Stream, unroll.CarriesState, unroll.LastCheckpoint, unroll.WindowLearner; "
    script += "print(*{'hydra', 'lm', 'vision', 'unroll.cli', 'unroll.training.callbacks.progress'} & set(sys.modules))"
    finished = command("-c", script)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []
