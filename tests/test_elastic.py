"""A run of n processes that is resumed with m reads the same windows with the same losses as one process."""

from collections import defaultdict

import pytest
import torch
from helpers.processes import train

from unroll.state import join_rows, take_rows

SCRIPT = """
import os, signal, sys
from pathlib import Path
import pytorch_lightning as pl, torch
from torch import nn
from unroll import CarriesState, LastCheckpoint, Stream

processes, kill_at, kind, accumulated = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 8, batch_first=True).double(), nn.Linear(8, 1).double()
        with torch.no_grad():
            self.rnn.weight_hh_l0.mul_(3)  # so that states matter

    def training_step(self, window, index):
        if self.global_step == kill_at:
            self.trainer.strategy.barrier()  # all die at once: torch waits for those that are left without end
            os.kill(os.getpid(), signal.SIGKILL)
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        errors = (self.head(outputs) - window.targets).square().squeeze(-1) * window.full_mask
        loss = errors.sum() * self.trainer.world_size / 100  # Lightning takes the mean over the processes
        rows = window.inputs[window.full_mask.any(1)][:, 0, 0].tolist()
        batch = self.current_epoch * len(self.trainer.train_dataloader) + index
        with open(f"read-{self.global_rank}.txt", "a") as file:
            print(processes, batch, float(errors.sum().detach()), *rows, file=file)
        return loss

    def train_dataloader(self):
        series = torch.arange(401.0, dtype=torch.float64).mul(0.1).sin().unsqueeze(1)
        if kind == "one":
            stream = Stream(series, 8, 10)
        else:
            lengths = [37, 12, 64, 25, 30, 11, 48, 19, 52, 21, 33, 40, 9]
            stream = Stream(series.split(lengths)[:-1], 8, 10, shuffle=True, packed=kind == "packed")
        return stream.shard(self.global_rank, self.trainer.world_size)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

torch.manual_seed(0)
module, last = Forecaster(), Path("kept", "last.ckpt")
trainer = pl.Trainer(accelerator="cpu", devices=processes, strategy="ddp_fork" if processes > 1 else "auto",
                     max_epochs=4, logger=False, enable_progress_bar=False, enable_model_summary=False,
                     accumulate_grad_batches=accumulated, callbacks=[LastCheckpoint("kept", every_n_steps=2)])
trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
if trainer.is_global_zero:
    torch.save(module.state_dict(), "weights.pt")
"""


def read(folder):
    """The first input of each row and the sum of the errors, by batch; every reading of a batch must be the same."""
    readings = defaultdict(dict)
    for file in folder.glob("read-*.txt"):
        for line in file.read_text().splitlines():
            processes, batch, errors, *rows = line.split()
            readings[int(batch), int(processes)][file.name] = float(errors), rows
    found = {}
    first = {processes: min(batch for batch, of in readings if of == processes) for _, processes in readings}
    for (batch, _), by_process in sorted(readings.items()):
        parts = [by_process[name] for name in sorted(by_process)]
        errors, rows = sum(errors for errors, _ in parts), [row for _, rows in parts for row in rows]
        before, rows_before = found.setdefault(batch, (errors, rows))
        assert rows == rows_before
        assert errors == pytest.approx(before, abs=1e-6)
    return found, first


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "accumulated"), [("one", 1), ("many", 1), ("many", 3), ("packed", 1)])
def test_one_two_four_and_one_process_again_train_like_one(tmp_path, kind, accumulated):
    def run(name, processes, kill_at=-1):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "script.py").write_text(SCRIPT)
        return train(processes, kill_at, kind, accumulated, folder=tmp_path / name, module="script.py")

    assert run("whole", 1).returncode == 0
    steps = torch.load(tmp_path / "whole" / "kept" / "last.ckpt", weights_only=True)["global_step"]
    for part, processes in enumerate((1, 2, 4), start=1):
        assert run("elastic", processes, part * steps // 4).returncode != 0
    finished = run("elastic", 1)
    assert finished.returncode == 0, finished.stderr
    (whole, _), (elastic, first) = (read(tmp_path / name) for name in ("whole", "elastic"))
    assert 0 == first[1] < first[2] < first[4]
    assert whole.keys() == elastic.keys()
    for batch, (errors, rows) in whole.items():
        assert elastic[batch][1] == rows
        assert elastic[batch][0] == pytest.approx(errors, abs=1e-6)
    ours, theirs = (torch.load(tmp_path / name / "weights.pt") for name in ("elastic", "whole"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-9, rtol=0)


def test_states_are_joined_row_by_row_and_shared_anew():
    parts = [(torch.full((1, rows, 2), float(rows)), torch.full((3, rows, 1), float(rows))) for rows in (2, 1)]
    whole = join_rows([*parts, None], 2)
    assert whole[0][0, :, 0].tolist() == whole[1][0, :, 0].tolist() == [2, 2, 1, 0, 0, 0]
    assert take_rows(whole, 1, 2)[0][0, :, 0].tolist() == [2, 1]
    assert join_rows([None, None], 2) is None
