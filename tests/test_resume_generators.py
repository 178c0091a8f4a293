"""Random generators that a fit's own objects hold are found, and go on where they were."""

import random
from functools import partial

import numpy
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import OnExceptionCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from unroll import LastCheckpoint

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
ROWS = 12


class Noise:
    """An object of the user's own, with a generator in a slot."""

    __slots__ = ("rng",)

    def __init__(self, seed):
        self.rng = numpy.random.Generator(numpy.random.Philox(seed))

    def __call__(self, rows):
        return torch.stack(rows) + float(self.rng.random()) * 1e-2


def collated(rows, noise):
    return noise(rows)


class Rows(Dataset):
    def __init__(self):
        self.rng = random.Random(1)

    def __len__(self):
        return ROWS + 3

    def __getitem__(self, index):
        return torch.tensor([index + self.rng.random() * 1e-2])


class Moves(pl.Callback):
    """Moves a weight by a draw of its own."""

    def __init__(self):
        self.by_name = {"sfc": numpy.random.Generator(numpy.random.SFC64(2)), "old": numpy.random.RandomState(2)}

    def on_train_batch_end(self, trainer, module, *others):
        with torch.no_grad():
            module.layer.bias += sum(float(each.normal()) * 1e-3 for each in self.by_name.values())


class Data(pl.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.rows, self.valid, self.bits = Subset(Rows(), range(ROWS)), Rows(), numpy.random.PCG64(3)

    def train_dataloader(self):
        return DataLoader(self.rows, 2, shuffle=True, collate_fn=partial(collated, noise=Noise(4)))

    def val_dataloader(self):
        return DataLoader(self.valid, 4)


class Module(pl.LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        self.layer, self.part, self.read, self.fail_at = nn.Linear(1, 1), nn.Module(), [], fail_at
        self.part.rngs = [torch.Generator().manual_seed(5)]
        self.draw = random.Random(6).random

    def training_step(self, batch, index):
        noise = torch.rand((), generator=self.part.rngs[0]) + self.draw()
        if len(self.read) == self.fail_at:
            raise InterruptedError
        self.read.append(batch.flatten().tolist())
        return (self.layer(batch) * noise).square().mean()

    def validation_step(self, batch, index):
        self.read.append(batch.flatten().tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def fitted(folder, fail_at=None, ckpt_path=None, seed=0, **settings):
    torch.manual_seed(seed)
    module = Module(fail_at)
    callbacks = [Moves(), LastCheckpoint(str(folder), every_n_steps=1), OnExceptionCheckpoint(str(folder), "failed")]
    trainer = pl.Trainer(**QUIET, max_epochs=4, callbacks=callbacks, **settings)
    try:
        trainer.fit(module, datamodule=Data(), ckpt_path=ckpt_path, weights_only=True)
    except InterruptedError:
        assert fail_at
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", ["last", "failed"])
@pytest.mark.parametrize("settings", [{}, {"check_val_every_n_epoch": 2}], ids=["each epoch", "every second"])
@pytest.mark.few(2)
def test_they_go_on_where_they_were(file, settings, tmp_path):
    whole = fitted(tmp_path / "whole", **settings)
    fitted(tmp_path, fail_at=22, **settings)
    resumed = fitted(tmp_path, ckpt_path=tmp_path / f"{file}.ckpt", seed=1, **settings)
    rest = len(resumed.read)
    assert 0 < rest < len(whole.read)
    assert resumed.read == whole.read[-rest:]
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))


@pytest.mark.filterwarnings("ignore")
def test_one_that_is_not_there_is_named_in_a_line(tmp_path, monkeypatch):
    fitted(tmp_path, fail_at=5)
    monkeypatch.setattr(Moves, "__init__", lambda self: setattr(self, "by_name", {}))
    words = r"a random generator that is not there now: Moves 1.by_name\[sfc\], Moves 1.by_name\[old\]; what is drawn"
    with pytest.warns(UserWarning, match=words):
        fitted(tmp_path, ckpt_path=tmp_path / "last.ckpt")
