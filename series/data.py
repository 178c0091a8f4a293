"""The Lightning data module of series."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy
import torch
from torch import Tensor

from series.files import Gaps, Series, read_series
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
        values: of the series, standardised, float32 `[steps, columns]`.
        start, stop: the first step, and the one after the last; `horizon` later steps are their targets.
    """

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
        series, time, gaps: as for `series.files.read_series`.
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
        series: str | None = None,
        time: str | None = None,
        gaps: Gaps = "refuse",
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
        self.chosen = (columns, targets)
        self.how_read = (series, time, gaps)
        self.horizon = horizon
        self.bptt = bptt
        self.batch_size = batch_size
        self.warm_up = warm_up
        self.shuffle = shuffle
        self.seed = seed

    @cached_property
    def in_training(self) -> tuple[list[str], list[Series]]:
        """What is in the training file: the columns that are read or forecast, and the series."""
        columns, targets = self.chosen
        wanted = None if columns is None else [*columns, *(name for name in targets or () if name not in columns)]
        names, found = read_series(self.files[0], wanted, *self.how_read)
        for name in targets or ():
            if name not in names:
                raise UserError(f"data.targets: there is no column {name}; choose from: {', '.join(names)}")
        return names, found

    @cached_property
    def in_validation(self) -> list[Series] | None:
        """The series in the validation file; None if there is none."""
        return None if self.files[1] is None else read_series(self.files[1], self.names, *self.how_read)[1]

    @property
    def columns(self) -> list[str]:
        columns, _ = self.chosen
        return self.in_training[0] if columns is None else list(columns)

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
        values = numpy.concatenate([series.values[: self._cut(series)] for series in self.in_training[1]])
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
        for series in self.in_training[1]:
            cut = self._cut(series)
            spans.append(Span(self._standardised(series)[:cut], 0, cut - self.horizon))
        return self._stream("training", self._usable("training", spans), shuffle=self.shuffle)

    @cached_property
    def _valid_spans(self) -> list[Span]:
        """Validation. Steps before it, of the training split, are there to warm up with."""
        if self.in_validation is not None:
            spans = [
                Span(values, 0, len(values) - self.horizon) for values in map(self._standardised, self.in_validation)
            ]
        else:
            spans = []
            for series in self.in_training[1]:
                first = max(0, self._cut(series) - self.horizon)
                spans.append(Span(self._standardised(series), first, len(series.values) - self.horizon))
        return self._usable("validation", spans)

    @cached_property
    def valid(self) -> Stream:
        return self._stream("validation", self._valid_spans, shuffle=False)

    def _usable(self, split: str, spans: Sequence[Span]) -> list[Span]:
        """Those with a step to score."""
        usable = [span for span in spans if span.stop - max(span.start - self.warm_up, 0) > self.warm_up]
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
        values, start, stop = span
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
        series, time, gaps = self.how_read
        return {
            "columns": self.columns,
            "targets": self.targets,
            "horizon": self.horizon,
            "mean": mean,
            "std": std,
            "file": {"series": series, "time": time, "gaps": gaps},
        }

    def as_in(self, description: Mapping[str, Any]) -> None:
        """The columns, and the scale: a file that has other numbers in it is read as the model was trained."""
        if {"columns", "targets", "mean", "std"} <= set(description):
            kept = (description["columns"], description["targets"])
            columns, targets = (typed or known for typed, known in zip(self.chosen, kept, strict=True))
            self.chosen = columns, targets
            self.statistics = description["mean"], description["std"]

    def summary(self) -> str:
        counts = [sum(stream.layout.counts) for stream in (self.train, self.valid)]  # type: ignore[attr-defined]
        return (
            f"{counts[0]:,} training and {counts[1]:,} validation steps of {len(self.in_training[1]):,} series; "
            f"reads {', '.join(self.columns)}, forecasts {', '.join(self.targets)} {self.horizon} ahead"
        )

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
            part * torch.tensor(std) + torch.tensor(mean)
            for part, (mean, std) in (
                (window.inputs[0, :SHOWN], self.statistics_of(self.columns)),
                (window.targets[0, :SHOWN, :, 0], self.statistics_of(self.targets)),
            )
        )
        titles = [*self.columns, *(f"{name}, {self.horizon} ahead" for name in self.targets)]
        rows = [[f"{value:.6g}" for value in row] for row in torch.cat([read, truth], 1).tolist()]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in [titles, *rows])


def standard(values: numpy.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column, to four digits of the deviation: the same on every machine.

    Args:
        values: float64 `[steps, columns]`.
    """
    means, stds = [], []
    for mean, std in zip(values.mean(0).tolist(), values.std(0).tolist(), strict=True):
        digits = 3 - math.floor(math.log10(std)) if std > 0 else 6
        means.append(round(mean, digits))
        stds.append(round(std, digits) or 1.0)  # 1 for a column of one value
    return means, stds
