"""Forecasters from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from series.model import Forecaster
from unroll.resume.checkpoint import TrainedModel


@dataclass(frozen=True)
class TrainedForecaster(TrainedModel):
    """A forecaster from its checkpoint, with what it needs to know of its data.

    Attributes:
        columns: what it reads.
        targets: what it forecasts.
        horizon: how many steps ahead.
        mean, std: by column, what numbers are standardised by.
        file: how files are read: arguments of `series.files.read_series`.
    """

    model: nn.Module
    columns: list[str]
    targets: list[str]
    horizon: int
    mean: dict[str, float]
    std: dict[str, float]
    file: dict[str, Any]
    what = "a forecaster"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {"Forecaster": Forecaster}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedForecaster":
        data = metadata["data"]
        columns, targets = data["columns"], data["targets"]
        names = [*columns, *(name for name in targets if name not in columns)]
        mean, std = (dict(zip(names, data[part], strict=True)) for part in ("mean", "std"))
        return cls(model, columns, targets, data["horizon"], mean, std, data["file"])
