"""What validations read in a fit that is resumed: in the order that they would have, and whatever training reads."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import OnExceptionCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from unroll import CarriesState, Stream
from unroll.errors import UserError

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
pytestmark = pytest.mark.filterwarnings("ignore")


class Module(CarriesState, pl.LightningModule):
    """Keeps its losses, in training and validation."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head, self.losses = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1), []

    def loss(self, window):
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        loss = nn.functional.mse_loss(self.head(outputs), window.targets)
        if not self.trainer.sanity_checking:
            self.losses.append((self.trainer.state.stage.value, loss.item()))
        return loss

    def training_step(self, window, index):
        return self.loss(window)

    def validation_step(self, window, index):
        self.log("valid/loss", self.loss(window))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Stop(pl.Callback):
    """Raises an error in the second epoch: before its third batch is trained on, or in its first validation."""

    def __init__(self, stage):
        self.stage = stage

    def on_train_batch_start(self, trainer, module, batch, index):
        if (self.stage, trainer.current_epoch, index) == ("train", 1, 2):
            raise InterruptedError

    def on_validation_batch_start(self, trainer, module, batch, index, loader=0):
        if (self.stage, trainer.current_epoch, index) == ("validate", 1, 1):
            raise InterruptedError


def stream(**settings):
    return Stream(list((torch.arange(90.0) * 0.3).sin().unsqueeze(1).split([30, 7, 13, 40])), 3, 6, **settings)


def rows():
    windows = [window._replace(starts=torch.ones_like(window.starts)) for window in stream()]
    return DataLoader(windows, batch_size=None, shuffle=True)


LOADERS = {
    "another order in each epoch": lambda: (stream(shuffle=True), stream(shuffle=True, seed=3)),
    "jitter": lambda: (stream(), Stream(torch.arange(40.0).sin().unsqueeze(1), 2, 5, jitter=True)),
    "the same stream": lambda: (stream(shuffle=True),) * 2,
    "the same loader of a stream": lambda: (DataLoader(stream(shuffle=True), batch_size=None),) * 2,
    "the same loader of rows": lambda: (rows(),) * 2,
}


def fitted(loaders, folder, stage=None, ckpt_path=None):
    torch.manual_seed(1 if ckpt_path else 0)
    module, (train, valid) = Module(), LOADERS[loaders]()
    callbacks = [*([Stop(stage)] if stage else []), OnExceptionCheckpoint(str(folder), "some")]
    trainer = pl.Trainer(**QUIET, max_epochs=2, val_check_interval=3, callbacks=callbacks)
    trainer.fit(module, train, valid, ckpt_path=ckpt_path, weights_only=True)
    return module


@pytest.mark.parametrize("stage", ["train", "validate"])
@pytest.mark.parametrize("loaders", LOADERS)
@pytest.mark.few(3)
def test_a_fit_that_is_resumed_has_the_same_losses(loaders, stage, tmp_path):
    whole = fitted(loaders, tmp_path)
    with pytest.raises(InterruptedError):
        fitted(loaders, tmp_path, stage)
    resumed = fitted(loaders, tmp_path, ckpt_path=tmp_path / "some.ckpt")
    assert 0 < len(resumed.losses) < len(whole.losses)
    assert whole.losses[-len(resumed.losses) :] == resumed.losses


@pytest.mark.parametrize("twice", [stream, rows])
def test_training_that_reads_the_same_twice_is_refused_in_one_line(twice):
    with pytest.raises(UserError, match=r"training reads the same (Stream|DataLoader) twice, which has one place") as e:
        pl.Trainer(**QUIET, enable_checkpointing=False).fit(Module(), [twice()] * 2)
    assert "\n" not in str(e.value)
