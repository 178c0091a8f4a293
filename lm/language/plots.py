"""Plots of what hidden units do while a model reads a text."""

import math
from collections.abc import Sequence

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from unroll.state import hidden_units
from unroll.training.plots import FONT

UNITS = 3
TOKENS = 96
CELLS = {  # on a line, and the width of each in pixels
    "characters": (48, 20),
    "bpe": (16, 60),
    "words": (12, 80),
    "whitespace": (12, 80),
}
LINE, LABEL = 22, 70


@torch.no_grad()
def read_states(model: nn.Module, tokens: Tensor, context: int) -> Tensor | None:
    """The last layer's hidden units after each token, float `[time, hidden]`; None for a model without a state.

    Args:
        tokens: int64 `[time]`.
        context: the number of tokens in a window; some models read windows of no other length.
    """
    _, state = model(tokens[None, :context])
    if state is None:
        return None
    state = None
    states = []
    for token in tokens:
        _, state = model(token.view(1, 1), state)
        states.append(hidden_units(state)[-1, 0].float().cpu())
    return torch.stack(states)


def activations(states: Tensor, tokens: Sequence[str], kind: str) -> numpy.ndarray:
    """The text once for each of the units that vary most, every token coloured by the unit's activation after it.

    Drawn with Pillow: matplotlib takes half a second for so much text.

    Args:
        states: float `[time, hidden]`.
        tokens: the text, `time` tokens.
        kind: the name of the tokenizer.

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
