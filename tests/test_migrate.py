"""What docs/migrate.md says of its ports, apart from that they run."""

import re

import pytest
import torch
from conftest import ROOT

# The losses of the program of Lightning 1 on the page, by pytorch-lightning 1.9.5 and torch 2.13 after
# torch.manual_seed(0), with the series, the three epochs and the optimizer of the program that is in its place now.
OF_LIGHTNING_1 = [
    [0.5139940, 0.3755136, 0.3784142, 0.2928932, 0.4454139, 0.1382939, 0.2776390, 0.1285617, 0.0783447, 0.0905250],
    [0.1210456, 0.0234963, 0.3584792, 0.0600631, 0.0214275, 0.0846614, 0.0305919, 0.0429102, 0.0260341, 0.0889147],
    [0.0215801, 0.0579791, 0.0436072, 0.0172834, 0.0682479, 0.0046701, 0.0243448, 0.0192292, 0.0022080, 0.0144651],
]


def test_the_port_from_lightning_1_makes_its_thirty_losses(monkeypatch):
    page = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    losses, mse_loss = [], torch.nn.functional.mse_loss

    def recorded(*arguments):
        losses.append(mse_loss(*arguments))
        return losses[-1]

    monkeypatch.setattr(torch.nn.functional, "mse_loss", recorded)
    torch.manual_seed(0)
    exec(compile(program, "docs/migrate.md", "exec"), {"__name__": "migrate"})
    assert [loss.item() for loss in losses] == pytest.approx([loss for row in OF_LIGHTNING_1 for loss in row], abs=2e-6)
