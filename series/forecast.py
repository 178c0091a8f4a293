"""Forecasts that go on from where a series ends."""

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from series.checkpoint import TrainedForecaster
from series.files import Series
from unroll.errors import UserError
from unroll.state import State

READ = 1000  # steps at once


@torch.inference_mode()
def forecast(loaded: TrainedForecaster, series: Series, steps: int) -> Iterator[list[float]]:
    """The targets of the steps that follow a series, one list for each step.

    Up to the horizon, forecasts rest on the series alone; beyond, on forecasts before them.

    Args:
        loaded: the model.
        series: its values have the columns `loaded.columns`.
        steps: how many.

    Raises:
        UserError: the series is too short, or going on needs columns that the model does not forecast.
    """
    others = [name for name in loaded.columns if name not in loaded.targets]
    if steps > loaded.horizon and others:
        raise UserError(
            f"the model reads {', '.join(others)} but does not forecast them, so it can only forecast "
            f"{loaded.horizon} steps from the end of a series; here: --steps {steps}"
        )
    if len(series.values) < loaded.horizon:
        raise UserError(
            f"a forecast {loaded.horizon} steps ahead needs as many steps to read; here: {len(series.values)}"
        )
    mean, std = (
        torch.tensor([values[name] for name in loaded.columns], dtype=torch.float64)
        for values in (loaded.mean, loaded.std)
    )
    inputs = ((torch.from_numpy(series.values) - mean) / std).float()
    from_targets = [loaded.targets.index(name) for name in loaded.columns if name in loaded.targets]
    state: State = None
    coming: deque[Tensor] = deque(maxlen=loaded.horizon)  # forecasts, standardised, of the steps that follow
    for part in inputs.split(READ):
        outputs, state = loaded.model(part[None], state)
        coming.extend(outputs[0])
    for step in range(1, steps + 1):
        following = coming.popleft()
        yield [
            value * loaded.std[name] + loaded.mean[name]
            for name, value in zip(loaded.targets, following.tolist(), strict=True)
        ]
        if step + len(coming) < steps:
            outputs, state = loaded.model(following[from_targets][None, None], state)
            coming.append(outputs[0, -1])
