"""The LightningModule of forecasts, and their metrics."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from unroll.checks import Share
from unroll.training.learner import LearnerSettings, WindowLearner
from unroll.training.objectives import Direction, Objective, Scored, outputs_of


class ForecastError(Objective):
    """The squared and the absolute error of a forecast, and those of the naive forecast: that nothing changes.

    Errors are those of standardised numbers, means over the targets of a step. `skill` is the share of the naive
    forecast's squared error that the model avoids: 0 for a model that has learnt nothing, 1 for a faultless one.

    Outputs are float `[steps, targets]`, and targets are pairs, float `[steps, targets, 2]`: what is to be forecast,
    and the last value known at the time.
    """

    metrics: Mapping[str, Direction] = {
        "loss": "min",
        "mae": "min",
        "naive_loss": "min",
        "naive_mae": "min",
        "skill": "max",
    }
    columns = ("loss", "naive_loss", "mae", "naive_mae")

    def score(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        outputs = outputs_of(model, features)
        truth, last = targets.unbind(-1)
        loss, steps = F.mse_loss(outputs, truth), len(targets)
        if model.training:
            return Scored(loss, loss, {})
        sums = {
            "mae": F.l1_loss(outputs, truth) * steps,
            "naive_loss": F.mse_loss(last, truth) * steps,
            "naive_mae": F.l1_loss(last, truth) * steps,
        }
        return Scored(loss, loss, sums)

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        naive = means.get("naive_loss")  # of a validation
        return {} if naive is None else {"skill": 1 - means["loss"] / naive if naive else 0.0}


class ForecastLearner(WindowLearner):
    """Trains a model of `series.model` on windows of standardised numbers.

    Args:
        model: `forward(inputs, state=None) -> (forecasts, state)`, as `series.model.Forecaster`.
        objective: the loss and the metrics, `ForecastError()` by default.
        forget: as for `WindowLearner`.
        settings: as for `Learner`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective | None = None,
        forget: Share = 0.0,
        **settings: Unpack[LearnerSettings],
    ) -> None:
        super().__init__(model, objective or ForecastError(), forget, **settings)
