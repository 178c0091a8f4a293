"""A network for few epochs: its first layer is computed from the training images instead of being learnt."""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.checks import checked, list_of, whole
from vision.models.layers import BatchNorm

COLOURS, PATCH = 3, 2
DIRECTIONS = COLOURS * PATCH**2
SCALE = 1 / 9  # of the scores, so that training begins with even probabilities

ThreeWidths = Annotated[tuple[int, ...], list_of(whole(1), "[64,256,256]")]


class Whitening(nn.Module):
    """A convolution whose outputs are uncorrelated over the patches of the training images and have variance 1, and the
    same with the opposite sign, so that an activation after it loses nothing. Only its bias is learnt.

    Until `fit` is called, the filters are random.
    """

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.randn(2 * DIRECTIONS, COLOURS, PATCH, PATCH) / DIRECTIONS**0.5)
        self.bias = nn.Parameter(torch.zeros(2 * DIRECTIONS))

    @torch.no_grad()
    def fit(self, images: Tensor, eps: float = 5e-4) -> None:
        """Computes the filters.

        Args:
            images: float `[images, 3, height, width]`, as the model reads them.
            eps: added to each variance, so that noise in directions of little variance is not amplified.
        """
        patches = F.unfold(images, PATCH).transpose(0, 1).flatten(1)
        variances, directions = torch.linalg.eigh(patches.cov())
        filters = (directions / (variances + eps).sqrt()).T.reshape(DIRECTIONS, COLOURS, PATCH, PATCH)
        self.filters.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.filters, self.bias)


class Stage(nn.Module):
    """Two convolutions; maximum pooling after the first halves height and width.

    Args:
        before, after: channels.
        identity: the first output channels of each convolution begin as copies of its input channels.
    """

    def __init__(self, before: int, after: int, identity: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.norms = nn.ModuleList(BatchNorm(after, fused=True) for _ in range(2))
        for conv in (self.first, self.second) if identity else ():
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, images: Tensor) -> Tensor:
        images = F.gelu(self.norms[0](F.max_pool2d(self.first(images), 2)))
        return F.gelu(self.norms[1](self.second(images)))


class WhitenedNet(nn.Module):
    """The network of airbench94 (Jordan 2024, arXiv 2404.00498): whitened patches, three stages of two convolutions.

    Args:
        classes: the number of classes.
        widths: channels of each stage.
        whiten: compute the filters of the first layer; if not, they are learnt.
        identity: as for `Stage`.
    """

    @checked
    def __init__(
        self, classes: int, widths: ThreeWidths = (64, 256, 256), whiten: bool = True, identity: bool = True
    ) -> None:
        super().__init__()
        self.first = Whitening() if whiten else nn.Conv2d(COLOURS, 2 * DIRECTIONS, PATCH)
        stages = pairwise([2 * DIRECTIONS, *widths])
        self.stages = nn.ModuleList(Stage(before, after, identity) for before, after in stages)
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def prepare(self, images: Tensor) -> None:
        """Called before training with normalised training images."""
        if isinstance(self.first, Whitening):
            self.first.fit(images)

    def forward(self, images: Tensor) -> Tensor:
        images = F.gelu(self.first(images))
        for stage in self.stages:
            images = stage(images)
        return self.head(F.adaptive_max_pool2d(images, 1).flatten(1)) * SCALE
