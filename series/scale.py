"""How the numbers of a series are read: standardised, or the logarithms of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from unroll.errors import UserError

LEAST_CHANGES, CLEARLY = 16, 2.0  # of a series, and of a log-likelihood, for logarithms


class Scale(NamedTuple):
    """What is taken from the columns of a series, and what they are divided by, in training and ever after.

    Attributes:
        mean, std: of each column; where `log` is true, of the logarithms of its numbers.
        log: whether logarithms are read.
        deviation: the standard deviation of each column's own numbers, what errors are told in.
    """

    mean: list[float]
    std: list[float]
    log: list[bool]
    deviation: list[float]

    @classmethod
    def of(cls, values: numpy.ndarray, log: Sequence[int] = ()) -> "Scale":
        """That of numbers, float64 `[steps, columns]`; nan where one is missing. Args: log: the places of columns
        whose logarithms are read, which are above 0."""
        read = logarithms(values, log)
        mean, std = standard(read)
        return cls(mean, std, [place in log for place in range(values.shape[1])], standard(values)[1])

    @classmethod
    def fitting(
        cls,
        values: numpy.ndarray,
        whole: numpy.ndarray,
        targets: Sequence[int],
        log: bool | None,
        season: int,
        name: str,
    ) -> "Scale":
        """That of a series, with logarithms of the targets if they are wanted, or fit.

        Args:
            values: of training, float64 `[steps, columns]`; nan where one is missing.
            whole: those that are known, of training and behind it.
            targets: their places.
            log: true: of all targets; false: of none; null: of those that change with their level.
            season: in steps.
            name: of the series.

        Raises:
            UserError: there is a number that has no logarithm, with `log` true.
        """
        wrong = whole[:, list(targets)][whole[:, list(targets)] <= 0]
        if log and len(wrong):
            of = f" in the series {name}" if name else ""
            raise UserError(f"data.log=true: logarithms are read of numbers above 0; there is {wrong[0]:g}{of}")
        if log is None:
            chosen = [
                place
                for place in targets
                if not (whole[:, place] <= 0).any() and changes_with_level(values[:, place], season)
            ]
            return cls.of(values, chosen)
        return cls.of(values, targets if log else ())

    @classmethod
    def unscaled(cls, columns: int) -> "Scale":
        """That of numbers which are read as they are."""
        return cls([0.0] * columns, [1.0] * columns, [False] * columns, [1.0] * columns)

    def standardised(self, values: numpy.ndarray, name: str = "") -> numpy.ndarray:
        """Numbers as the model reads them.

        Args:
            values: float64 `[steps, columns]`.
            name: of the series.

        Raises:
            UserError: a logarithm is wanted of a number that has none.
        """
        log = [place for place, is_log in enumerate(self.log) if is_log]
        if log and (wrong := values[:, log][values[:, log] <= 0]).size:
            of = f" of the series {name}" if name else ""
            raise UserError(
                f"the model reads logarithms{of}, which had numbers above 0 alone in training; now there is "
                f"{wrong[0]:g}; a run with data.log=false reads the numbers themselves"
            )
        found: numpy.ndarray = (logarithms(values, log) - self.mean) / self.std
        return found

    def level(self, values: numpy.ndarray) -> list[float]:
        """The mean size of each column's numbers as an error of standardised ones; of logarithms, that of a unit.

        Args:
            values: float64 `[steps, columns]`; nan where one is missing.
        """
        found = []
        for column, std, log, deviation in zip(values.T, self.std, self.log, self.deviation, strict=True):
            known = numpy.abs(column[numpy.isfinite(column)])
            found.append(1 / std if log else float(known.mean()) / deviation if len(known) else 0.0)
        return found

    def in_units(self, values: Tensor, at: Sequence[int] | None = None) -> Tensor:
        """Standardised numbers as the file has them, float64. Args: values `[…, columns]`, or those `at`."""
        places = ... if at is None else list(at)
        mean, std = (torch.tensor(part, dtype=torch.float64)[places] for part in (self.mean, self.std))
        found = values.double() * std + mean
        return torch.where(torch.tensor(self.log)[places], found.exp(), found)


def curve(scale: Scale, at: Sequence[int]) -> list[tuple[float, float]]:
    """What `in_deviations` needs to know of columns: of those whose logarithms are read, their deviation, and their
    mean as that of numbers in deviations of their own; else zeros."""
    return [
        (scale.std[place], scale.mean[place] - math.log(scale.deviation[place])) if scale.log[place] else (0.0, 0.0)
        for place in at
    ]


def in_deviations(values: Tensor, std: Tensor, mean: Tensor) -> Tensor:
    """Standardised numbers, or logarithms, in deviations of the file's own numbers: what errors are told in. Their
    level is not that of standardised numbers. Args: std, mean: of `curve`."""
    return torch.where(std > 0, (values * std + mean).exp(), values)


def logarithms(values: numpy.ndarray, at: Sequence[int]) -> numpy.ndarray:
    """Numbers, and the logarithms of some columns, float64 `[steps, columns]`."""
    read = values.copy()
    read[:, list(at)] = numpy.log(values[:, list(at)])
    return read


def changes_with_level(values: numpy.ndarray, season: int) -> bool:
    """Whether a series moves in proportion to where it is, so that its logarithms move evenly.

    All its numbers are above 0, and what changes over a season is clearly more likely as a Laplace distribution of
    logarithms than of numbers (as Box and Cox 1964 choose a transformation).

    Args:
        values: float64 `[steps]`; nan where one is missing.
        season: in steps.
    """
    lag = season if len(values) > 2 * season else 1
    before, after = values[:-lag], values[lag:]
    known = numpy.isfinite(before) & numpy.isfinite(after)
    if known.sum() < LEAST_CHANGES or not (values[numpy.isfinite(values)] > 0).all():
        return False
    before, after = before[known], after[known]
    change, ratio = numpy.abs(after - before).mean(), numpy.abs(numpy.log(after / before)).mean()
    if not change or not ratio:
        return False
    likelier = len(after) * (numpy.log(change) - numpy.log(ratio)) - numpy.log(after).sum()
    return bool(likelier > CLEARLY)


def standard(values: numpy.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column, to four digits of the deviation: the same on every machine. The
    deviation of a column of one value is 1; a column without values has those of numbers that are standardised already.

    Args:
        values: float64 `[steps, columns]`; those that are missing, nan, are left out.
    """
    means, stds = [], []
    for column, constant in zip(values.T, is_constant(values).tolist(), strict=True):
        column = column[numpy.isfinite(column)]
        mean, std = (column.mean().item(), column.std().item()) if len(column) else (0.0, 0.0)
        if constant or not std:  # the squares of numbers below 1e-162 are 0
            means.append(column[0].item() if len(column) else mean)
            stds.append(1.0)
            continue
        digits = 3 - math.floor(math.log10(std))
        means.append(round(mean, digits))
        stds.append(round(std, digits))
    return means, stds


def is_constant(values: numpy.ndarray) -> numpy.ndarray:
    """Whether each column has one value throughout, but for the rounding of its last digits, bool `[columns]`."""
    known = numpy.isfinite(values)
    largest, least = numpy.where(known, values, -numpy.inf).max(0), numpy.where(known, values, numpy.inf).min(0)
    one_value: numpy.ndarray = ~(largest - least > 1e-12 * numpy.maximum(numpy.abs(largest), numpy.abs(least)))
    return one_value | ~known.any(0)
