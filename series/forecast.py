"""Forecasts that go on from where a series ends."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from series.checkpoint import TrainedForecaster
from series.covariates import with_known
from series.files import Series
from series.scale import Scale
from unroll.errors import UserError
from unroll.state import State, map_tensors

READ = 1000  # steps at once
PATHS = 200  # beyond the horizon, where quantiles are asked for


@torch.inference_mode()
def forecast(loaded: TrainedForecaster, series: Series, steps: int, levels: Sequence[float] = ()) -> Tensor:
    """The targets of the steps that follow a series, in its units, float64 `[steps, targets, 1 + levels]`: the point
    forecast, and the quantiles at the levels.

    Up to the horizon, forecasts rest on the series alone; beyond, on forecasts before them, read as if they had
    happened. Quantiles beyond are those of paths: each is drawn, read, and gone on from.

    Args:
        loaded: the model.
        series: its values have the columns `loaded.columns`.
        steps: how many.
        levels: of quantiles, between 0 and 1.

    Raises:
        UserError: going on needs columns that the model does not forecast, or the model does not say how sure it is.
    """
    others = [name for name in loaded.columns if name not in loaded.targets]
    others += [f"the time of the {period}" for period in loaded.covariates.calendar] + list(loaded.covariates.static)
    if steps > loaded.horizon and others:
        raise UserError(
            f"the model reads {', '.join(others)} but does not forecast them, so it can only forecast "
            f"{loaded.horizon} steps from the end of a series; here: --steps {steps}"
        )
    at = [loaded.columns.index(name) for name in loaded.targets]
    scale = loaded.scales.get(series.name) or scale_of_new(loaded, series, at)
    columns = scale.standardised(series.values, series.name)
    values = torch.from_numpy(numpy.concatenate([columns, loaded.covariates.of(series)], 1)).float()
    places = loaded.covariates.places(loaded.columns)
    after = loaded.covariates.after(series, loaded.columns, loaded.horizon, scale) if places else None
    state: State = None
    for part in with_known(values, places, loaded.horizon, after).split(READ):
        outputs, state = loaded.model(part[None], state)
    outputs = outputs[:, -1]  # [1, targets, horizon, …]
    found = continued(loaded, outputs, state, steps, levels)
    return scale.in_units(found.transpose(1, 2), at).transpose(1, 2)


def scale_of_new(loaded: TrainedForecaster, series: Series, at: Sequence[int]) -> Scale:
    """How a series that was not trained on is read."""
    if loaded.counts:
        return Scale.unscaled(len(loaded.columns))
    return Scale.fitting(series.values, series.values, at, loaded.log, loaded.season, series.name)


def continued(loaded: TrainedForecaster, outputs: Tensor, state: State, steps: int, levels: Sequence[float]) -> Tensor:
    """Standardised forecasts from a state on, `[steps, targets, 1 + levels]`."""
    outlook: Any = loaded.model.outlook
    at = torch.tensor(levels)

    def quantiles(outputs: Tensor) -> Tensor:
        return outlook.quantile(outputs.unsqueeze(-2), at)

    point = outlook.point(outputs)
    parts = [torch.cat([point[..., None], quantiles(outputs)], -1)[0] if levels else point[0, ..., None]]
    path, point_state = outputs, state
    if levels and steps > loaded.horizon:
        paths = outputs.repeat_interleave(PATHS, 0)
        state = map_tensors(state, lambda part: part.repeat_interleave(PATHS, 1))
    from_targets = [loaded.targets.index(name) for name in loaded.columns if name in loaded.targets]
    for _ in range(-(-steps // loaded.horizon) - 1):
        following = outlook.point(path)[:, from_targets].transpose(1, 2)  # [1, horizon, columns]
        path, point_state = last_of(loaded, following, point_state)
        block = outlook.point(path)[0, ..., None]
        if levels:
            drawn = outlook.quantile(paths, torch.rand(paths.shape[:-1]))
            paths, state = last_of(loaded, drawn[:, from_targets].transpose(1, 2), state)
            sample = outlook.quantile(paths, torch.rand(paths.shape[:-1]))
            spread = sample.quantile(at, 0).permute(1, 2, 0)
            block = torch.cat([block, spread], -1)
        parts.append(block)
    return torch.cat(parts, 1)[:, :steps].transpose(0, 1)


def last_of(loaded: TrainedForecaster, values: Tensor, state: State) -> tuple[Tensor, State]:
    """What the model makes of the last step of some more."""
    outputs, state = loaded.model(values, state)
    return outputs[:, -1], state
