"""The Lightning data module of series."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy
import torch
from torch import Tensor

from reading.tables import Form, Quotes
from reading.text import UTF_8, known_encoding
from series.files import Found, Gaps, Series, read_series
from series.numbers import Decimal
from unroll import checks
from unroll.checks import Count, Fraction, Rule, Size, checked
from unroll.errors import UserError
from unroll.streams import Stream
from unroll.training.data import Data

SHOWN = 8
Names = Annotated[
    Sequence[str],
    Rule(lambda value: checks.is_list(value) and len(set(value)) == len(value) > 0, "a list of columns, each once"),
]


class Span(NamedTuple):
    """The steps of a series that a split forecasts from.

    Attributes:
        name: of the series.
        values: of the series, standardised, float32 `[steps, columns]`.
        start, stop: the first step, and the one after the last; `horizon` later steps are their targets.
    """

    name: str
    values: Tensor
    start: int
    stop: int


class SeriesFiles(Data):
    """Series in a CSV or Parquet file, forecast some steps ahead.

    All numbers are standardised: minus the mean of the training split, divided by its standard deviation.

    Args:
        train: the file to train on.
        valid: the file to validate on; without one, the end of each series of the training file is set aside.
        valid_fraction: the share of each series' steps that is set aside then.
        columns: what the model reads; by default all columns but `series` and `time`.
        targets: the columns that it forecasts; by default `columns`.
        series, time, gaps, decimal, time_format, time_zone: as for `series.files.read_series`.
        encoding, separator, quotes, header: as for `reading.tables.read_table`.
        horizon: how many steps ahead.
        bptt: steps per window: how far back gradients reach.
        batch_size: rows side by side. With fewer series, each is cut into parts that are read side by side.
        warm_up: steps that are read but not scored at the start of a series; a later part reads those before it.
        shuffle: read the parts of the training split in another order in each epoch.
        seed: of the order.

    Raises:
        UserError: a file or a value in it is wrong, or an argument is out of range.
    """

    meaning = ("columns", "targets", "horizon")

    @checked
    def __init__(
        self,
        *,
        train: str,
        valid: str | None = None,
        valid_fraction: Fraction = 0.2,
        columns: Names | None = None,
        targets: Names | None = None,
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
        bptt: Size = 50,
        batch_size: Size = 16,
        warm_up: Count = 0,
        shuffle: bool = True,
        seed: Count = 0,
    ) -> None:
        super().__init__()
        self.files = (train, valid)
        self.valid_fraction = valid_fraction
        self.chosen = (as_names(columns), as_names(targets))
        self.how_read: dict[str, Any] = {
            "series": None if series is None else str(series),
            "time": None if time is None else str(time),
            "gaps": gaps,
            "decimal": decimal,
            "time_format": time_format,
            "time_zone": time_zone,
            "known_format": None,
            **Form(encoding=known_encoding(encoding), separator=separator, quotes=quotes, header=header),
        }
        self.horizon = horizon
        self.bptt = bptt
        self.batch_size = batch_size
        self.warm_up = warm_up
        self.shuffle = shuffle
        self.seed = seed
        self.too_short: dict[str, list[str]] = {}  # the names of series, by the split that they are left out of

    @cached_property
    def in_training(self) -> Found:
        """What is in the training file: the columns that are read or forecast, and the series."""
        columns, targets = self.chosen
        wanted = None if columns is None else [*columns, *(name for name in targets or () if name not in columns)]
        found = read_series(self.files[0], wanted, **self.how_read)
        for name in targets or ():
            if name not in found.columns:
                raise UserError(f"data.targets: there is no column {name}; choose from: {', '.join(found.columns)}")
        return found

    @cached_property
    def in_validation(self) -> Found | None:
        """What is in the validation file; None if there is none."""
        if self.files[1] is None:
            return None
        return read_series(
            self.files[1], self.names, split="valid", **{**self.how_read, "known_format": self.time_format}
        )

    @property
    def time_format(self) -> str | None:
        """How the training file writes times; None for numbers, and without a time column."""
        return self.how_read["known_format"] or self.in_training.time_format

    @property
    def columns(self) -> list[str]:
        columns, _ = self.chosen
        return self.in_training.columns if columns is None else list(columns)

    @property
    def targets(self) -> list[str]:
        _, targets = self.chosen
        return self.columns if targets is None else list(targets)

    @property
    def names(self) -> list[str]:
        """The columns of the values: what is read, and then what is forecast only."""
        return [*self.columns, *(name for name in self.targets if name not in self.columns)]

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each column (`names`) over the steps of the training split."""
        values = numpy.concatenate([series.values[: self._cut(series)] for series in self.in_training.series])
        return standard(values)

    def _cut(self, series: Series) -> int:
        """The number of steps of a series in the training file that are for training."""
        steps = len(series.values)
        return steps if self.files[1] is not None else steps - math.ceil(steps * self.valid_fraction)

    def _standardised(self, series: Series) -> Tensor:
        mean, std = self.statistics
        return torch.from_numpy((series.values - mean) / std).float()

    @cached_property
    def train(self) -> Stream:
        spans = []
        for series in self.in_training.series:
            cut = self._cut(series)
            spans.append(Span(series.name, self._standardised(series)[:cut], 0, cut - self.horizon))
        return self._stream("training", self._usable("training", spans), shuffle=self.shuffle)

    @cached_property
    def _valid_spans(self) -> list[Span]:
        """Validation. Steps before it, of the training split, are there to warm up with."""
        if self.in_validation is not None:
            spans = [
                Span(series.name, self._standardised(series), 0, len(series.values) - self.horizon)
                for series in self.in_validation.series
            ]
        else:
            spans = []
            for series in self.in_training.series:
                first = max(0, self._cut(series) - self.horizon)
                spans.append(Span(series.name, self._standardised(series), first, len(series.values) - self.horizon))
        return self._usable("validation", spans)

    @cached_property
    def valid(self) -> Stream:
        return self._stream("validation", self._valid_spans, shuffle=False)

    def _usable(self, split: str, spans: Sequence[Span]) -> list[Span]:
        """Those with a step to score."""
        usable = [span for span in spans if span.stop - max(span.start - self.warm_up, 0) > self.warm_up]
        short = [span.name for span in spans if span.name and span not in usable]
        if short:
            self.too_short[split] = short[:SHOWN] + (["…"] if len(short) > SHOWN else [])
        if not usable:
            raise UserError(
                f"{split} split: no series is longer than data.warm_up={self.warm_up} and data.horizon={self.horizon} "
                f"together; the longest has {max((len(span.values) for span in spans), default=0)} steps"
            )
        return usable

    def _stream(self, split: str, spans: Sequence[Span], shuffle: bool) -> Stream:
        parts = math.ceil(self.batch_size / len(spans))
        inputs, targets = zip(*(pair for span in spans for pair in self._parts(span, parts)), strict=True)
        try:
            return Stream(
                inputs, self.batch_size, self.bptt, targets, shuffle=shuffle, seed=self.seed, warm_up=self.warm_up
            )
        except UserError as error:
            raise UserError(f"{split} split: {error}") from None

    def _parts(self, span: Span, count: int) -> list[tuple[Tensor, Tensor]]:
        """Inputs `[steps, columns]` and targets `[steps, targets, 2]` of a span, in parts of at least a window."""
        _, values, start, stop = span
        count = max(1, min(count, (stop - start) // max(self.bptt, self.warm_up + 1)))
        at = [self.names.index(name) for name in self.targets]
        known = values[:, at]
        pairs = torch.stack([known[self.horizon :], known[: len(known) - self.horizon]], -1)
        bounds = torch.linspace(start, stop, count + 1).round().long().tolist()
        before = [max(0, first - self.warm_up) for first in bounds[:-1]]
        inputs = values[:, : len(self.columns)]
        return [(inputs[first:last], pairs[first:last]) for first, last in zip(before, bounds[1:], strict=True)]

    def model_arguments(self) -> dict[str, Any]:
        known = all(name in self.columns for name in self.targets)
        last = [self.columns.index(name) for name in self.targets] if known else None
        return {"features": len(self.columns), "targets": len(self.targets), "last": last}

    def description(self) -> dict[str, Any]:
        mean, std = self.statistics
        return {
            "columns": self.columns,
            "targets": self.targets,
            "horizon": self.horizon,
            "mean": mean,
            "std": std,
            "file": {**self.how_read, "known_format": self.time_format},
        }

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The columns, and the scale: a file that has other numbers in it is read as the model was trained."""
        if {"columns", "targets", "mean", "std"} <= set(description):
            kept = (description["columns"], description["targets"])
            columns, targets = (typed or known for typed, known in zip(self.chosen, kept, strict=True))
            self.chosen = columns, targets
            self.statistics = description["mean"], description["std"]
            self.how_read["known_format"] = description["file"]["known_format"]

    def summary(self) -> str:
        counts = [sum(stream.layout.counts) for stream in (self.train, self.valid)]  # type: ignore[attr-defined]
        found = [self.in_training] if self.in_validation is None else [self.in_training, self.in_validation]
        constant = [name for name, is_constant in zip(self.names, self._constant, strict=True) if is_constant]
        return "; ".join(
            [
                f"{counts[0]:,} training and {counts[1]:,} validation steps of {len(found[0].series):,} series",
                f"reads {', '.join(self.columns)}, forecasts {', '.join(self.targets)} {self.horizon} ahead",
                *(note for of_file in found for note in of_file.notes),
                *(f"{name} has one value throughout training, and is scaled by 1" for name in constant),
                *(f"too short for the {split} split: {', '.join(names)}" for split, names in self.too_short.items()),
            ]
        )

    @property
    def _constant(self) -> list[bool]:
        values = numpy.concatenate([series.values[: self._cut(series)] for series in self.in_training.series])
        return is_constant(values).tolist()

    def statistics_of(self, names: Sequence[str]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of these columns."""
        at = [self.names.index(name) for name in names]
        mean, std = self.statistics
        return [mean[number] for number in at], [std[number] for number in at]

    def first_of_validation(self, steps: int) -> tuple[Tensor, Tensor]:
        """The beginning of validation's longest series: inputs `[steps, columns]`, targets `[steps, targets, 2]`."""
        longest = max(self._valid_spans, key=lambda span: span.stop - span.start)
        inputs, targets = self._parts(longest, count=1)[0]
        return inputs[:steps], targets[:steps]

    def show(self, folder: Path) -> str:
        """The first steps of the first training window, in the units of the file."""
        window = next(self.train.batches(0))
        read, truth = (
            part.double() * torch.tensor(std, dtype=torch.float64) + torch.tensor(mean, dtype=torch.float64)
            for part, (mean, std) in (
                (window.inputs[0, :SHOWN], self.statistics_of(self.columns)),
                (window.targets[0, :SHOWN, :, 0], self.statistics_of(self.targets)),
            )
        )
        titles = [*self.columns, *(f"{name}, {self.horizon} ahead" for name in self.targets)]
        stds = [*self.statistics_of(self.columns)[1], *self.statistics_of(self.targets)[1]]
        rows = [list(map(written, row, stds)) for row in torch.cat([read, truth], 1).tolist()]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in [titles, *rows])


def standard(values: numpy.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column, to four digits of the deviation: the same on every machine. The
    deviation of a column of one value is 1.

    Args:
        values: float64 `[steps, columns]`.
    """
    means, stds = [], []
    for column, constant in zip(values.T, is_constant(values).tolist(), strict=True):
        if constant:
            means.append(column[0].item())
            stds.append(1.0)
            continue
        mean, std = column.mean().item(), column.std().item()
        digits = 3 - math.floor(math.log10(std))
        means.append(round(mean, digits))
        stds.append(round(std, digits))
    return means, stds


def is_constant(values: numpy.ndarray) -> numpy.ndarray:
    """Whether each column has one value throughout, but for the rounding of its last digits, bool `[columns]`."""
    return values.max(0) - values.min(0) <= 1e-12 * numpy.abs(values).max(0)


def as_names(columns: Sequence[Any] | None) -> list[str] | None:
    """Names of columns that YAML takes for something else, such as 2020 or null."""
    return None if columns is None else ["null" if name is None else str(name) for name in columns]


def written(value: float, std: float) -> str:
    """A number with as many digits as tell it from others of its column: four of the column's standard deviation."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(std)))}f}"
