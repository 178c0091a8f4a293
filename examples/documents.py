"""A character model of many documents of unequal length: each is read from its start, with a state of zeros.

    python examples/documents.py
    python examples/documents.py --resume      after it was stopped or killed

The documents are modules of Python's standard library; a tenth of them is for validation.
"""

import json
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from unroll import CarriesState, LastCheckpoint, Stream

BPTT, ROWS, EPOCHS, LONGEST = 64, 32, 3, 5_000


def documents():
    """Modules as bytes, int64 `[n]` each."""
    texts = [path.read_bytes() for path in sorted(Path(json.__file__).parents[1].glob("*.py"))]
    return [torch.tensor(list(text)) for text in texts if 1 < len(text) < LONGEST]


class CharacterModel(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(256, 32), nn.GRU(32, 64, batch_first=True)
        self.head = nn.Linear(64, 256)

    def loss(self, window):
        """The sum over the characters that count, and their number."""
        outputs, state = self.rnn(self.embed(window.inputs), self.state(window))
        self.carry(state)
        mask = torch.ones_like(window.inputs, dtype=torch.bool) if window.mask is None else window.mask
        logits, targets = self.head(outputs[mask]), window.targets[mask]
        return nn.functional.cross_entropy(logits, targets, reduction="sum"), len(targets)

    def training_step(self, window, index):
        total, count = self.loss(window)
        return total / max(1, count)

    def on_validation_epoch_start(self):
        self.total, self.count = 0.0, 0

    def validation_step(self, window, index):
        total, count = self.loss(window)
        self.total, self.count = self.total + total.item(), self.count + count

    def on_validation_epoch_end(self):
        print(
            f"epoch {self.current_epoch}: {self.total / self.count:.3f} nats per character, {self.count:,} characters"
        )

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


if __name__ == "__main__":
    torch.manual_seed(0)
    found = documents()
    train, valid = [text for number, text in enumerate(found) if number % 10], found[::10]
    lengths = sorted(map(len, train))
    print(
        f"{len(train)} documents of {lengths[0]} to {lengths[-1]:,} characters, half below {lengths[len(train) // 2]:,}"
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    last = LastCheckpoint("checkpoints", every_n_steps=10)
    trainer = pl.Trainer(max_epochs=EPOCHS, num_sanity_val_steps=0, callbacks=[last], **quiet)
    streams = Stream(train, ROWS, BPTT, shuffle=True), Stream(valid, ROWS, BPTT)
    trainer.fit(CharacterModel(), *streams, ckpt_path=last.path if "--resume" in sys.argv else None, weights_only=True)
