"""Plots of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FONT = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def curves(rows: Sequence[Mapping[str, Any]], figure_name: str | None) -> numpy.ndarray:
    """Losses, one more validation figure, learning rate and gradient norm over the steps.

    Args:
        rows: of `metrics.csv`: numbers by name, "" or nothing where a row has none.
        figure_name: the validation figure beside the loss, such as "accuracy".

    Returns:
        uint8 `[height, width, 3]`.
    """
    figure = Figure(figsize=(9, 6))
    (loss, other), (rate, norm) = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.08, top=0.94)
    for axes, names, title in (
        (loss, ("train/batch_loss", "train/loss", "valid/loss"), "loss"),
        (other, (f"valid/{figure_name}",), figure_name or ""),
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
