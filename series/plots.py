"""Plots of forecasts."""

from collections.abc import Sequence

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MOST = 6  # targets in a plot


def forecasts(values: numpy.ndarray, names: Sequence[str], horizon: int) -> numpy.ndarray:
    """Forecasts, the truth and the naive forecast of each target over time.

    Args:
        values: float `[steps, targets, 3]`: forecast, truth and last value known, in the units of the file.
        names: of the targets.
        horizon: how many steps ahead.

    Returns:
        uint8 `[height, width, 3]`.
    """
    names = names[:MOST]
    figure = Figure(figsize=(9, 1 + 2.5 * len(names)), layout="constrained")
    plots = figure.subplots(len(names), squeeze=False, sharex=True)[:, 0]
    for number, (axes, name) in enumerate(zip(plots, names, strict=True)):
        forecast, truth, last = values[:, number].T
        axes.plot(truth, color="black", linewidth=1, label="truth")
        axes.plot(last, color="C7", linewidth=0.8, label="naive forecast")
        axes.plot(forecast, color="C1", linewidth=1.2, label=f"forecast, {horizon} ahead")
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
    plots[0].legend(fontsize="small")
    plots[-1].set_xlabel("step")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3]
