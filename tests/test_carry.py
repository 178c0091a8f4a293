"""The state of a recurrent model in anybody's LightningModule."""

from typing import NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from warm import train

from unroll import CarriesState, Stream, UserError, Window
from unroll.state import add_rows, detach, keep_rows, pack, start_rows, tensors, unpack


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

    def test_a_file_that_runs_no_code_holds_it(self, state, tmp_path):
        torch.save(pack(state), tmp_path / "state.pt")
        loaded = unpack(torch.load(tmp_path / "state.pt", weights_only=True))
        assert type(loaded).__name__ == type(state).__name__
        for ours, theirs in zip(tensors(loaded), tensors(state), strict=True):
            assert torch.equal(ours, theirs)
        if isinstance(state, Pair):
            assert torch.equal(loaded.cell, state.cell)


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
    rows = stream.sequence[: 3 * stream.row_length].view(3, -1, 1)
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

    def test_unless_the_axis_is_named(self, module):
        module.state_axis = 0
        module.states["train"] = None
        module.state(window(4, range(4)))
        module.carry(torch.ones(4, 8))
        assert torch.equal(module.state(window(4, [0]))[:, 0], torch.tensor([0.0, 1, 1, 1]))

    def test_a_batch_that_is_no_window_is_refused(self, module):
        with pytest.raises(
            UserError, match=r"windows with `starts`, as unroll.Stream yields them; this batch is a tuple"
        ):
            module.state((torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)))


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


def test_a_run_of_anybodys_module_that_is_killed_ends_the_same(tmp_path):
    def run(name, kill_at):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "script.py").write_text(SCRIPT)
        return train(kill_at, folder=tmp_path / name, module="script.py")

    assert run("undisturbed", -1).returncode == 0
    for step in (3, 17, 31, 60):  # before the first checkpoint, and in each epoch
        assert run("killed", step).returncode == -9
    finished = run("killed", -1)
    assert finished.returncode == 0, finished.stderr
    ours, theirs = (torch.load(tmp_path / name / "weights.pt") for name in ("killed", "undisturbed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_import_unroll_imports_neither_hydra_nor_the_rest_of_the_house(command):
    script = "import sys, unroll; print(*{'hydra', 'omegaconf', 'lm', 'vision', 'torch'} & set(sys.modules)); "
    script += "unroll.Stream, unroll.CarriesState, unroll.LastCheckpoint, unroll.WindowLearner; "
    script += "print(*{'hydra', 'lm', 'vision', 'unroll.cli', 'unroll.callbacks.progress'} & set(sys.modules))"
    finished = command("-c", script)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []
