"""The LightningModule of forecasts, and their metrics."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from series.distributions import Outlook, levels_like, pinball
from series.scale import in_deviations
from unroll.checks import Share
from unroll.training.learner import LearnerSettings, WindowLearner
from unroll.training.objectives import Direction, Objective, Scored, outputs_of

SIMPLE = ("naive", "seasonal", "linear")
LEVELS = tuple(level / 10 for level in range(1, 10))  # that the pinball loss is a mean over


class ForecastError(Objective):
    """What a forecast loses by its kind (`series.distributions`), and the errors of its points.

    Errors are in deviations of the training split's numbers, means over targets, steps up to the horizon, and the steps
    that are forecast from; a missing number is left out. `naive_mse`, `seasonal_mse` and `linear_mse` are those of
    simple forecasts: that nothing changes, that the last season comes again, and the linear model. `skill` is the share
    of the least of the three that the model avoids: 1 for a faultless one, 0 or less for one that has learnt nothing.
    `gain` is how much the layers take from the loss of the linear model alone, minus the standard error of that:
    forecasts from steps of a series that are less than a horizon apart are of the same numbers, and count as one. One
    alone has no standard error, so nothing is gained by it.

    Of a forecast that says how sure it is: `pinball`, the mean over its deciles of twice the pinball loss, which
    approximates the CRPS (Gneiting and Raftery 2007), and `coverage`, the share of numbers between the first and the
    last decile, 0.8 at best.

    Outputs are float `[steps, targets, horizon, 2 + size]`; targets `[steps, targets, horizon, 2 or 7]`: what is to
    come, the unit of losses, and of a validation what else `series.windows.ForecastWindows` has.

    Args:
        outlook: the kind.
    """

    columns: ClassVar[tuple[str, ...]] = ("loss", "mse", "mae", "skill", "gain")

    def __init__(self, outlook: Outlook) -> None:
        self.outlook = outlook
        self.metrics: Mapping[str, Direction] = {
            "loss": "min", "mse": "min", "mae": "min", "rmse": "min", "skill": "max", "gain": "max",
            **{f"{name}_mse": "min" for name in SIMPLE},
            **({"pinball": "min", "coverage": "max"} if outlook.spread else {}),
        }  # fmt: skip

    def score(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        outputs = outputs_of(model, features)
        truth = targets[..., 0]
        steps, numbers_of_step = len(truth), truth.shape[1:].numel()
        known = truth.isfinite().flatten().nonzero().squeeze(1)  # waits for the device, once
        outputs, truth, targets = (part.flatten(0, 2)[known] for part in (outputs, truth, targets))
        count = len(truth)
        losses = self.outlook.loss(outputs, truth, targets[..., 1])
        loss = losses.sum() / max(count, 1)
        if model.training:
            return Scored(loss, loss, {"targets": count})
        *simple_forecasts, std, mean, independent = targets[..., 2:].unbind(-1)
        linear = torch.cat([outputs[..., :2], torch.zeros_like(outputs[..., 2:])], -1)
        gained = self.outlook.loss(linear, truth, targets[..., 1]) - losses
        truth, point = in_deviations(truth, std, mean), in_deviations(self.outlook.point(outputs), std, mean)
        sums: dict[str, Any] = {"targets": count, "mse": squares(point - truth), "mae": (point - truth).abs().sum()}
        for name, forecast in zip(SIMPLE, (*simple_forecasts, outputs[..., 0]), strict=True):
            sums[f"{name}_mse"] = squares(in_deviations(forecast, std, mean) - truth)
        sums |= sums_of_steps(gained, independent, known // numbers_of_step, steps)
        if self.outlook.spread:
            levels = levels_like(truth, LEVELS)
            deciles = self.outlook.quantile(outputs.unsqueeze(-2), levels)
            deciles = in_deviations(deciles, std[:, None], mean[:, None])
            sums["pinball"] = pinball(deciles, truth[:, None], levels).mean(-1).sum()
            sums["coverage"] = ((deciles[:, 0] <= truth) & (truth <= deciles[:, -1])).sum()
        return Scored(loss, loss, sums)

    def score_nothing(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        return self.score(model, features, targets)

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        if "mse" not in means:  # of training
            return {}
        best = min(means[f"{name}_mse"] for name in SIMPLE)
        skill = 1 - means["mse"] / best if best else 0.0
        return {"rmse": math.sqrt(means["mse"]), "skill": skill, "gain": surely_gained(means)}


def sums_of_steps(gained: Tensor, independent: Tensor, steps: Tensor, count: int) -> dict[str, Tensor]:
    """What `surely_gained` needs: sums over steps of the mean that each has gained, weighted by how many independent
    forecasts the step counts for.

    Args:
        gained, independent: float `[numbers]`.
        steps: int64 `[numbers]`, the step of each.
        count: of steps; one without numbers counts for nothing.
    """
    numbers = torch.bincount(steps, minlength=count).clamp(min=1)
    mean, weight = (part.new_zeros(count).index_add_(0, steps, part) / numbers for part in (gained, independent))
    return {"forecasts": weight.sum(), "gained": (weight * mean).sum(), "gained_squared": (weight * mean**2).sum()}


def surely_gained(means: Mapping[str, float]) -> float:
    """The mean of what was gained, minus its standard error; no more than 0 of one forecast alone, which has none."""
    share = means["forecasts"]
    mean, independent = means["gained"] / share, share * means["targets"]
    if round(independent) < 2:
        return min(mean, 0.0)
    variance = max(0.0, means["gained_squared"] / share - mean**2)
    return mean - math.sqrt(variance / (independent - 1))


def squares(errors: Tensor) -> Tensor:
    return errors.square().sum()


class ForecastLearner(WindowLearner):
    """Trains a model of `series.model` on windows of standardised numbers.

    Before the first step, the model's linear part is fitted to the training split (`series.simple.fit_linear`).

    Args:
        model: `forward(inputs, state=None) -> (outputs, state)`, as `series.model.Forecaster`.
        objective: the loss and the metrics, those of the model's outlook by default.
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
        super().__init__(model, objective or ForecastError(model.outlook), forget, **settings)  # type: ignore[arg-type]

    def setup(self, stage: str) -> None:
        if stage == "fit" and hasattr(self.model, "linear"):  # what is resumed is loaded after this
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            model: Any = self.model
            model.linear.copy_(data.linear(model.context))

    def conclusion(self, metrics: Mapping[str, float]) -> str | None:
        """Whether the model does better than simple forecasts."""
        if "valid/skill" not in metrics:
            return None
        least = {name: metrics[f"valid/{name}_mse"] for name in SIMPLE}
        name = min(least, key=least.__getitem__)
        better = f"mse {metrics['valid/mse']:.4f}; the best simple forecast, {name}, has {least[name]:.4f}"
        if metrics["valid/skill"] <= 0:
            return f"no better than a simple forecast: {better}"
        return f"better than simple forecasts: {better} (skill {metrics['valid/skill']:.4f})"
