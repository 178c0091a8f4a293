"""Ten shapes, drawn at random: images that nobody has to download, to try a model on."""

import numpy
import torch
from numpy.typing import NDArray

from vision.data.batches import Images

SIZE = 32
NOISE = 25  # standard deviation, of 256 shades
Grid = NDArray[numpy.float32]
Mask = NDArray[numpy.bool_]


def disc(u: Grid, v: Grid) -> Mask:
    return u**2 + v**2 < 0.9


def ring(u: Grid, v: Grid) -> Mask:
    return abs(u**2 + v**2 - 0.65) < 0.35


def square(u: Grid, v: Grid) -> Mask:
    return numpy.maximum(abs(u), abs(v)) < 0.8


def frame(u: Grid, v: Grid) -> Mask:
    return abs(numpy.maximum(abs(u), abs(v)) - 0.7) < 0.2


def triangle(u: Grid, v: Grid) -> Mask:
    return (v < 0.7) & (v > 2 * abs(u) - 1)


def diamond(u: Grid, v: Grid) -> Mask:
    return abs(u) + abs(v) < 1


def plus(u: Grid, v: Grid) -> Mask:
    return (numpy.minimum(abs(u), abs(v)) < 0.25) & (numpy.maximum(abs(u), abs(v)) < 0.95)


def cross(u: Grid, v: Grid) -> Mask:
    return plus((u + v) * 0.7071, (u - v) * 0.7071)


def rows(u: Grid, v: Grid) -> Mask:
    return (numpy.maximum(abs(u), abs(v)) < 0.85) & (numpy.cos(9 * v) > 0)


def columns(u: Grid, v: Grid) -> Mask:
    return rows(v, u)


SHAPES = (disc, ring, square, frame, triangle, diamond, plus, cross, rows, columns)
NAMES = [shape.__name__ for shape in SHAPES]


def draw_shapes(count: int, seed: int) -> Images:
    """Draws images of one shape each, at any place, in any size and any two colours, slightly rotated, with noise.

    All classes are equally frequent, up to one. A mirrored image is one of the same class.

    Args:
        count: the number of images.
        seed: determines all of it.
    """
    chance = numpy.random.default_rng(seed)

    def uniform(low: float, high: float, *shape: int) -> NDArray[numpy.float32]:
        return chance.uniform(low, high, (count, *shape)).astype(numpy.float32)

    labels = chance.permutation(numpy.arange(count) % len(SHAPES))
    radius = uniform(6, 12, 1, 1)
    centre = uniform(-1, 1, 2, 1, 1) * (SIZE / 2 - radius[:, None])
    turn = uniform(-0.2, 0.2, 1, 1)
    y, x = numpy.mgrid[:SIZE, :SIZE].astype(numpy.float32) - (SIZE - 1) / 2
    y, x = (y - centre[:, 0]) / radius, (x - centre[:, 1]) / radius
    u, v = x * numpy.cos(turn) + y * numpy.sin(turn), y * numpy.cos(turn) - x * numpy.sin(turn)
    inside = numpy.zeros((count, SIZE, SIZE), bool)
    for number, shape in enumerate(SHAPES):
        mine = labels == number
        inside[mine] = shape(u[mine], v[mine])
    ground = uniform(0, 256, 3, 1, 1)
    paint = (ground + uniform(64, 192, 3, 1, 1)) % 256  # never the same
    noise = NOISE * chance.standard_normal((count, 3, SIZE, SIZE), numpy.float32)
    pixels = numpy.where(inside[:, None], paint, ground) + noise
    return Images(torch.from_numpy(pixels.clip(0, 255).astype(numpy.uint8)), torch.from_numpy(labels))
