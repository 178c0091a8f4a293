"""Forecasters from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from torch import nn

from reading.tables import Form
from series.covariates import PERIODS, Covariates
from series.files import read_series
from series.model import Forecaster
from series.scale import Scale
from unroll.checks import Size, is_of
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
        covariates: what it reads beside the columns.
        scales: how numbers are read, by the name of a series of the training file.
        log, season: as for `Scale.fitting`, of a series that is not among them.
        file: how files are read: arguments of `series.files.read_series`.
    """

    model: nn.Module
    columns: list[str]
    targets: list[str]
    horizon: Size
    counts: bool
    file: dict[str, Any]
    covariates: Covariates = field(default_factory=Covariates)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    log: bool | None = False
    season: Size = 1
    what = "a forecaster"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {"Forecaster": Forecaster}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedForecaster":
        data = metadata["data"]
        columns, targets, horizon = data["columns"], data["targets"], data["horizon"]
        last = [columns.index(name) for name in targets]
        covariates, scales, log, season = Covariates(**data["covariates"]), data["scales"], data["log"], data["season"]
        if not is_of([*covariates.known, *covariates.calendar], list[str]):
            raise TypeError
        if not (set(covariates.known) <= set(columns) and set(covariates.calendar) <= set(PERIODS)):
            raise KeyError
        if (
            not is_of([*covariates.static.values()], list[list[str]])
            or list(covariates.static) != data["file"]["static"]
        ):
            raise TypeError
        scales = {name: Scale(*parts) for name, parts in scales.items()}
        if log not in (None, False, True) or not is_of(season, Size):
            raise TypeError
        for scale in scales.values():
            if not is_of([scale.mean, scale.std, scale.deviation], list[list[float]]) or not is_of(
                scale.log, list[bool]
            ):
                raise TypeError
            if any(len(part) != len(columns) for part in scale):
                raise ValueError
        places = covariates.places(columns)
        check_sizes(metadata, features=len(columns) + covariates.size, last=last, horizon=horizon, known=places)
        file = data["file"]
        if not {"series", "time", "gaps"} <= set(file) <= HOW_READ:
            raise KeyError
        plain = [value for name, value in file.items() if name != "static"]
        if not all(value is None or isinstance(value, (str, bool)) for value in plain):
            raise TypeError
        return cls(model, columns, targets, horizon, data["counts"], file, covariates, scales, log, season)
