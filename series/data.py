"""The Lightning data module of series."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
import torch
from torch import Tensor

from reading.tables import Form, Quotes
from reading.text import UTF_8, known_encoding
from series.covariates import Covariates, periods_of
from series.files import Found, Gaps, Series, ended, read_series
from series.model import Context
from series.numbers import Decimal
from series.scale import Scale, is_constant
from series.simple import find_season, fit_linear, owa_unit, usual_error
from series.windows import ForecastWindows, Span
from unroll import checks
from unroll.checks import Count, FileName, Fraction, Rule, Size, checked
from unroll.errors import UserError
from unroll.training.data import Data

SHOWN = 8
COUNTS = "negative_binomial"  # an objective
LONGEST = 336  # steps of a context, by default
MOST = 96  # steps of a segment
FEW, FIFTH, TENTH = 10, 0.2, 0.1  # up to so many series, a fifth of each is set aside, else a tenth
SOME = 200  # series that a season is looked for in
Names = Annotated[
    Sequence[str],
    Rule(lambda value: checks.is_list(value) and len(set(value)) == len(value) > 0, "a list of columns, each once"),
]


class SeriesFiles(Data):
    """Series in a CSV or Parquet file, whose next steps are forecast from each step.

    The numbers of each series are standardised: minus the mean of its training split, divided by its deviation. A
    series that is in no training split has those of its own numbers.

    Args:
        train: the file to train on.
        valid: the file to validate on; without one, the end of each series of the training file is set aside.
        valid_fraction: the share of each series' steps that is set aside then; by default a fifth, of more than ten
            series a tenth.
        columns: what the model reads; by default all columns but `series` and `time`.
        targets: the columns that it forecasts; by default `columns`, without those that are known ahead.
        known: columns whose numbers are known ahead, such as prices or holidays: up to the horizon, they are read for
            each step that is forecast. At the end of a file, rows without targets have those of the steps to come.
        calendar: read the time of the day, of the week and of the year, of these steps too.
        static: columns with one value for each series, such as its region, read as one of those in the training file.
        wide, series, time, gaps, decimal, time_format, time_zone: as for `series.files.read_series`.
        encoding, separator, quotes, header: as for `reading.tables.read_table`.
        horizon: how many steps are forecast.
        context: how many of the latest values are read at once; by default half of a usual series, 336 at most.
        season: after how many steps values come again; by default a day of hours, a week of days, a year of months, or
            what is found in the training split.
        log: read logarithms of the targets: true, or false; by default, those of each series that moves in proportion
            to its level (`series.scale.changes_with_level`), unless the objective is "mse".
        unit: what the losses of each series are in: "mase", the mean absolute error of its seasonal naive forecast, or
            "owa", that and a share of its level, as in M4's overall weighted average (`series.simple.owa_unit`).
        bptt: steps per window: how far back gradients reach.
        batch_size: rows side by side. With fewer series, each is cut into parts that are read side by side.
        warm_up: steps at the start of a series that are read but not forecast from; by default, in training, as many as
            the context, but no more than half of them.
        shuffle: read the parts of the training split in another order in each epoch.
        seed: of the order.
        objective: what is forecast; of "negative_binomial", numbers are counts, and not standardised.

    Raises:
        UserError: a file or a value in it is wrong, or an argument is out of range.
    """

    meaning = ("columns", "targets", "horizon")

    @checked
    def __init__(
        self,
        *,
        train: FileName,
        valid: FileName | None = None,
        valid_fraction: Fraction | None = None,
        columns: Names | None = None,
        targets: Names | None = None,
        known: Names | None = None,
        calendar: bool = False,
        static: Names | None = None,
        wide: bool = False,
        series: str | int | None = None,
        time: str | int | None = None,
        gaps: Gaps = "refuse",
        decimal: Decimal | None = None,
        time_format: str | None = None,
        time_zone: str | None = None,
        encoding: str = UTF_8,
        separator: str | None = None,
        quotes: Quotes | None = None,
        header: bool | None = None,
        horizon: Size = 1,
        context: Context | None = None,
        season: Size | None = None,
        log: bool | None = None,
        unit: Literal["mase", "owa"] = "mase",
        bptt: Size = 48,
        batch_size: Size = 16,
        warm_up: Count | None = None,
        shuffle: bool = True,
        seed: Count = 0,
        objective: str = "huber",
    ) -> None:
        super().__init__()
        self.files = (train, valid)
        self.valid_fraction = valid_fraction
        self.chosen = (as_names(columns), as_names(targets))
        self.known, self.calendar = as_names(known) or [], calendar
        self.how_read: dict[str, Any] = {
            "series": None if series is None else str(series),
            "time": None if time is None else str(time),
            "gaps": gaps,
            "decimal": decimal,
            "time_format": time_format,
            "time_zone": time_zone,
            "known_format": None,
            "known_decimal": None,
            "static": as_names(static) or [],
            "wide": wide,
            **Form(encoding=known_encoding(encoding), separator=separator, quotes=quotes, header=header),
        }
        self.horizon = horizon
        self.typed = (context, season)
        self.unit = unit
        self.bptt = bptt
        self.batch_size = batch_size
        self.warm_up = warm_up
        self.shuffle = shuffle
        self.seed = seed
        self.counts = objective == COUNTS
        if log and self.counts:
            raise UserError(f"data.log=true: counts are read as they are; leave out that or objective={COUNTS}")
        self.log = False if log is None and objective == "mse" else log  # the mean of logarithms is not that of numbers
        self.too_short: dict[str, list[str]] = {}  # the names of series, by the split that they are left out of

    @cached_property
    def in_training(self) -> Found:
        """What is in the training file: the columns that are read or forecast, and the series."""
        columns, targets = self.chosen
        wanted = None if columns is None else list(dict.fromkeys([*columns, *(targets or ()), *self.known]))
        found = read_series(self.files[0], wanted, **self.how_read)
        for key, names in (("targets", targets or ()), ("known", self.known)):
            for name in names:
                if name not in found.columns:
                    raise UserError(f"data.{key}: there is no column {name}; choose from: {', '.join(found.columns)}")
        return self._ended(found)

    def _ended(self, found: Found) -> Found:
        """The series to their last targets, if rows behind them may have what is known ahead."""
        targets = [place for place, name in enumerate(found.columns) if name in self._targets_among(found.columns)]
        if not targets:
            raise UserError("data.known: nothing is left to be forecast; data.targets=[…] names what is")
        return found._replace(series=[ended(series, targets) for series in found.series]) if self.known else found

    def _targets_among(self, columns: Sequence[str]) -> list[str]:
        _, targets = self.chosen
        return [name for name in columns if name not in self.known] if targets is None else list(targets)

    @cached_property
    def in_validation(self) -> Found | None:
        """What is in the validation file; None if there is none."""
        if self.files[1] is None:
            return None
        return self._ended(read_series(self.files[1], self.columns, split="valid", **{**self.how_read, **self.writing}))

    @cached_property
    def writing(self) -> dict[str, str | None]:
        """How the training file writes times and decimals, as far as it does: arguments of `read_series`."""
        return {"known_format": self.in_training.time_format, "known_decimal": self.in_training.decimal}

    @property
    def columns(self) -> list[str]:
        """What is read of a file: `columns`, the targets, and what is known ahead."""
        columns, targets = self.chosen
        if columns is None:
            return self.in_training.columns
        return list(dict.fromkeys([*columns, *(targets or ()), *self.known]))

    @property
    def targets(self) -> list[str]:
        return self._targets_among(self.columns)

    @cached_property
    def covariates(self) -> Covariates:
        """What is read beside the columns.

        Raises:
            UserError: a calendar is wanted, and there are no dates.
        """
        series = self.in_training.series
        periods: list[str] = []
        if self.calendar:
            if series[0].wall is None:
                raise UserError("data.calendar=true: is for files with dates; data.time=… names their column")
            periods = next((found for one in series if (found := periods_of(one))), [])
        kinds = zip(*(one.static for one in series), strict=True)
        static = {
            name: list(dict.fromkeys(values)) for name, values in zip(self.how_read["static"], kinds, strict=True)
        }
        return Covariates(self.known, periods, static)

    @cached_property
    def scales(self) -> dict[str, Scale]:
        """How the numbers of each series are read, by its name: as the training split has them."""
        parts: dict[str, list[Series]] = {}
        for series in self.in_training.series:
            parts.setdefault(series.name, []).append(series)
        return {name: self.scale_of(series) for name, series in parts.items()}

    def scale_of(self, parts: Sequence[Series]) -> Scale:
        """How the numbers of a series are read, of which there are some parts; counts are left as they are.

        Raises:
            UserError: counts are wanted, and these are none; or logarithms, and some have none.
        """
        values = numpy.concatenate([series.values[: self._cut(series) or None] for series in parts])
        if not self.counts:
            whole = numpy.concatenate([series.values for series in parts])
            return Scale.fitting(values, whole, self.at, self.log, self.season, parts[0].name)
        wrong = values[numpy.isfinite(values) & ((values < 0) | (values != values.round()))]
        if len(wrong):
            raise UserError(f"objective={COUNTS}: is for counts (0, 1, 2, …); there is {wrong[0]:g}")
        return Scale.unscaled(values.shape[1])

    def _cut(self, series: Series) -> int:
        """The number of steps of a series in the training file that are for training."""
        steps = len(series.values)
        if self.files[1] is not None:
            return steps
        share = self.valid_fraction or (FIFTH if len(self.in_training.series) <= FEW else TENTH)
        return max(0, steps - max(math.ceil(steps * share), self.horizon))

    def _span(self, series: Series, start: int, stop: int) -> Span:
        """Steps of a series to forecast from. Args: stop: the end of what may be read."""
        scale = self.scales.get(series.name) or self.scale_of([series])
        columns = scale.standardised(series.values, series.name)
        values = torch.from_numpy(numpy.concatenate([columns, self.covariates.of(series)], 1)[:stop]).float()
        cut = self._cut(series)
        unit = usual_error(columns[:cut], self.season)
        if self.unit == "owa":
            unit = [*map(owa_unit, unit, scale.level(series.values[:cut]))]
        return Span(series.name, values, start, stop - self.horizon, scale, unit)

    @property
    def known_at(self) -> list[int]:
        """Where what is known ahead is among what a model reads."""
        return self.covariates.places(self.columns)

    @property
    def at(self) -> list[int]:
        """Where the targets are among the columns."""
        return [self.columns.index(name) for name in self.targets]

    @cached_property
    def season(self) -> int:
        """Steps after which values come again: as typed, by the time from step to step, or found in training."""
        found = self.in_training.series
        clock = found[0].clock
        by_time = None if clock is None or clock.wall is None or clock.step is None else clock.step.season
        some = found[:: math.ceil(len(found) / SOME)]
        return self.typed[1] or by_time or find_season([one.values[: self._cut(one), self.at] for one in some])

    @cached_property
    def missing(self) -> bool:
        """Whether numbers are missing in the training file."""
        return any(numpy.isnan(series.values).any() for series in self.in_training.series)

    @cached_property
    def context(self) -> int:
        usual = int(numpy.median([self._cut(series) for series in self.in_training.series]))
        return self.typed[0] or max(2, min(LONGEST, usual // 2))

    @property
    def segment(self) -> int:
        """Steps that the recurrent layers read at once: a season, unless it is long."""
        return self.season if self.season <= min(MOST, self.context // 2) else 1

    @cached_property
    def train_spans(self) -> list[Span]:
        spans = []
        for series in self.in_training.series:
            cut = self._cut(series)
            usual = min(self.context, max(0, cut - self.horizon) // 2)
            spans.append(self._span(series, usual if self.warm_up is None else self.warm_up, cut))
        return self._usable("training", spans)

    @cached_property
    def valid_spans(self) -> list[Span]:
        """Validation: each series from its beginning, the steps of the training split first."""
        spans = []
        for series in (self.in_validation or self.in_training).series:
            first = 0 if self.in_validation is not None else self._cut(series) - 1
            spans.append(self._span(series, max(first, self.warm_up or 0), len(series.values)))
        return self._usable("validation", spans)

    def _usable(self, split: str, spans: Sequence[Span]) -> list[Span]:
        """Those with a step to forecast from."""
        usable = [span for span in spans if span.stop > span.start]
        used = {span.name for span in usable}
        short = [name for name in dict.fromkeys(span.name for span in spans) if name and name not in used]
        if short:
            self.too_short[split] = short[:SHOWN] + ([f"{len(short) - SHOWN:,} more"] if len(short) > SHOWN else [])
        if not usable:
            longest = max((len(span.values) for span in spans), default=0)
            raise UserError(
                f"{split} split: no series is longer than data.warm_up={self.warm_up or 0} and "
                f"data.horizon={self.horizon} together; the longest has {longest} steps"
            )
        return usable

    @cached_property
    def train(self) -> ForecastWindows:
        spans = self.train_spans
        return ForecastWindows(
            spans, self.at, self.horizon, self.batch_size, self.bptt, parts=math.ceil(self.batch_size / len(spans)),
            before=self.context, known=self.known_at, shuffle=self.shuffle, seed=self.seed,
        )  # fmt: skip

    @cached_property
    def valid(self) -> ForecastWindows:
        return ForecastWindows(
            self.valid_spans, self.at, self.horizon, self.batch_size, self.bptt, season=self.season,
            known=self.known_at,
        )  # fmt: skip

    def linear(self, context: int) -> Tensor:
        """The weights of the linear model, `[horizon, context]`, fitted to the training split."""
        return fit_linear(self.train_spans, self.at, self.horizon, context)

    def model_arguments(self) -> dict[str, Any]:
        return {
            "features": len(self.columns) + self.covariates.size,
            "horizon": self.horizon,
            "last": self.at,
            "context": self.context,
            "segment": self.segment,
            "missing": self.missing,
            "known": self.known_at,
        }

    def description(self) -> dict[str, Any]:
        return {
            "columns": self.columns,
            "targets": self.targets,
            "horizon": self.horizon,
            "context": self.context,
            "season": self.season,
            "counts": self.counts,
            "log": self.log,
            "missing": self.missing,
            "covariates": asdict(self.covariates),
            "scales": {name: list(scale) for name, scale in self.scales.items()},
            "file": {**self.how_read, **self.writing},
        }

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The columns, and the scales: a file that has other numbers in it is read as the model was trained."""
        if {"columns", "targets", "scales", "season", "context", "counts", "log", "missing", "covariates"} <= set(
            description
        ):
            kept = (description["columns"], description["targets"])
            columns, targets = (typed or known for typed, known in zip(self.chosen, kept, strict=True))
            self.chosen = columns, targets
            self.scales = {name: Scale(*parts) for name, parts in description["scales"].items()}
            self.context, self.season = description["context"], description["season"]
            self.counts, self.missing, self.log = (description[name] for name in ("counts", "missing", "log"))
            self.covariates = Covariates(**description["covariates"])
            self.known, self.how_read["static"] = list(self.covariates.known), list(self.covariates.static)
            self.writing = {name: description["file"].get(name) for name in ("known_format", "known_decimal")}
            self.how_read |= self.writing

    def summary(self) -> str:
        counts = [sum(span.stop - span.start for span in spans) for spans in (self.train_spans, self.valid_spans)]
        found = [self.in_training] if self.in_validation is None else [self.in_training, self.in_validation]
        logarithms = self._with_logarithms
        constant = [name for name, is_constant in zip(self.columns, self._constant, strict=True) if is_constant]
        return "; ".join(
            [
                f"{counts[0]:,} training and {counts[1]:,} validation steps of {len(found[0].series):,} series",
                f"reads {', '.join(self.columns)}, forecasts the next {self.horizon} of {', '.join(self.targets)}",
                *([f"knows {', '.join(self.known)} ahead"] if self.known else []),
                *([f"reads the time of the {', '.join(self.covariates.calendar)}"] if self.covariates.calendar else []),
                *(f"{name}: {len(values):,} values" for name, values in self.covariates.static.items()),
                f"a season of {self.season} steps" if self.season > 1 else "no season",
                *([f"reads logarithms {logarithms}"] if logarithms else []),
                *(note for of_file in found for note in of_file.notes),
                *(f"{name} has one value throughout training, and is scaled by 1" for name in constant),
                *(f"too short for the {split} split: {', '.join(names)}" for split, names in self.too_short.items()),
            ]
        )

    @property
    def _with_logarithms(self) -> str:
        """The targets whose logarithms are read, and of how many series, if not of all."""
        scales = [*self.scales.values()]
        counts = {
            name: sum(scale.log[place] for scale in scales) for name, place in zip(self.targets, self.at, strict=True)
        }
        return ", ".join(
            f"of {name}" + ("" if count == len(scales) else f" in {count:,} of {len(scales):,} series")
            for name, count in counts.items()
            if count
        )

    @property
    def _constant(self) -> list[bool]:
        values = numpy.concatenate([series.values[: self._cut(series)] for series in self.in_training.series])
        return is_constant(values).tolist()

    def longest_of_validation(self) -> Span:
        return max(self.valid_spans, key=lambda span: span.stop - span.start)

    def show(self, folder: Path) -> str:
        """The first steps of a training series, in the units of the file, and what is to be forecast from the last."""
        span = self.train_spans[0]
        count = min(SHOWN, len(span.values) - 1)
        columns = span.values[:, : len(self.columns)]
        read = span.scale.in_units(columns[:count])
        ahead = span.scale.in_units(columns[count : count + min(self.horizon, SHOWN)])
        rows = [["", *self.columns]]
        for name, values in (("read", read), ("to forecast", ahead)):
            rows += [[name, *map(written, row, span.scale.deviation)] for row in values.tolist()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def as_names(columns: Sequence[Any] | None) -> list[str] | None:
    """Names of columns that YAML takes for something else, such as 2020 or null."""
    return None if columns is None else ["null" if name is None else str(name) for name in columns]


def written(value: float, std: float) -> str:
    """A number with as many digits as tell it from others of its column: four of the column's standard deviation."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(std)))}f}"
