"""Forecasts from many steps of a split, each with the state that the steps before it leave."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from series.covariates import with_known
from series.data import SeriesFiles
from series.windows import Span
from unroll.checks import Size, checked
from unroll.errors import UserError
from unroll.files import replacing
from unroll.state import State
from unroll.training.learner import Learner

READ = 500  # steps at once
ERRORS = ("mse", "mae", "smape", "mase")


class Backtest:
    """Errors of forecasts, by step and by series, in `backtest.csv` and `backtest.png`.

    `mse`, `mae` and `rmse` are in units of the training split's deviation. `smape` is
    the mean of 200 · |e| / (|truth| + |forecast|), in per cent. `mase` is the mean of |e| divided by the mean absolute
    error of the seasonal naive forecast over the steps before the split (Hyndman and Koehler 2006); a series that has
    none, or does not move there, is left out of it.

    Args:
        folder: where the files go.
        every: forecasts are made from each so many steps.
    """

    @checked
    def __init__(self, folder: str, every: Size = 1) -> None:
        self.folder, self.every = Path(folder), every

    @torch.no_grad()
    def __call__(self, learner: Learner, data: Any) -> dict[str, float]:
        """The mean errors, as `backtest/NAME`.

        Raises:
            UserError: the data are no series.
        """
        if not isinstance(data, SeriesFiles):
            raise UserError("evaluate=backtest: is for numbers over time (data=series)")
        learner.eval()
        by_series: dict[str, Tensor] = {}
        for span in data.valid_spans:
            sums = torch.zeros(len(ERRORS), data.horizon, 2, dtype=torch.float64)
            for step, points in self.forecasts(learner, span, data):
                sums += total(errors(span, data, step, points))
            by_series[span.name] = by_series[span.name] + sums if span.name in by_series else sums
        whole = torch.stack([*by_series.values()]).sum(0)
        by_step, overall = means(whole), means(whole.sum(1, keepdim=True))
        rows = [["", "all", *row(overall[:, 0])]]
        rows += [["step", str(step + 1), *row(by_step[:, step])] for step in range(data.horizon)]
        rows += [["series", name, *row(means(sums.sum(1, keepdim=True))[:, 0])] for name, sums in by_series.items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "backtest.csv") as unfinished, open(unfinished, "w", newline="") as file:
            csv.writer(file).writerows([["by", "which", *ERRORS, "rmse"], *rows])
        plot(self.folder / "backtest.png", by_step)
        named = dict(zip(ERRORS, overall[:, 0].tolist(), strict=True))
        named["rmse"] = math.sqrt(named["mse"])
        return {f"backtest/{name}": value for name, value in named.items()}

    def forecasts(self, learner: Learner, span: Span, data: SeriesFiles) -> Iterator[tuple[int, Tensor]]:
        """Each step that is forecast from, and the points `[targets, horizon]`, standardised."""
        model: Any = learner.model
        state: State = None
        first = 0
        for part in with_known(span.values, data.known_at, data.horizon)[: span.stop].split(READ):
            outputs, state = model(part[None].to(learner.device), state)
            points = model.outlook.point(outputs)[0].cpu()
            for step in range(first, first + len(part)):
                if step >= span.start and (step - span.start) % self.every == 0:
                    yield step, points[step - first]
            first += len(part)


def errors(span: Span, data: SeriesFiles, step: int, points: Tensor) -> Tensor:
    """The errors of a forecast, float64 `[errors, horizon, targets]`; nan where there is none."""
    parts = (span.values[step + 1 : step + 1 + data.horizon, data.at], points.T, span.values[: span.start + 1, data.at])
    truth, forecast, before = (span.scale.in_units(part, data.at) for part in parts)
    apart, size = forecast - truth, truth.abs() + forecast.abs()
    smape = torch.where(size == 0, 0.0, 200 * apart.abs() / size)
    usual = (before[data.season :] - before[: -data.season]).abs().nanmean(0)  # nan without steps
    mase = torch.where(usual > 0, apart.abs() / usual, torch.nan)
    relative = apart / torch.tensor(span.scale.deviation, dtype=torch.float64)[data.at]
    return torch.stack([relative.square(), relative.abs(), smape, mase])


def total(found: Tensor) -> Tensor:
    """Sums and counts of errors `[errors, horizon, targets]`: `[errors, horizon, 2]`."""
    return torch.stack([found.nansum(-1), found.isfinite().sum(-1).double()], -1)


def means(sums: Tensor) -> Tensor:
    return sums[..., 0] / sums[..., 1]


def row(errors: Tensor) -> list[str]:
    values = [*errors.tolist(), math.sqrt(float(errors[0]))]
    return [f"{value:.6g}" for value in values]


def plot(path: Path, by_step: Tensor) -> None:
    """The errors over the steps ahead."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    for axes, name, values in zip(figure.subplots(2, 2, sharex=True).flat, ERRORS, by_step, strict=True):
        axes.plot(range(1, len(values) + 1), values)
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
    figure.supxlabel("steps ahead")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=120, format="png")
