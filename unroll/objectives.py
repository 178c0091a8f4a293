"""What is learnt: the loss of a batch, and the figures of a split.

A kind of task brings an `Objective`; the rest of `unroll` asks it. A figure is a mean over the targets of a split: each
batch adds its sum and its number of targets, and they are divided once.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from unroll.checks import Share, checked

Direction = Literal["min", "max"]


class Objective(ABC):
    """A loss, and the figures that tell how well a model does.

    Attributes:
        figures: the name of each figure of a validation, and whether less ("min") or more ("max") of it is better. The
            loss comes first. They are in `result.json` and in reports as `valid/NAME`.
        columns: those of them that have a column in the table on the screen.
    """

    figures: Mapping[str, Direction] = {"loss": "min"}
    columns: ClassVar[tuple[str, ...]] = ("loss",)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss per target, a number with a gradient.

        Args:
            outputs: `[targets, …]`, what the model returned.
            targets: `[targets, …]`.
        """

    def minimised(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
        """What training minimises, if that is not the loss itself."""
        return loss

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The other figures of a validation batch, each summed over its targets."""
        return {}

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Further figures, computed from the means over a split: of the loss, and in validation of `sums`."""
        return {}


class CrossEntropy(Objective):
    """Classes by their scores: cross-entropy in nats per target, and the accuracy.

    Args:
        label_smoothing: the share of each target that training spreads over all classes (Szegedy et al. 2016,
            arXiv 1512.00567). No figure has it.
    """

    figures: Mapping[str, Direction] = {"loss": "min", "accuracy": "max"}
    columns: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    @checked
    def __init__(self, label_smoothing: Share = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """
        Args:
            outputs: float `[targets, classes]`.
            targets: int64 `[targets]`.
        """
        return F.cross_entropy(outputs, targets)

    def minimised(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
        if not self.label_smoothing:
            return loss
        return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (outputs.argmax(-1) == targets).sum()}


class MeanSquaredError(Objective):
    """Numbers: the mean squared error, its root and the mean absolute error, each the mean over a target's numbers."""

    figures: Mapping[str, Direction] = {"loss": "min", "rmse": "min", "mae": "min"}
    columns = ("loss", "mae")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """
        Args:
            outputs, targets: float, of the same shape.
        """
        return F.mse_loss(outputs, targets)

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"mae": F.l1_loss(outputs, targets) * len(targets)}

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"rmse": math.sqrt(means["loss"])}
