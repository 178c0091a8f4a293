"""Forecasters from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import nn

from reading.tables import Form
from series.files import read_series
from series.model import Forecaster
from unroll.checks import Size
from unroll.resume.checkpoint import TrainedModel, check_sizes

HOW_READ = {*signature(read_series).parameters, *Form.__annotations__} - {"path", "columns", "form"}


@dataclass(frozen=True)
class TrainedForecaster(TrainedModel):
    """A forecaster from its checkpoint, with what it needs to know of its data.

    Attributes:
        columns: what it reads.
        targets: what it forecasts.
        horizon: how many steps.
        counts: whether numbers are counts, which are not standardised.
        file: how files are read: arguments of `series.files.read_series`.
    """

    model: nn.Module
    columns: list[str]
    targets: list[str]
    horizon: Size
    counts: bool
    file: dict[str, Any]
    what = "a forecaster"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {"Forecaster": Forecaster}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedForecaster":
        data = metadata["data"]
        columns, targets, horizon = data["columns"], data["targets"], data["horizon"]
        last = [columns.index(name) for name in targets]
        check_sizes(metadata, features=len(columns), last=last, horizon=horizon)
        file = data["file"]
        if not {"series", "time", "gaps"} <= set(file) <= HOW_READ:
            raise KeyError
        if not all(value is None or isinstance(value, (str, bool)) for value in file.values()):
            raise TypeError
        return cls(model, columns, targets, horizon, data["counts"], file)
