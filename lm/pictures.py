"""Pictures of a run, as matplotlib figures: its curves, and what its hidden units do while it reads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from lm.state import State

UNITS = 3
TOKENS = 96
CELLS_PER_LINE = {"characters": 48, "words": 12}


def curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses, accuracy and learning rate over the steps.

    Args:
        rows: of `metrics.csv`: numbers by name, "" or nothing where a row has none.
    """
    figure = Figure(figsize=(9, 6))
    (loss, accuracy), (rate, norm) = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.08, top=0.94)
    for axes, names, title in (
        (loss, ("train/batch_loss", "train/loss", "valid/loss"), "loss (nats per token)"),
        (accuracy, ("valid/accuracy",), "accuracy"),
        (rate, ("lr",), "learning rate"),
        (norm, ("grad_norm",), "gradient norm, before clipping"),
    ):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name) not in ("", None)]
            faint = (
                {"alpha": 0.4, "linewidth": 0.8} if name == "train/batch_loss" else {"marker": "." * (len(points) < 50)}
            )
            axes.plot(*zip(*points, strict=True), label=name, **faint) if points else None
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
    loss.legend(fontsize="small")
    for axes in (rate, norm):
        axes.set_xlabel("step")
    return figure


@torch.no_grad()
def read_states(model: nn.Module, tokens: Tensor) -> Tensor | None:
    """What the last layer's hidden units are after each token, float `[time, hidden]`; None without a state.

    Args:
        tokens: int64 `[time]`.
    """
    state: State = None
    states = []
    for token in tokens:
        _, state = model(token.view(1, 1), state)
        if state is None:
            return None
        hidden = state[0] if isinstance(state, tuple) else state  # of an LSTM's pair, the first is the output
        states.append(hidden[-1, 0].float().cpu())
    return torch.stack(states)


def activations(states: Tensor, tokens: Sequence[str], kind: str) -> Figure:
    """The text once for each of the units that vary most, every token coloured by the unit's activation after it.

    Args:
        states: float `[time, hidden]`.
        tokens: the text, `time` tokens.
        kind: "characters" or "words".
    """
    units = states.var(0).topk(min(UNITS, states.size(1))).indices.sort().values.tolist()
    width = CELLS_PER_LINE.get(kind, 12)
    lines = math.ceil(len(tokens) / width)
    figure = Figure(figsize=(11, 0.3 * lines * len(units)))
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.02, top=0.98, hspace=0.05)
    for axes, unit in zip(figure.subplots(len(units), 1, squeeze=False)[:, 0], units, strict=True):
        grid = numpy.full(lines * width, numpy.nan)
        grid[: len(tokens)] = states[:, unit]
        bound = max(1.0, states[:, unit].abs().max().item())
        axes.imshow(grid.reshape(lines, width), cmap="coolwarm", vmin=-bound, vmax=bound, aspect="auto")
        for at, token in enumerate(tokens):
            if shown := {" ": "", "\n": "↵"}.get(token, token):
                axes.text(at % width, at // width, shown, ha="center", va="center", fontsize=8, parse_math=False)
        axes.set_ylabel(f"unit {unit}", rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def pixels(figure: Figure) -> numpy.ndarray:
    """The figure as uint8 `[height, width, 3]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3]
