"""The LightningModule of forecasts, and their figures."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from unroll.module import WindowLearner
from unroll.objectives import Direction, Objective


class ForecastError(Objective):
    """The squared and the absolute error of a forecast, and those of the naive forecast: that nothing changes.

    Errors are those of standardised numbers, means over the targets of a step. `skill` is the share of the naive
    forecast's squared error that the model avoids: 0 for a model that has learnt nothing, 1 for a faultless one.

    Targets are pairs, float `[…, targets, 2]`: what is to be forecast, and the last value known at the time.
    """

    figures: Mapping[str, Direction] = {
        "loss": "min",
        "mae": "min",
        "naive_loss": "min",
        "naive_mae": "min",
        "skill": "max",
    }
    columns = ("loss", "naive_loss", "mae", "naive_mae")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """
        Args:
            outputs: float `[steps, targets]`.
            targets: float `[steps, targets, 2]`.
        """
        return F.mse_loss(outputs, targets[..., 0])

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        truth, last = targets.unbind(-1)
        steps = len(targets)
        return {
            "mae": F.l1_loss(outputs, truth) * steps,
            "naive_loss": F.mse_loss(last, truth) * steps,
            "naive_mae": F.l1_loss(last, truth) * steps,
        }

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        naive = means.get("naive_loss")  # of a validation
        return {} if naive is None else {"skill": 1 - means["loss"] / naive if naive else 0.0}


class ForecastLearner(WindowLearner):
    """Trains a model of `unroll.series.models` on windows of standardised numbers.

    Args:
        model: `forward(inputs, state=None) -> (forecasts, state)`, as `unroll.series.models.Forecaster`.
        objective: the loss and the figures, `ForecastError()` by default.
        settings: as for `WindowLearner`.
    """

    def __init__(self, model: nn.Module, *settings: Any, objective: Objective | None = None, **more: Any) -> None:
        super().__init__(model, objective or ForecastError(), *settings, **more)
