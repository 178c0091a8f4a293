"""Pictures of a run: its curves, and what its hidden units do while it reads."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from lm.state import output

UNITS = 3
TOKENS = 96
CELLS = {"characters": (48, 20), "bpe": (16, 60), "words": (12, 80)}  # on a line, and the width of each in pixels
LINE, LABEL = 22, 70
FONT = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def curves(rows: Sequence[Mapping[str, Any]]) -> numpy.ndarray:
    """Losses, accuracy, learning rate and gradient norm over the steps.

    Args:
        rows: of `metrics.csv`: numbers by name, "" or nothing where a row has none.

    Returns:
        uint8 `[height, width, 3]`.
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


@torch.no_grad()
def read_states(model: nn.Module, tokens: Tensor, context: int) -> Tensor | None:
    """What the last layer's hidden units are after each token, float `[time, hidden]`; None without a state.

    Args:
        tokens: int64 `[time]`.
        context: the number of tokens in a window; some models read no other.
    """
    _, state = model(tokens[None, :context])
    if state is None:
        return None
    state = None
    states = []
    for token in tokens:
        _, state = model(token.view(1, 1), state)
        states.append(output(state)[-1, 0].float().cpu())
    return torch.stack(states)


def activations(states: Tensor, tokens: Sequence[str], kind: str) -> numpy.ndarray:
    """The text once for each of the units that vary most, every token coloured by the unit's activation after it.

    Drawn by Pillow: matplotlib takes half a second for so much text.

    Args:
        states: float `[time, hidden]`.
        tokens: the text, `time` tokens.
        kind: "characters" or "words".

    Returns:
        uint8 `[height, width, 3]`: blue for -1, white for 0, red for 1 (or for the largest there is, if larger).
    """
    units = states.var(0).topk(min(UNITS, states.size(1))).indices.sort().values.tolist()
    columns, width = CELLS[kind]
    lines = math.ceil(len(tokens) / columns)
    picture = Image.new("RGB", (LABEL + columns * width, (lines + 1) * LINE * len(units)), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.truetype(str(FONT), 12)
    for block, unit in enumerate(units):
        top = block * (lines + 1) * LINE
        draw.text((4, top + LINE // 2), f"unit {unit}", "black", font, anchor="lm")
        values = states[:, unit] / max(1.0, states[:, unit].abs().max().item())
        for at, (token, value) in enumerate(zip(tokens, values.tolist(), strict=True)):
            x, y = LABEL + at % columns * width, top + at // columns * LINE
            fade = round(255 * (1 - abs(value)))
            draw.rectangle((x, y, x + width, y + LINE), (255, fade, fade) if value > 0 else (fade, fade, 255))
            shown = "↵" if token == "\n" else "·" if kind == "characters" and len(token) > 1 else token  # · is xxunk
            draw.text((x + width // 2, y + LINE // 2), shown, "black", font, anchor="mm")
    return numpy.asarray(picture)
