"""Forecasts while readings arrive: each moves the state one step, and the next six come out.

    python examples/online.py

The state is saved on the way and loaded by a module that goes on; its forecasts are those of reading everything again.
"""

import time

import pytorch_lightning as pl
import torch
from torch import nn

from unroll import CarriesState, Stream

AHEAD = 6


class Forecaster(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 32, batch_first=True), nn.Linear(32, AHEAD)

    def forward(self, inputs, state=None):
        outputs, state = self.rnn(inputs, state)
        return inputs + self.head(outputs), state

    def training_step(self, window, index):
        forecasts, state = self(window.inputs, self.state(window))
        self.carry(state)
        return (forecasts - window.targets).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def online(module, readings):
    """The forecasts after each reading."""
    for number, reading in enumerate(readings):
        yield module.stream(torch.tensor([[[reading]]]))[0, 0]  # [rows, time, features]: a step of one row
        if number % 1000 == 999:
            module.save_state("online_state.npz")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    values = torch.arange(12_000).mul(0.1).sin() + 0.1 * torch.randn(12_000)
    past, readings = values[:10_000], values[10_000:].tolist()
    ahead = past.unfold(0, AHEAD + 1, 1)[:, 1:]
    module = Forecaster()
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    pl.Trainer(max_epochs=3, **quiet).fit(module, Stream(past[:-AHEAD, None], 16, 50, ahead))

    module.stream(past[None, :, None])  # the history
    started = time.perf_counter()
    forecasts = torch.stack(list(online(module, readings[:1000])))
    print(f"{1000 / (time.perf_counter() - started):,.0f} readings a second")

    other = Forecaster()  # in another process, say
    other.load_state_dict(module.state_dict())
    other.load_state("online_state.npz")
    forecasts = torch.cat([forecasts, torch.stack(list(online(other, readings[1000:])))])
    again = module.eval()(values[None, :, None])[0][0, len(past) :].detach()
    print(f"as if all was read again: {torch.allclose(forecasts, again, atol=1e-5)}")
    truth = torch.tensor(readings).unfold(0, AHEAD, 1)[1:]
    made, naive = forecasts[: len(truth)], torch.tensor(readings)[: len(truth), None]
    ours, simple = ((forecast - truth).abs().mean() for forecast in (made, naive))
    print(f"mean absolute error {ours:.3f}, that nothing changes {simple:.3f}")
