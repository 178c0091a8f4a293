"""Plots of forecasts."""

from collections.abc import Sequence

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MOST = 6  # targets in a plot


def forecasts(
    truth: numpy.ndarray, origins: Sequence[int], made: Sequence[numpy.ndarray], names: Sequence[str], horizon: int
) -> numpy.ndarray:
    """Forecasts of each target over time, beside the truth.

    Args:
        truth: float `[steps, targets]`, in the units of the file.
        origins: the steps that forecasts are made from.
        made: the points, float `[origins, horizon, targets]`, and the lower and upper end of a band, if there is one.
        names: of the targets.
        horizon: how many steps are forecast.

    Returns:
        uint8 `[height, width, 3]`.
    """
    names = names[:MOST]
    figure = Figure(figsize=(9, 1 + 2.5 * len(names)), layout="constrained")
    plots = figure.subplots(len(names), squeeze=False, sharex=True)[:, 0]
    first = max(0, min(origins, default=0) - horizon)
    for number, (axes, name) in enumerate(zip(plots, names, strict=True)):
        axes.plot(range(first, len(truth)), truth[first:, number], color="black", linewidth=1, label="truth")
        for at, origin in enumerate(origins):
            ahead = range(origin + 1, origin + 1 + horizon)
            label = f"forecast from each {horizon}th step" if at == 0 else None
            axes.plot(ahead, made[0][at, :, number], color="C1", linewidth=1.2, label=label)
            if len(made) > 1:
                axes.fill_between(ahead, made[1][at, :, number], made[2][at, :, number], color="C1", alpha=0.25, lw=0)
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
    plots[0].legend(fontsize="small")
    plots[-1].set_xlabel("step")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3]
