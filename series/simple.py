"""The forecasts that a model must beat: of a linear model, and how long a season is."""

import math
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from series.distributions import FLAT
from series.model import relative_to_last, without_missing
from series.windows import Span

MOST = 100_000  # windows that the linear model is fitted to
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
LEAST, SHARE = 0.2, 0.8  # the autocorrelation of a season, and of a multiple of it
OWA_RATIO = 2.395 / 0.1838  # how many usual errors count in the OWA like one of the whole level
LEAST_ERROR = 0.01  # of standardised numbers
CHOSEN_ON = 0.2  # the share of each span, at its end, that the ridge is chosen on


def fit_linear(spans: Sequence[Span], at: Sequence[int], horizon: int, context: int) -> Tensor:
    """A ridge regression of the next `horizon` values on the latest `context` ones, the same for all targets.

    Values are read as by `series.model.relative_to_last`. The ridge is chosen on the last fifth of each span.

    Returns:
        Weights, float32 `[horizon, context]`.
    """
    windows = sum(len(span.values) * len(at) for span in spans)
    every = math.ceil(windows / MOST)
    fitted, chosen_on = Products(context, horizon), Products(context, horizon)
    for number, span in enumerate(spans):
        # The first windows of a series repeat its first value: their deviations are too small to divide by.
        first = max(span.start, min(context, span.stop // 2))
        cut = span.stop - math.ceil((span.stop - first) * CHOSEN_ON)
        values = span.values[:, list(at)]
        latest = without_missing(values)
        for start, stop, products in ((first, cut, fitted), (cut, span.stop, chosen_on)):
            origins = torch.tensor(range(start + number % every, stop, every), dtype=torch.int64)
            for some in origins.split(4096) if len(origins) else ():
                products.add(*pairs(latest, values, some, horizon, context))
    everything = fitted + chosen_on
    if not fitted.count or not chosen_on.count:
        return everything.solve(RIDGES[-1]).float()
    ridge = min(RIDGES, key=lambda ridge: chosen_on.error(fitted.solve(ridge)))
    return everything.solve(ridge).float()


def pairs(latest: Tensor, values: Tensor, origins: Tensor, horizon: int, context: int) -> tuple[Tensor, Tensor]:
    """What is read, of the latest values, and what comes after it, `[origins · targets, context]` and `[…, horizon]`;
    before a series it is as at its first step."""
    read = latest[(origins[:, None] + torch.arange(1 - context, 1)).clamp(min=0)].transpose(1, 2)
    ahead = values[origins[:, None] + torch.arange(1, horizon + 1)].transpose(1, 2)
    level, relative, scale = relative_to_last(read.double())
    moves = (scale > FLAT)[..., 0]  # nothing is learnt from a window of one value
    return relative[moves], ((ahead - level) / scale)[moves]


class Products:
    """What a least-squares fit needs of inputs X and targets Y: XᵀX, XᵀY and YᵀY's trace, float64."""

    def __init__(self, context: int, horizon: int) -> None:
        self.inner = torch.zeros(context, context, dtype=torch.float64)
        self.outer = torch.zeros(context, horizon, dtype=torch.float64)
        self.square = torch.zeros((), dtype=torch.float64)
        self.count = 0

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        keep = inputs.isfinite().all(-1) & targets.isfinite().all(-1)
        inputs, targets = inputs[keep], targets[keep].clamp(-30, 30)
        self.inner += inputs.T @ inputs
        self.outer += inputs.T @ targets
        self.square += targets.square().sum()
        self.count += len(inputs)

    def __add__(self, other: "Products") -> "Products":
        both = Products(*self.outer.shape)
        for name in vars(both):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def solve(self, ridge: float) -> Tensor:
        """Weights `[horizon, context]`."""
        size = len(self.inner)
        penalty = ridge * self.inner.diagonal().mean().clamp(min=1e-12) * torch.eye(size, dtype=torch.float64)
        return torch.linalg.solve(self.inner + penalty, self.outer).T

    def error(self, weights: Tensor) -> float:
        """The squared error of weights."""
        return float(self.square - 2 * (weights.T * self.outer).sum() + ((weights @ self.inner) * weights).sum())


def usual_error(values: numpy.ndarray, season: int) -> list[float]:
    """The mean absolute error of the seasonal naive forecast of each column, what scaled errors are in (Hyndman and
    Koehler 2006); that of the naive one, if a series is not longer than a season, and 1 of one that does not move.

    Args:
        values: float64 `[steps, columns]`, standardised.
    """
    found = []
    for column in values.T:
        errors = (numpy.abs(column[lag:] - column[:-lag]) for lag in (season, 1))
        means = (part[numpy.isfinite(part)].mean() for part in errors if numpy.isfinite(part).any())
        found.append(next((float(mean) for mean in means if mean > LEAST_ERROR), 1.0))
    return found


def owa_unit(usual: float, level: float) -> float:
    """What errors of a series are in, for a loss like the overall weighted average (OWA) of M4, the mean of scaled and
    of percentage errors: the harmonic mean of `usual` and of a 13th of the level, which counts as no less than `usual`.

    On M4's hourly series the OWA weighs the two so: there Naive2's MASE is 2.395, and its sMAPE 18.38 %.

    Args:
        usual: the error of the seasonal naive forecast (`usual_error`).
        level: of the series, in the same units.
    """
    return 2 / (1 / usual + OWA_RATIO / max(level, usual))


def find_season(series: Sequence[numpy.ndarray], longest: int = 400) -> int:
    """The number of steps after which values come again; 1 if they don't.

    It is the first lag where the autocorrelation of the differences from step to step has a peak about as high as any.

    Args:
        series: float64 `[steps, columns]`, some of them.
    """
    sums, count, read = numpy.zeros(longest + 1), 0, 0
    for values in series:
        steps = numpy.diff(without_missing(torch.from_numpy(values)).numpy(), axis=0)
        if len(steps) < 8:
            continue
        steps = steps - steps.mean(0)
        deviation = steps.std(0)
        for column in (steps / numpy.where(deviation > 0, deviation, 1)).T:
            spectrum = numpy.fft.rfft(column, 2 * len(column))
            alike = numpy.fft.irfft(numpy.abs(spectrum) ** 2)[: len(column) // 3 + 1]
            alike = alike[: longest + 1] / numpy.maximum(len(column) - numpy.arange(len(alike[: longest + 1])), 1)
            sums[: len(alike)] += alike
            count, read = count + 1, read + len(column)
    if not count:
        return 1
    alike = (sums / count).tolist()
    peaks = [lag for lag in range(2, longest) if alike[lag - 1] <= alike[lag] >= alike[lag + 1]]
    best = max((alike[lag] for lag in peaks), default=0.0)
    return next(lag for lag in peaks if alike[lag] >= SHARE * best) if best > max(LEAST, 4 / math.sqrt(read)) else 1
