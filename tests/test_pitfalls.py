"""What is easily got wrong in a LightningModule of one's own is said, or has a line that is right."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from helpers.fits import QUIET
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from unroll import CarriesState, LastCheckpoint, Stream, UserError, count_steps, one_cycle


def waves(length=203):
    return torch.linspace(0, 20, length).sin().unsqueeze(1)


def documents():
    return list(waves(150).split([41, 7, 33, 2, 28, 39]))


class Forecaster(CarriesState, pl.LightningModule):
    carries = True

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1)

    def errors(self, window):
        """Of the steps that count."""
        outputs, state = self.rnn(window.inputs, self.state(window))
        if self.carries:
            self.carry(state)
        return (self.head(outputs) - window.targets).square()[window.full_mask]

    def training_step(self, window, index):
        return self.errors(window).sum() / max(1, window.num_targets)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Validated(Forecaster):
    def validation_step(self, window, index):
        self.errors(window)


def fit(module, stream, valid=None, **settings):
    trainer = pl.Trainer(accelerator="cpu", **{**QUIET, "max_epochs": 1, **settings})
    trainer.fit(module, stream, valid)
    return trainer


class TestALoaderInTheStreamsPlace:
    @pytest.mark.parametrize("loader", [DataLoader, StatefulDataLoader])
    @pytest.mark.parametrize("batch_size", [1, 4])
    @pytest.mark.parametrize("sequences", [waves, documents])
    def test_one_that_collects_windows_is_told_not_to(self, loader, batch_size, sequences):
        with pytest.raises(UserError, match=r"^the windows of a stream are batches already: .*batch_size=None"):
            fit(Forecaster(), loader(Stream(sequences(), 4, 10), batch_size=batch_size))

    def test_one_of_tensors_is_refused_with_what_would_be_right(self):
        (batch,) = DataLoader(TensorDataset(waves(50), waves(50)), batch_size=50)
        with pytest.raises(UserError, match=r"this batch is a list: give unroll\.Stream\(sequence, batch_size, bptt\)"):
            Forecaster().state(batch)


class TestAStateThatIsNotCarried:
    def test_is_said_once_a_split(self):
        module = Validated()
        module.carries = False
        with pytest.warns(UserWarning, match="no state was carried") as said:
            fit(module, Stream(waves(), 4, 10), Stream(waves(), 4, 10), max_epochs=2)
        forgotten = [str(warning.message) for warning in said if "no state was carried" in str(warning.message)]
        assert len(forgotten) == 2
        assert any("(train)" in message for message in forgotten)
        assert all("call self.carry(state)" in message for message in forgotten)

    @pytest.mark.parametrize("sequences", [waves, documents])
    def test_one_that_is_carried_is_not_complained_of_nor_one_that_is_none(self, sequences):
        stateless = Forecaster()
        stateless.carry = lambda state, split=None: CarriesState.carry(stateless, None, split)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*state was carried.*")
            for module in (Forecaster(), stateless):
                fit(module, Stream(sequences(), 4, 10), max_epochs=2)


class Exact(Forecaster):
    """Logs a window's mean error in both ways."""

    def validation_step(self, window, index):
        errors = self.errors(window)
        self.log("by_rows", errors.mean())
        self.log_window("exact", errors.mean(), window, prog_bar=True)
        self.seen = [*getattr(self, "seen", []), errors]


@pytest.mark.parametrize(
    "stream",
    [Stream(waves(), 4, 10), Stream(documents(), 3, 10), Stream(documents(), 3, 10, warm_up=11)],
    ids=["narrower at the end", "masked", "some windows masked whole"],
)
def test_a_metric_of_a_validation_is_that_of_all_its_targets(stream):
    torch.manual_seed(0)
    module = Exact()
    logged = fit(module, Stream(waves(), 4, 10), stream).callback_metrics
    assert logged["exact"].item() == pytest.approx(torch.cat(module.seen).mean().item(), rel=1e-6)
    assert logged["by_rows"].item() != pytest.approx(logged["exact"].item(), rel=1e-4)


class Shared(Exact):
    """Each process reads its rows; the first one writes what was logged."""

    def train_dataloader(self):
        return Stream(documents(), 4, 10).shard(self.global_rank, self.trainer.world_size)

    def val_dataloader(self):
        return self.train_dataloader()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.slow
def test_over_several_processes_too():
    torch.manual_seed(0)
    module = Shared()
    values = []
    for settings in ({}, {"strategy": "ddp_spawn", "devices": 2}):
        trainer = pl.Trainer(accelerator="cpu", **QUIET, max_epochs=1, **settings)
        trainer.fit(module)
        values.append(trainer.callback_metrics["exact"].item())
    assert values[1] == pytest.approx(values[0], rel=1e-6)


class Scheduled(Forecaster):
    def __init__(self):
        super().__init__()
        self.read = []

    def training_step(self, window, index):
        self.read.append(window.inputs[0, 0].item())
        return super().training_step(window, index)

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        per_epoch, total = count_steps(self.trainer)
        schedule = one_cycle(optimizer, total_steps=total, steps_per_epoch=per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def test_a_schedule_of_ones_own_is_as_long_as_training_and_a_resumed_fit_goes_on_at_its_place(tmp_path):
    def fitted(ckpt_path=None, **settings):
        torch.manual_seed(0)
        module, last = Scheduled(), LastCheckpoint(str(tmp_path))
        trainer = pl.Trainer(
            accelerator="cpu",
            **{**QUIET, "enable_checkpointing": True, "callbacks": [last], "max_epochs": 3, **settings},
        )
        trainer.fit(module, Stream(waves(), 4, 10), ckpt_path=ckpt_path, weights_only=True)
        return module

    whole = fitted()
    assert whole.trainer.lr_scheduler_configs[0].scheduler.total_steps == len(whole.read) == whole.trainer.global_step
    fitted(limit_train_batches=1.0, max_steps=8)
    resumed = fitted(ckpt_path=tmp_path / "last.ckpt")
    assert resumed.read == whole.read[8:]
