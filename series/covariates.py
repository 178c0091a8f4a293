"""Covariates: the calendar, what a series is, and columns whose numbers are known ahead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor

from series.files import Series
from series.model import without_missing
from series.scale import Scale
from series.steps import DAY
from unroll.errors import UserError

WEEK, YEAR = 7 * DAY, 366 * DAY  # microseconds
PERIODS = {"day": DAY, "week": WEEK, "year": YEAR}


@dataclass(frozen=True)
class Covariates:
    """What a model reads beside the columns of a file, in this order, and which columns it knows ahead.

    Attributes:
        known: columns of the file whose numbers are known ahead, read up to the horizon.
        calendar: periods of `PERIODS`: where in it each step lies, as sine and cosine; known ahead too.
        static: the values that each static column has in the training file; a series is told by a 1 at its own.
    """

    known: Sequence[str] = ()
    calendar: Sequence[str] = ()
    static: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of columns that `of` returns."""
        return 2 * len(self.calendar) + sum(map(len, self.static.values()))

    def of(self, series: Series) -> numpy.ndarray:
        """Those of each step of a series, float64 `[steps, size]`."""
        parts = [self._phases(series.wall)] if self.calendar else []
        for value, values in zip(series.static, self.static.values(), strict=True):
            same = numpy.array([float(value == other) for other in values])
            parts.append(numpy.tile(same, (len(series.values), 1)))
        return numpy.concatenate(parts, 1) if parts else numpy.zeros((len(series.values), 0))

    def places(self, columns: Sequence[str]) -> list[int]:
        """Where the numbers that are known ahead are among those that a model reads."""
        calendar = range(len(columns), len(columns) + 2 * len(self.calendar))
        return [*(columns.index(name) for name in self.known), *calendar]

    def after(self, series: Series, columns: Sequence[str], steps: int, scale: Scale) -> Tensor:
        """What is known of the steps after a series, standardised, float32 `[steps, known]`.

        Args:
            series: the series; `after` has its columns.
            columns: their names.
            steps: how many.
            scale: how numbers are read.

        Raises:
            UserError: fewer steps of a column are known.
        """
        parts = []
        for name in self.known:
            place = columns.index(name)
            known = series.after[:steps, place] if len(series.after) else numpy.zeros(0)
            if len(known) < steps or numpy.isnan(known).any():
                raise UserError(
                    f"{steps} steps of {name} must be known after the end"
                    + (f" of the series {series.name}" if series.name else "")
                    + f", and {numpy.isfinite(known).sum()} are: add rows that have no targets to the file, or give "
                    f"them by --future FILE"
                )
            parts.append((known[:, None] - scale.mean[place]) / scale.std[place])
        if self.calendar:
            assert series.clock is not None
            parts.append(self._phases(series.clock.walls(steps)))
        return torch.from_numpy(numpy.concatenate(parts, 1)).float()

    def _phases(self, wall: numpy.ndarray | None) -> numpy.ndarray:
        assert wall is not None
        angles = [2 * numpy.pi * phase(wall, period) for period in self.calendar]
        return numpy.stack([wave(angle) for angle in angles for wave in (numpy.sin, numpy.cos)], 1)


def phase(wall: numpy.ndarray, period: str) -> numpy.ndarray:
    """How far each time is in its day, its week (from Monday) or its year, float64 from 0 to 1.

    Args:
        wall: datetime64[us] `[steps]`.
        period: of `PERIODS`.
    """
    if period == "year":
        since = wall - wall.astype("datetime64[Y]")
    else:
        since = (wall.astype("int64") + 3 * DAY) % PERIODS[period]  # 1970 began with a Thursday
    share: numpy.ndarray = since.astype("int64") / PERIODS[period]
    return share


def periods_of(series: Series) -> list[str]:
    """The periods that are longer than two steps of a series; none of a series without dates, or of one step."""
    if series.wall is None or len(series.wall) < 2:
        return []
    usual = int(numpy.median(numpy.diff(series.wall).astype("int64")))
    return [name for name, period in PERIODS.items() if usual < period / 2]


def with_known(values: Tensor, known: Sequence[int], horizon: int, after: Tensor | None = None) -> Tensor:
    """What a model reads, with what is known of the next `horizon` steps behind it.

    Args:
        values: float `[steps, features]`.
        known: the places that are known ahead.
        horizon: how many steps ahead.
        after: of the steps after the last, float `[horizon, known]`; like the last by default.

    Returns:
        `[steps, features + horizon · known]`.
    """
    if not known:
        return values
    read = without_missing(values)[:, list(known)]
    after = read[-1:].expand(horizon, -1) if after is None else after
    ahead = torch.cat([read, after])[1:].unfold(0, horizon, 1)
    return torch.cat([values, ahead.transpose(1, 2).flatten(1)], 1)
