"""From one hidden layer to a residual network, in the order of the lesson; each is to be read beside the one before.

The last feature map is always reduced to one number per channel by adaptive max pooling, which is given the size of its
output rather than that of its window.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from unroll.checks import Share, Size, checked, list_of, whole
from unroll.errors import UserError
from vision.models.layers import BatchNorm

COLOURS = 3

Widths = Annotated[Sequence[int], list_of(whole(1), "[10,20,40]")]


class SimpleNet(nn.Module):
    """The image as one long row of numbers, and one hidden layer.

    Args:
        classes: the number of classes.
        hidden_size: units of the hidden layer.
        size: height and width of the images.
    """

    @checked
    def __init__(self, classes: int, hidden_size: Size = 40, size: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(COLOURS * size * size, hidden_size)
        self.head = nn.Linear(hidden_size, classes)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        if pixels.size(1) != self.hidden.in_features:
            raise UserError(
                f"this model has weights for {self.hidden.in_features:,} numbers per image, and an image of "
                f"{' × '.join(map(str, images.shape[1:]))} has {pixels.size(1):,}; see model.size"
            )
        return self.head(F.relu(self.hidden(pixels)))


class ConvNet(nn.Module):
    """Convolutions of stride 2 in the place of pooling: each halves height and width.

    Args:
        classes: the number of classes.
        widths: channels after each convolution.
    """

    @checked
    def __init__(self, classes: int, widths: Widths = (20, 40, 80)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2) for before, after in pairwise([COLOURS, *widths])
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = F.relu(layer(images))
        return self.head(self.pool(images).flatten(1))


class ConvLayer(nn.Module):
    """A convolution of stride 2 and what belongs to it; padded by 1, so that 32 become 16 and not 15."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.conv(images))


class ConvLayers(nn.Module):
    """The same network, made of layers of our own.

    Args:
        classes: the number of classes.
        widths: channels after each layer.
    """

    @checked
    def __init__(self, classes: int, widths: Widths = (20, 40, 80)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvLayer(before, after) for before, after in pairwise([COLOURS, *widths]))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = layer(images)
        return self.head(F.adaptive_max_pool2d(images, 1).flatten(1))


class BNLayer(nn.Module):
    """A convolution, a ReLU and then batch norm, whose addend takes the place of the convolution's bias."""

    def __init__(self, before: int, after: int, stride: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = BatchNorm(after)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(images)))


class ConvBN(nn.Module):
    """Batch norm after each layer, and a first convolution that sees 5 × 5 pixels and keeps the size.

    Args:
        classes: the number of classes.
        widths: channels after the first convolution, and after each layer.
    """

    @checked
    def __init__(self, classes: int, widths: Widths = (10, 20, 40, 80, 160)) -> None:
        super().__init__()
        self.first = nn.Conv2d(COLOURS, widths[0], kernel_size=5, stride=1, padding=2)
        self.layers = nn.ModuleList(BNLayer(before, after) for before, after in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.first(images)
        for layer in self.layers:
            images = layer(images)
        return self.head(F.adaptive_max_pool2d(images, 1).flatten(1))


class ConvBNDeep(nn.Module):
    """Twice as deep: behind each layer of stride 2 another one of stride 1, which changes no size.

    Args:
        classes: the number of classes.
        widths: channels after the first convolution, and after each pair of layers.
    """

    @checked
    def __init__(self, classes: int, widths: Widths = (10, 20, 40, 80, 160)) -> None:
        super().__init__()
        self.first = nn.Conv2d(COLOURS, widths[0], kernel_size=5, stride=1, padding=2)
        self.layers = nn.ModuleList(BNLayer(before, after) for before, after in pairwise(widths))
        self.added = nn.ModuleList(BNLayer(width, width, stride=1) for width in widths[1:])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.first(images)
        for layer, added in zip(self.layers, self.added, strict=True):
            images = added(layer(images))
        return self.head(F.adaptive_max_pool2d(images, 1).flatten(1))


class ResLayer(BNLayer):
    """x + f(x): what the layer has to learn is what is still missing (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, stride=1)

    def forward(self, images: Tensor) -> Tensor:
        return images + super().forward(images)


class ResNet(nn.Module):
    """The added layers become x + f(x), and there may be more of them.

    Args:
        classes: the number of classes.
        widths: channels after the first convolution, and after each layer of stride 2.
        added: layers behind each of those.
    """

    @checked
    def __init__(self, classes: int, widths: Widths = (10, 20, 40, 80, 160), added: Size = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(COLOURS, widths[0], kernel_size=5, stride=1, padding=2)
        self.layers = nn.ModuleList(BNLayer(before, after) for before, after in pairwise(widths))
        self.added = nn.ModuleList(nn.Sequential(*(ResLayer(width) for _ in range(added))) for width in widths[1:])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.first(images)
        for layer, added in zip(self.layers, self.added, strict=True):
            images = added(layer(images))
        return self.head(F.adaptive_max_pool2d(images, 1).flatten(1))


class PreActLayer(nn.Module):
    """Batch norm and ReLU first, and then the convolution."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = BatchNorm(before, fused=True)
        self.conv = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(images)))


class PreActBlock(nn.Module):
    """x + f(x), f being two convolutions; nothing stands in the way of x (He et al. 2016, arXiv 1603.05027)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(PreActLayer(width, width), PreActLayer(width, width))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.layers(images)


class PreActResNet(nn.Module):
    """Full blocks, in stages; a bottleneck of stride 2 leads from each stage to the next.

    Args:
        classes: the number of classes.
        widths: channels of each stage.
        blocks: in each stage.
        dropout: before the head.
    """

    @checked
    def __init__(
        self, classes: int, widths: Widths = (64, 128, 256, 512), blocks: Size = 1, dropout: Share = 0.2
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(COLOURS, widths[0], kernel_size=5, stride=1, padding=2, bias=False)
        self.stages = nn.ModuleList(nn.Sequential(*(PreActBlock(width) for _ in range(blocks))) for width in widths)
        self.bottlenecks = nn.ModuleList(PreActLayer(before, after, stride=2) for before, after in pairwise(widths))
        self.norm = BatchNorm(widths[-1], fused=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        images = self.stages[0](self.first(images))
        for bottleneck, stage in zip(self.bottlenecks, self.stages[1:], strict=True):
            images = stage(bottleneck(images))
        images = F.relu(self.norm(images))
        return self.head(self.dropout(F.adaptive_max_pool2d(images, 1).flatten(1)))
