"""A fit over rows by their number, Lightning's usual data: stopped anywhere and resumed, it is the undisturbed one."""

import random

import numpy
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import OnExceptionCheckpoint
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from unroll import LastCheckpoint
from unroll.errors import UserError

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
ROWS, BATCH, EPOCHS = 22, 3, 3


class OfItsOwn(IterableDataset):
    """Its place is not known."""

    def __len__(self):
        return ROWS

    def __iter__(self):
        yield from torch.arange(float(ROWS)).view(-1, 1)


class Rows(Dataset):
    """Each is its number, moved by random numbers of every kind."""

    def __init__(self, rows=ROWS, moved=True):
        self.rows, self.moved = rows, moved

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        if not self.moved:
            return torch.tensor([float(index)])
        return torch.randn(1) * 1e-3 + random.random() * 1e-4 + numpy.random.random() * 1e-5 + index


class Shuffled(Sampler):
    """Has random generators of its own."""

    def __init__(self):
        self.python, self.numpy = random.Random(3), numpy.random.default_rng(3)
        self.legacy = numpy.random.RandomState(3)

    def __len__(self):
        return ROWS

    def __iter__(self):
        order = list(range(ROWS))
        for generator in (self.python, self.numpy, self.legacy):
            generator.shuffle(order)
        return iter(order)


LOADERS = {
    "shuffled": lambda: DataLoader(Rows(), BATCH, shuffle=True),
    "in order": lambda: DataLoader(Rows(), BATCH),
    "by a generator": lambda: DataLoader(Rows(), BATCH, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "by a sampler's own": lambda: DataLoader(Rows(), BATCH, sampler=Shuffled()),
    "by weights": lambda: DataLoader(Rows(), BATCH, sampler=WeightedRandomSampler(torch.arange(1.0, ROWS + 1), ROWS)),
    "by batches": lambda: DataLoader(Rows(), batch_sampler=BatchSampler(RandomSampler(Rows()), BATCH, drop_last=False)),
    "torchdata's": lambda: StatefulDataLoader(Rows(), BATCH, shuffle=True),
    "longest of two": lambda: [DataLoader(Rows(), BATCH, shuffle=True), DataLoader(Rows(7), BATCH, shuffle=True)],
    "shortest of two": lambda: CombinedLoader(
        [DataLoader(Rows(), BATCH, shuffle=True), DataLoader(Rows(33), BATCH, shuffle=True)], "min_size"
    ),
    "a worker": lambda: DataLoader(Rows(moved=False), BATCH, shuffle=True, num_workers=1),
    "workers and a cycle": lambda: [DataLoader(Rows(n, moved=False), 3, shuffle=True, num_workers=1) for n in (22, 7)],
}


BY_DEFAULT = ("shuffled", "torchdata's", "a worker")


class Module(pl.LightningModule):
    """Dropout, and noise on the batch, draw random numbers; what it reads is kept."""

    def __init__(self):
        super().__init__()
        self.layer, self.drop, self.read = nn.Linear(1, 1), nn.Dropout(0.3), []

    def on_after_batch_transfer(self, batch, dataloader_idx):
        parts = batch if isinstance(batch, list | tuple) else [batch]
        return [part + torch.randn_like(part) * 1e-3 for part in parts]

    def training_step(self, batch, index):
        self.read.append([part.tolist() for part in batch])
        return sum(self.drop(self.layer(part / ROWS)).square().mean() for part in batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Fetching(Module):
    def training_step(self, dataloader_iter):
        return super().training_step(next(dataloader_iter)[0], 0)


class FailsAfterItsStep(Module):
    """Steps by itself, and fails behind the first of two optimizers' steps."""

    automatic_optimization = False

    def training_step(self, batch, index):
        self.manual_backward(super().training_step(batch, index))
        self.optimizers().step()
        if index == 2:
            raise InterruptedError


class Stop(pl.Callback):
    def __init__(self, at):
        self.at = at

    def on_train_batch_end(self, trainer, module, *others):
        if len(module.read) == self.at:
            raise InterruptedError


def fitted(folder, loaders, seed=0, ckpt_path=None, stop_at=None, callbacks=(), make=Module, **settings):
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    last, module = LastCheckpoint(str(folder), every_n_steps=1), make()
    callbacks = [*callbacks, last, Stop(stop_at)]
    trainer = pl.Trainer(**QUIET | {"max_epochs": EPOCHS} | settings, callbacks=callbacks)
    try:
        trainer.fit(module, loaders, ckpt_path=ckpt_path, weights_only=True)
    except InterruptedError:
        assert stop_at
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop_at", [11, pytest.param(17, marks=pytest.mark.slow)], ids="stopped after {}".format)
@pytest.mark.parametrize(
    "name", [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in LOADERS]
)
def test_a_fit_over_rows_is_resumed_exactly(name, stop_at, tmp_path):
    whole = fitted(tmp_path / "whole", LOADERS[name]())
    fitted(tmp_path, LOADERS[name](), stop_at=stop_at)
    resumed = fitted(tmp_path, LOADERS[name](), seed=1, ckpt_path="last")
    assert resumed.read == whole.read[stop_at - 1 :]
    assert all(torch.equal(tensor, resumed.state_dict()[key]) for key, tensor in whole.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_fit_whose_workers_stay_is_resumed_exactly_at_an_epochs_end(tmp_path):
    def loader():
        return DataLoader(Rows(moved=False), BATCH, shuffle=True, num_workers=1, persistent_workers=True)

    whole = fitted(tmp_path / "whole", loader(), max_epochs=2)
    fitted(tmp_path, loader(), max_epochs=1)
    with pytest.warns(UserWarning, match="num_workers=1: if its data set draws random numbers, they are others"):
        resumed = fitted(tmp_path, loader(), seed=1, ckpt_path="last", max_epochs=2)
    assert resumed.read == whole.read[8:]


class Validated(Module):
    def validation_step(self, batch, index):
        pass


@pytest.mark.filterwarnings("ignore")
def test_a_finished_fit_whose_validation_reads_a_loader_is_extended_exactly(tmp_path):
    """The loader draws a number for each pass."""

    def loaders():
        return pl.LightningDataModule.from_datasets(Rows(), Rows(7), batch_size=BATCH)

    whole = fitted(tmp_path / "whole", loaders(), make=Validated)
    fitted(tmp_path, loaders(), make=Validated, max_epochs=1)
    resumed = fitted(tmp_path, loaders(), seed=1, ckpt_path="last", make=Validated)
    assert resumed.read == whole.read[8:]
    assert all(torch.equal(tensor, resumed.state_dict()[key]) for key, tensor in whole.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_a_fit_without_any_of_this_is_taken_up_with_a_line(tmp_path):
    module, trainer = Module(), pl.Trainer(**QUIET, max_steps=3, enable_checkpointing=False)
    trainer.fit(module, LOADERS["shuffled"]())
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.warns(UserWarning, match="the checkpoint was written by a fit without CarriesState and LastCheckpoint"):
        fitted(tmp_path, LOADERS["shuffled"](), ckpt_path=tmp_path / "other.ckpt", max_steps=5)


@pytest.mark.filterwarnings("ignore")
def test_each_epoch_has_another_order_and_the_loader_is_left_as_it_was(tmp_path):
    loader = LOADERS["shuffled"]()
    sampler = loader.batch_sampler
    read = fitted(tmp_path, loader).read
    epochs = [[row for batch in read[start : start + 8] for row in batch[0]] for start in (0, 8, 16)]
    numbers = [[round(row[0]) for row in epoch] for epoch in epochs]
    assert [sorted(epoch) for epoch in numbers] == [[*range(ROWS)]] * 3
    assert numbers[0] != numbers[1] != numbers[2]
    assert loader.batch_sampler is sampler


class WithoutLength(IterableDataset):
    """Keeps its place; Lightning fetches a batch ahead to see where it ends."""

    row = 0

    def __iter__(self):
        while self.row < ROWS:
            self.row += 1
            yield torch.ones(1)
        self.row = 0

    def state_dict(self):
        return {"row": self.row}

    def load_state_dict(self, state):
        self.row = state["row"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("loaders", "make", "words"),
    [
        (
            lambda: DataLoader(OfItsOwn(), BATCH),
            Module,
            "the place of DataLoader in the epoch is not known: ",
        ),
        (LOADERS["shuffled"], Fetching, "the place of DataLoader in the epoch is not known: "),
        (
            lambda: [LOADERS["shuffled"](), StatefulDataLoader(OfItsOwn(), BATCH)],
            Module,
            "a DataLoader and a StatefulDataLoader",
        ),
        (
            lambda: StatefulDataLoader(WithoutLength(), BATCH),
            Module,
            "the place of StatefulDataLoader in the epoch is not known: .* with a length",
        ),
    ],
    ids=["no place", "fetched in the step", "two kinds", "fetched ahead"],
)
def test_what_cannot_go_on_in_the_middle_of_an_epoch_is_refused_in_one_line(loaders, make, words, tmp_path):
    fitted(tmp_path, loaders(), make=make, max_steps=4)
    with pytest.raises(UserError, match=words) as refusal:
        fitted(tmp_path, loaders(), make=make, ckpt_path="last")
    assert "\n" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_a_step_of_which_a_part_was_done_is_refused_in_one_line(tmp_path):
    settings = {"make": FailsAfterItsStep, "callbacks": [OnExceptionCheckpoint(str(tmp_path), "torn")], "stop_at": 99}
    fitted(tmp_path, LOADERS["shuffled"](), **settings)
    with pytest.raises(UserError, match=r"in the middle of a training step, .*: resume from an earlier one, or"):
        fitted(tmp_path, LOADERS["shuffled"](), ckpt_path=tmp_path / "torn.ckpt")


class FailsAfterData(Module):
    """Exchanges two of its weights by `.data`, which leaves no trace in PyTorch's count of changes, and fails."""

    def __init__(self):
        super().__init__()
        self.pair = nn.Parameter(torch.tensor([1.0, 2.0]))

    def training_step(self, batch, index):
        if index == 2:
            self.pair.data = self.pair.data if self.dry else self.pair.data.flip(0)
            raise InterruptedError
        return super().training_step(batch, index) + self.pair.square().sum()

    dry = False


@pytest.mark.filterwarnings("ignore")
def test_weights_that_data_has_changed_in_a_step_that_fails_are_noticed(tmp_path, monkeypatch):
    settings = {"make": FailsAfterData, "callbacks": [OnExceptionCheckpoint(str(tmp_path), "torn")], "stop_at": 99}
    for dry in (True, False):
        monkeypatch.setattr(FailsAfterData, "dry", dry)
        fitted(tmp_path, LOADERS["shuffled"](), **settings)
        assert torch.load(tmp_path / "torn.ckpt", weights_only=True)["torn"] is not dry


class FailsWhileToggled(Module):
    """Steps by itself, and fails before its step, while the parameters of another optimizer are frozen."""

    automatic_optimization = False

    def training_step(self, batch, index):
        optimizer, _ = self.optimizers()
        self.toggle_optimizer(optimizer)
        if index == 2:
            raise InterruptedError
        self.manual_backward(super().training_step(batch, index))
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    def configure_optimizers(self):
        return torch.optim.SGD([self.layer.weight], lr=1e-2), torch.optim.SGD([self.layer.bias], lr=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_what_a_step_froze_when_it_failed_is_trained_again(tmp_path):
    settings = {"make": FailsWhileToggled, "callbacks": [OnExceptionCheckpoint(str(tmp_path), "failed")]}
    fitted(tmp_path, LOADERS["shuffled"](), **settings, stop_at=99)
    trained = torch.load(tmp_path / "failed.ckpt", weights_only=True)["trained"]
    assert trained == {"layer.weight": True, "layer.bias": True}


class Enough(pl.Callback):
    def on_train_batch_end(self, trainer, module, *others):
        trainer.should_stop = len(module.read) == 4


class Freeze(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        module.layer.bias.requires_grad = index != 3


@pytest.mark.parametrize(
    ("loaders", "callback", "words"),
    [
        (
            "shuffled",
            Enough,
            "a callback had set trainer.should_stop when the checkpoint was written, and the fit",
        ),
        ("shuffled", Freeze, "layer.bias was frozen when the checkpoint was written, and goes on so"),
        (
            "a worker",
            None,
            "num_workers=1: if its data set draws random numbers, they are others than without",
        ),
    ],
    ids=["should_stop", "frozen", "a worker"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_may_be_meant_otherwise_is_said_in_one_line(loaders, callback, words, tmp_path):
    fitted(tmp_path, LOADERS[loaders](), max_steps=4, callbacks=[callback()] if callback else [])
    with pytest.warns(UserWarning, match=words) as said:
        fitted(tmp_path, LOADERS[loaders](), ckpt_path="last", max_steps=6)
    assert sum(words in str(line.message) for line in said) == 1
