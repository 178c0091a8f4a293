"""What a model's outputs say of a number to come: a point, quantiles, or the parameters of a distribution.

An output is `[…, 2 + size]`: a centre and a scale, in the units of the series, and what the layers say. Each
distribution is moved by the centre and stretched by the scale, so that forecasts of a series that is multiplied or
shifted are multiplied or shifted.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unroll.errors import UserError

Kind = Literal["huber", "mse", "mae", "quantiles", "normal", "student_t", "negative_binomial"]
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
LEAST = 1e-3  # of a spread, in scales
FLAT = 1e-4  # the scale of a window of one value or less


class Outlook(ABC):
    """A kind of forecast.

    Attributes:
        size: how many numbers the layers make for each number to come.
        spread: whether it says how sure it is.
    """

    size = 1
    spread = True

    @abstractmethod
    def loss(self, outputs: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        """Of each number, `[…]`. Args: outputs `[…, 2 + size]`, truth `[…]`, unit of errors `[…]`; a likelihood has
        none."""

    @abstractmethod
    def point(self, outputs: Tensor) -> Tensor:
        """The one number that is forecast, `[…]`."""

    @abstractmethod
    def quantile(self, outputs: Tensor, levels: Tensor) -> Tensor:
        """What is not exceeded with a probability. Args: levels `[…]`, from 0 to 1, to be broadcast against numbers."""


class Point(Outlook):
    """One number.

    Args:
        loss: of its error, as `torch.nn.functional.l1_loss`: the absolute error makes it the median, the squared error
            the mean, and Huber's (1964), which is squared up to a unit and absolute beyond it, what lies between them.
    """

    spread = False

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss_of = loss

    def loss(self, outputs: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        return self.loss_of(self.point(outputs) / unit, truth / unit, reduction="none")

    def point(self, outputs: Tensor) -> Tensor:
        centre, scale, shift = outputs.unbind(-1)
        return centre + scale * shift

    def quantile(self, outputs: Tensor, levels: Tensor) -> Tensor:
        raise UserError("quantiles need a model that says how sure it is: objective=quantiles, normal or student_t")


class Quantiles(Outlook):
    """Quantiles at fixed levels, by the pinball loss (Koenker and Bassett 1978): the mean over levels q of
    2 · max(q · e, (q − 1) · e), with e the truth minus the quantile. The median is the point."""

    def __init__(self, levels: Sequence[float]) -> None:
        if 0.5 not in levels or not all(0 < level < 1 for level in levels) or sorted(set(levels)) != list(levels):
            raise UserError(f"quantiles={list(levels)}: must rise between 0 and 1, with 0.5 among them")
        self.levels = list(levels)
        self.size = len(levels)

    def all(self, outputs: Tensor) -> Tensor:
        return outputs[..., :1] + outputs[..., 1:2] * outputs[..., 2:]

    def loss(self, outputs: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        return pinball(self.all(outputs), truth[..., None], levels_like(outputs, self.levels)).mean(-1) / unit

    def point(self, outputs: Tensor) -> Tensor:
        return self.all(outputs)[..., self.levels.index(0.5)]

    def quantile(self, outputs: Tensor, levels: Tensor) -> Tensor:
        """Between the levels, quantiles are interpolated; beyond them, they are the first and the last."""
        known, values = levels_like(outputs, self.levels), self.all(outputs).sort(-1).values
        shape = torch.broadcast_shapes(levels.shape, values.shape[:-1])
        levels, values = levels.to(outputs).clamp(known[0], known[-1]).expand(shape), values.expand(*shape, len(known))
        if len(known) == 1:
            return values[..., 0]
        above = torch.searchsorted(known, levels.contiguous()).clamp(1, len(known) - 1)
        share = (levels - known[above - 1]) / (known[above] - known[above - 1])
        low, high = (values.gather(-1, at[..., None])[..., 0] for at in (above - 1, above))
        return low + share * (high - low)


class Normal(Outlook):
    """A normal distribution, by its negative log-likelihood."""

    size = 2

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        centre, scale, shift, spread = outputs.unbind(-1)
        return centre + scale * shift, spread_of(scale, spread)

    def loss(self, outputs: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        mean, spread = self.parts(outputs)
        return 0.5 * ((truth - mean) / spread).square() + spread.log() + 0.5 * math.log(2 * math.pi)

    def point(self, outputs: Tensor) -> Tensor:
        return self.parts(outputs)[0]

    def quantile(self, outputs: Tensor, levels: Tensor) -> Tensor:
        mean, spread = self.parts(outputs)
        return mean + spread * torch.special.ndtri(levels.to(outputs))


class StudentT(Outlook):
    """Student's t distribution with more than 3 degrees of freedom, by its negative log-likelihood."""

    size = 3

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centre, scale, shift, spread, freedom = outputs.unbind(-1)
        return centre + scale * shift, spread_of(scale, spread), 3 + F.softplus(freedom + 2)

    def loss(self, outputs: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        mean, spread, freedom = self.parts(outputs)
        norm = spread.log() + 0.5 * freedom.log() + 0.5 * math.log(math.pi)
        norm = norm + torch.lgamma(0.5 * freedom) - torch.lgamma(0.5 * (freedom + 1.0))
        return 0.5 * (freedom + 1.0) * torch.log1p(((truth - mean) / spread) ** 2.0 / freedom) + norm

    def point(self, outputs: Tensor) -> Tensor:
        return self.parts(outputs)[0]

    def quantile(self, outputs: Tensor, levels: Tensor) -> Tensor:
        """By the expansion around the normal quantile (Abramowitz and Stegun 1964, 26.7.5)."""
        mean, spread, v = self.parts(outputs)
        z = torch.special.ndtri(levels.to(outputs))
        terms = (
            (z**3 + z) / (4 * v)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        )
        return mean + spread * (z + terms)


class NegativeBinomial(Outlook):
    """Counts, 0, 1, 2, …: mean μ and variance μ + αμ² (Salinas et al. 2020, arXiv 1704.04110), by the negative
    log-likelihood. Counts can be multiplied, not shifted: the mean is positive."""

    size = 2

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        centre, scale, shift, spread = outputs.unbind(-1)
        mean = centre + scale * shift
        least = 0.05 * scale + 1e-4
        return least * F.softplus(mean / least), F.softplus(spread) + LEAST

    def loss(self, outputs: Tensor, truth: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        mean, alpha = self.parts(outputs)
        count = 1 / alpha
        return -(
            torch.lgamma(truth + count)
            - torch.lgamma(count)
            - torch.lgamma(truth + 1)
            - count * torch.log1p(alpha * mean)
            + truth * (torch.log(alpha * mean) - torch.log1p(alpha * mean))
        )

    def point(self, outputs: Tensor) -> Tensor:
        return self.parts(outputs)[0]

    def quantile(self, outputs: Tensor, levels: Tensor) -> Tensor:
        """By mean, variance and skewness (Cornish and Fisher 1938), a whole number."""
        mean, alpha = self.parts(outputs)
        deviation = (mean + alpha * mean.square()).sqrt()
        z = torch.special.ndtri(levels.to(outputs))
        skewness = (1 + 2 * alpha * mean) / deviation
        return (mean + deviation * (z + skewness * (z.square() - 1) / 6)).round().clamp(min=0)


def levels_like(values: Tensor, levels: Sequence[float]) -> Tensor:
    """Levels beside some values. They are filled in on the device: a copy of a list would wait for it."""
    return torch.cat([values.new_full((1,), level) for level in levels])


def spread_of(scale: Tensor, raw: Tensor) -> Tensor:
    """The spread around a centre. A window of one value, as at the first step of a series, tells nothing of it: it is
    that of the series then, 1 as numbers are standardised; a scale near 0 would make such a forecast certain."""
    return torch.where(scale > FLAT, scale * (F.softplus(raw) + LEAST), 1.0)


def pinball(forecast: Tensor, truth: Tensor, levels: Tensor) -> Tensor:
    """The pinball loss, twice: of the median, it is the absolute error."""
    error = truth - forecast
    return 2 * torch.maximum(levels * error, (levels - 1) * error)


def outlook(kind: str, levels: Sequence[float] = LEVELS) -> Outlook:
    """
    Raises:
        UserError: there is no such kind, or levels are wrong.
    """
    kinds = {
        "huber": lambda: Point(F.huber_loss),
        "mse": lambda: Point(F.mse_loss),
        "mae": lambda: Point(F.l1_loss),
        "quantiles": lambda: Quantiles(levels),
        "normal": Normal,
        "student_t": StudentT,
        "negative_binomial": NegativeBinomial,
    }
    if kind not in kinds:
        raise UserError(
            f"objective={kind}: must be one of: {', '.join(kinds)}; monitor=valid/… says what best.ckpt is chosen by"
        )
    return kinds[kind]()
