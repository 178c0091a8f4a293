"""Fits of small models by Lightning alone, without `train.py`."""

import pytorch_lightning as pl
import torch
from torch import nn

import lm.language
from lm.language.learner import LanguageModel
from unroll import Stream
from unroll.training.schedules import one_cycle

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class Streams(pl.LightningDataModule):
    def __init__(self, train, valid):
        super().__init__()
        self.streams = train, valid

    def train_dataloader(self):
        return self.streams[0]

    def val_dataloader(self):
        return self.streams[1]


class Numbers(nn.Module):
    """A forecast of the next number."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, inputs, state=None):
        outputs, state = self.rnn(inputs, state)
        return self.head(outputs), state


class Record(pl.Callback):
    """What a run did, step by step."""

    def __init__(self):
        self.losses, self.rates, self.momenta, self.states, self.windows = [], [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        group = trainer.optimizers[0].param_groups[0]
        self.rates.append(group["lr"])
        self.momenta.append(group["betas"][0])
        self.states.append(module.state(batch, "train"))
        self.windows.append(batch.inputs.shape)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


def text(length, seed=0):
    return torch.randint(9, (length,), generator=torch.Generator().manual_seed(seed))


def fit(
    model="GRU",
    epochs=2,
    train=None,
    valid=None,
    schedule=one_cycle,
    groups=None,
    callbacks=(),
    ckpt_path=None,
    **trainer,
):
    torch.manual_seed(0)
    module = LanguageModel(
        getattr(lm.language, model)(vocab_size=9),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, betas=(0.9, 0.99)),
        schedule=schedule,
        groups=groups,
    )
    record = Record()
    pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[record, *callbacks],
        **{**QUIET, **trainer},
    ).fit(
        module,
        datamodule=Streams(train or Stream(text(500), 4, 10), valid or Stream(text(300, 1), 4, 10)),
        ckpt_path=ckpt_path,
        weights_only=True,
    )
    return module, record
