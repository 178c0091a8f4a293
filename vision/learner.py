"""The LightningModule of image classifiers."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from unroll.checks import checked
from unroll.nn.layer import at_least_float32
from unroll.training.learner import Learner, LearnerSettings
from unroll.training.objectives import CrossEntropy, Objective
from vision.data.batches import move, normalise

Batch = tuple[Tensor, ...]
FEW = 5000  # images, for a model to prepare itself
SHIFTS = ((0, 0), (-1, -1), (1, 1))  # pixels down and to the right


@runtime_checkable
class Prepared(Protocol):
    """A model that computes some of its weights from training images."""

    def prepare(self, images: Tensor) -> None:
        """Called before training, with normalised images, float `[images, 3, height, width]`."""


class ImageClassifier(Learner):
    """Trains a model of `vision.models`. Batches hold one byte per value; augmentation and normalisation are done here,
    a batch at a time, on the device that trains.

    Args:
        model: `forward(images) -> logits` as described in `vision.models`.
        mean, std: of each channel, for pixels from 0 to 1: what images are normalised by.
        objective: the loss and the metrics, `CrossEntropy()` by default.
        tta: test-time augmentation: in validation, the mean of the probabilities that the model gives to copies of an
            image (see `copies`).
        settings: as for `Learner`.
    """

    unit = "images"

    mean: Tensor
    std: Tensor

    @checked
    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        objective: Objective | None = None,
        tta: bool = False,
        **settings: Unpack[LearnerSettings],
    ) -> None:
        super().__init__(model, objective or CrossEntropy(), **settings)
        self.tta = tta
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def setup(self, stage: str) -> None:
        """Lightning restores a checkpoint after this, so that a run that is resumed keeps its weights."""
        if stage == "fit" and isinstance(self.model, Prepared):
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            with torch.no_grad():
                self.model.prepare(normalise(data.train.pixels[:FEW], self.mean.cpu(), self.std.cpu()))

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        pixels, _, *moves = batch
        pixels = move(pixels, *moves) if moves else pixels.contiguous(memory_format=torch.channels_last)
        return (normalise(pixels, self.mean, self.std).to(self.mean.dtype),)

    def read(self, split: str, batch: Batch) -> tuple[Tensor, Tensor | None]:
        if not self.tta or split == "train":
            return super().read(split, batch)
        (images,) = self.inputs(batch)
        probabilities = [at_least_float32(self.model(copy)).softmax(-1) for copy in copies(images)]
        return torch.stack(probabilities).mean(0).log(), None

    def size(self, batch: Batch) -> int:
        return len(batch[1])


def copies(images: Tensor) -> Iterator[Tensor]:
    """The images, and the same shifted by a pixel along the diagonal either way; each also mirrored: six in all (as in
    Jordan 2024, arXiv 2404.00498).

    Args:
        images: `[images, 3, height, width]`.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    for down, right in SHIFTS:
        shifted = padded[:, :, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        yield shifted
        yield shifted.flip(3)
