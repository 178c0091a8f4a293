"""Plots of images."""

import math
from collections.abc import Sequence

import numpy
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unroll.training.plots import FONT

COLUMNS = 8
SIDE, GAP, LINE = 96, 8, 13  # pixels


def grid(pixels: Tensor, captions: Sequence[str]) -> numpy.ndarray:
    """Images side by side, each with its caption below.

    Args:
        pixels: uint8 `[images, 3, height, width]`.
        captions: one for each, all with the same number of lines.

    Returns:
        uint8 `[height, width, 3]`.
    """
    rows = math.ceil(len(captions) / COLUMNS)
    caption_height = LINE * (captions[0].count("\n") + 1)
    width, height = SIDE + GAP, SIDE + caption_height + GAP
    page = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.truetype(str(FONT), 10)
    for number, (image, caption) in enumerate(zip(pixels.permute(0, 2, 3, 1).cpu().numpy(), captions, strict=True)):
        left, top = GAP + number % COLUMNS * width, GAP + number // COLUMNS * height
        page.paste(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top))
        middle = (left + SIDE // 2, top + SIDE + caption_height // 2)
        draw.multiline_text(middle, caption, "black", font, anchor="mm", spacing=2, align="center")
    return numpy.asarray(page)
