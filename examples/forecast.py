"""Forecasts a series some steps ahead: with the state carried, and from shuffled windows that start from zeros.

    python examples/forecast.py                        a made series
    python examples/forecast.py FILE.csv COLUMN 6      a column of a file, six steps ahead

Both train the same model on the same steps as often; the table has their errors on the last fifth of the series.
"""

import csv
import sys

import pytorch_lightning as pl
import torch
from torch import nn

from unroll import CarriesState, Stream

BPTT, ROWS, EPOCHS, SEEDS = 25, 32, 5, 3


def made(steps=20_000):
    """A wave whose period changes slowly, in noise: its phase shows over far more than one window."""
    drift, noise = torch.randn(2, steps, generator=torch.Generator().manual_seed(0))
    return (0.03 + 0.01 * (0.0005 * drift.cumsum(0)).sin()).cumsum(0).sin() + 0.7 * noise


def column(file, name):
    with open(file, newline="") as rows:
        return torch.tensor([float(row[name]) for row in csv.DictReader(rows)])


class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 32, batch_first=True), nn.Linear(32, 1)

    def errors(self, window):
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        errors = self.head(outputs) - window.targets
        return errors if window.mask is None else errors[window.mask]

    def training_step(self, window, index):
        return self.errors(window).square().mean()

    def on_validation_epoch_start(self):
        self.absolute, self.count = 0.0, 0

    def validation_step(self, window, index):
        errors = self.errors(window)
        self.absolute, self.count = self.absolute + errors.abs().sum().item(), self.count + errors.numel()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def fitted(train, valid):
    """The mean absolute error on `valid`, one for each seed."""
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        module = Forecaster()
        pl.Trainer(max_epochs=EPOCHS, **quiet).fit(module, train, valid)
        yield module.absolute / module.count


if __name__ == "__main__":
    series, ahead = (column(*sys.argv[1:3]), int(sys.argv[3])) if len(sys.argv) > 1 else (made(), 10)
    cut = len(series) * 4 // 5
    mean, std = series[:cut].mean(), series[:cut].std()
    parts = ((series - mean) / std)[:, None].tensor_split([cut])
    pairs = [(part[:-ahead], part[ahead:]) for part in parts]
    windows = [Stream(x.split(BPTT), ROWS, BPTT, y.split(BPTT), shuffle=True) for x, y in pairs]  # a sequence each
    carried = [Stream(x, ROWS, BPTT, y) for x, y in pairs]
    print(f"mean absolute error, {ahead} steps ahead: mean and standard deviation of {SEEDS} seeds")
    print(f"the last value     {(pairs[1][0] - pairs[1][1]).abs().mean() * std:.4f}")
    for name, streams in (("shuffled windows", windows), ("state carried", carried)):
        errors = torch.tensor(list(fitted(*streams))) * std
        print(f"{name:<17}  {errors.mean():.4f} ± {errors.std():.4f}")
