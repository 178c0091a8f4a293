"""Plots of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FONT = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def curves(rows: Sequence[Mapping[str, Any]], metric: str | None) -> numpy.ndarray:
    """Losses, one more validation metric, learning rate and gradient norm over the steps.

    Args:
        rows: of `metrics.csv`: numbers by name, "" or nothing where a row has none.
        metric: the validation metric beside the loss, such as "accuracy".

    Returns:
        uint8 `[height, width, 3]`.
    """
    figure = Figure(figsize=(9, 6))
    (loss, other), (rate, norm) = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.08, top=0.94)
    for axes, names, title in (
        (loss, ("train/batch_loss", "train/loss", "valid/loss"), "loss"),
        (other, (f"valid/{metric}",), metric or ""),
        (rate, ("lr",), "learning rate"),
        (norm, ("grad_norm",), "gradient norm, before clipping"),
    ):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name) not in ("", None)]
            if name == "train/batch_loss":
                style: dict[str, Any] = {"alpha": 0.4, "linewidth": 0.8}
            else:
                style = {"marker": "." if len(points) < 50 else ""}
            if points:
                axes.plot(*zip(*points, strict=True), label=name, **style)
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
    loss.legend(fontsize="small")
    for axes in (rate, norm):
        axes.set_xlabel("step")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3]


def confusion(counts: numpy.ndarray, names: Sequence[str]) -> numpy.ndarray:
    """How often each class was taken for each.

    Args:
        counts: int `[classes, classes]`, the true class on the first axis.
        names: of the classes.

    Returns:
        uint8 `[height, width, 3]`.
    """

    side = 2.5 + 0.5 * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in numpy.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3]
