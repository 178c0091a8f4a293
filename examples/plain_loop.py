"""A training loop without Lightning: the stream, the functions that handle a state, and a state saved for later.

python examples/plain_loop.py
"""

import torch
from torch import nn

from unroll import Stream, load_state, save_state
from unroll.state import detach, keep_rows, start_rows

BPTT, ROWS, EPOCHS = 25, 16, 5


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, inputs, state=None):
        outputs, state = self.rnn(inputs, state)
        return self.head(outputs), state


def train(model, stream, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(epochs):
        state, total = None, 0.0
        for window in stream:
            if state is not None:  # gradients stop here; rows that have ended go, rows that start get zeros
                state = start_rows(keep_rows(detach(state), len(window.starts)), window.starts)
            outputs, state = model(window.inputs, state)
            loss = nn.functional.mse_loss(outputs, window.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / len(stream):.5f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    series = torch.arange(20_000.0).mul(0.05).sin().unsqueeze(1)
    model = Forecaster()
    train(model, Stream(series[:16_000], ROWS, BPTT), EPOCHS)

    with torch.no_grad():  # a service reads what has come so far, stops, and goes on later
        _, state = model(series[None, 16_000:18_000])
        save_state(state, "state.npz")
        outputs, _ = model(series[None, 18_000:-1], load_state("state.npz"))
        whole, _ = model(series[None, 16_000:-1])
    print(f"squared error: {nn.functional.mse_loss(outputs[0], series[18_001:]).item():.5f}")
    print(f"as if never stopped: {torch.allclose(outputs, whole[:, 2_000:], atol=1e-6)}")
