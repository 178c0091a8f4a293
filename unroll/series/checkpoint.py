"""Loads a forecaster from its checkpoint, with what it needs to know of its data."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from unroll.checkpoint import rebuild
from unroll.errors import UserError
from unroll.series.models import Forecaster

MODELS = {"Forecaster": Forecaster}


class Loaded(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        model: in eval mode, on the CPU.
        columns: what it reads.
        targets: what it forecasts.
        horizon: how many steps ahead.
        mean, std: by column, what numbers are standardised by.
        file: how files are read: `series`, `time` and `gaps`, as for `unroll.series.files.read_series`.
    """

    model: nn.Module
    columns: list[str]
    targets: list[str]
    horizon: int
    mean: dict[str, float]
    std: dict[str, float]
    file: dict[str, Any]


def load_model(path: str | Path, model: type[nn.Module] | None = None) -> Loaded:
    """The trained model and what belongs to it.

    Nothing in the file is run, and no class is built but `model`, or `unroll.series.models.Forecaster`.

    Args:
        path: the checkpoint.
        model: the class, for a model of your own.

    Raises:
        UserError: the file is missing, or not a checkpoint of a forecaster.
    """
    loaded, metadata = rebuild(Path(path), model or MODELS)
    try:
        data = metadata["data"]
        columns, targets = data["columns"], data["targets"]
        names = [*columns, *(name for name in targets if name not in columns)]
        mean, std = (dict(zip(names, data[part], strict=True)) for part in ("mean", "std"))
        return Loaded(loaded, columns, targets, data["horizon"], mean, std, data["file"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a checkpoint of a forecaster of this project") from None
