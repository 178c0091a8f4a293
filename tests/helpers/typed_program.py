"""The public names of `unroll`, used as a typed program uses them; mypy reads it, nothing runs it."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import unroll
from unroll import (
    CarriesState,
    LastCheckpoint,
    Stream,
    UserError,
    Window,
    count_steps,
    load_state,
    one_cycle,
    save_state,
)
from unroll.nn import GRU, MinGRU
from unroll.state import detach, keep_rows, start_rows


class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = MinGRU(1, 8), nn.Linear(8, 1)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        outputs, state = self.rnn(inputs, state)
        return self.head(outputs), state

    def training_step(self, window: Window, index: int) -> Tensor:
        outputs, state = self(window.inputs, self.state(window))
        self.carry(state)
        loss = nn.functional.mse_loss(outputs, window.targets)
        self.log_window("loss", loss, window, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters())
        per_epoch, total = count_steps(self.trainer)
        return [optimizer], [one_cycle(optimizer, total_steps=total, steps_per_epoch=per_epoch)]


def main() -> None:
    stream = Stream(torch.randn(100, 1), batch_size=4, bptt=5)
    windows: int = len(stream)
    for window in stream:
        rows: int = window.num_targets
        state = start_rows(keep_rows(detach(torch.zeros(1, 4, 8)), rows), window.starts)
    module = Forecaster()
    last = LastCheckpoint("runs", every_n_steps=3)
    path: Path = last.path
    pl.Trainer(callbacks=[last]).fit(module, stream, ckpt_path=path)
    save_state(module.stream(torch.randn(4, 5, 1)), path)
    load_state(path)
    version: str = unroll.__version__
    layer = GRU(input_size=1, hidden_size=2, num_layers=1)
    raise UserError(f"{version} {windows} {state} {layer}")
