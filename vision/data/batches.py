"""Images, batch by batch, and what is done to a batch on the device that trains."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unroll.device import sent
from unroll.errors import UserError
from unroll.streams import IndependentSamples

Flip = Literal[True, False, "alternate"]


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        pixels: uint8 `[images, 3, height, width]`.
        labels: int64 `[images]`.
    """

    pixels: Tensor
    labels: Tensor

    def at(self, numbers: Tensor) -> "Images":
        """Those with these numbers, int64."""
        return Images(self.pixels[numbers], self.labels[numbers])


class ImageBatches(IndependentSamples):
    """Images, batch by batch; the last batch may be smaller.

    How an image is augmented is drawn with the order, from seed and epoch: a run that is resumed, or shared by several
    processes, sees the same images.

    Args:
        images: the images.
        batch_size: images per batch.
        shuffle: draw another order in each epoch, reproducible from `seed`.
        seed: with the epoch, determines order and augmentation.
        pad: images are shifted by up to so many pixels in each direction.
        flip: True: half of them are mirrored, drawn anew in each epoch; "alternate": drawn once, and then in each
            epoch those that were not in the epoch before (Jordan 2024, arXiv 2404.00498).

    Yields:
        `(pixels, labels, moves)`: uint8 `[rows, 3, height, width]`, int64 `[rows]`, and int64 `[rows, 3]` for `move`;
        without `pad` and `flip` only the first two.

    Raises:
        UserError: there are fewer images than a batch holds, or they are smaller than `pad`.
    """

    tensor_names = ("pixels", "labels")
    setting_names = ("batch_size", "shuffle", "pad", "flip", "seed")
    samples = "images"

    def __init__(
        self, images: Images, batch_size: int, shuffle: bool, seed: int = 0, pad: int = 0, flip: Flip = False
    ) -> None:
        super().__init__(len(images.labels), batch_size, shuffle, seed)
        size = min(images.pixels.shape[2:])
        if pad >= size:
            raise UserError(f"data.pad={pad}: images of {size} pixels can be shifted by {size - 1} at most")
        self.pixels, self.labels = images
        self.pad, self.flip = pad, flip

    def batches(self, first: int) -> Iterator[tuple[Tensor, ...]]:
        moves = sent(self.moves(), self.pixels.device) if self.pad or self.flip else None
        for numbers in self.numbers(first):
            numbers = sent(numbers, self.pixels.device)
            batch = [self.pixels[numbers], self.labels[numbers]]
            if moves is not None:
                batch.append(moves[numbers])
            yield tuple(part.pin_memory() if self.pin else part for part in batch)

    def moves(self) -> Tensor:
        """How far each image is shifted down and to the right, and whether it is mirrored: int64 `[images, 3]`."""
        generator = self.random(1)
        shifts = torch.randint(-self.pad, self.pad + 1, (self.count, 2), generator=generator)
        if self.flip == "alternate":
            drawn_once = torch.randint(2, (self.count, 1), generator=torch.Generator().manual_seed(self.seed))
            mirrored = (drawn_once + self.epoch) % 2
        else:
            mirrored = torch.randint(2, (self.count, 1), generator=generator) * self.flip
        return torch.cat([shifts, mirrored], dim=1)


def move(pixels: Tensor, moves: Tensor) -> Tensor:
    """The images padded by reflection, cropped at another place, and mirrored.

    Args:
        pixels: `[rows, channels, height, width]`.
        moves: int64 `[rows, 3]`: pixels down and to the right, less than the image's size, and 1 to mirror it.

    Returns:
        The same shape, channels last in memory.
    """
    rows, _, height, width = pixels.shape
    down, right, mirrored = moves.unbind(1)
    y = reflected(torch.arange(height, device=pixels.device) - down[:, None], height)
    x = torch.arange(width, device=pixels.device).expand(rows, width)
    x = torch.where(mirrored[:, None] == 1, width - 1 - x, x)
    x = reflected(x - right[:, None], width)
    row = torch.arange(rows, device=pixels.device)[:, None, None]
    return pixels.permute(0, 2, 3, 1)[row, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """What a model reads, float of the same shape.

    Args:
        pixels: uint8 `[rows, channels, height, width]`.
        mean, std: of each channel, `[channels, 1, 1]`, for pixels from 0 to 1.
    """
    return (pixels / 255 - mean) / std


def reflected(positions: Tensor, size: int) -> Tensor:
    """Positions beyond an edge, reflected at it: …, 2, 1, 0, 1, 2, …"""
    inside = positions.abs()
    return torch.where(inside < size, inside, 2 * (size - 1) - inside)
