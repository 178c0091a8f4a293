"""What is learnt: the loss of a batch, and the sums behind the metrics of a split.

A kind of task brings an `Objective`; the rest of `unroll` asks it. A metric is a mean over the targets of a split: each
batch adds its sums and its number of targets, and they are divided once.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unroll.checks import Share, checked
from unroll.errors import UserError

Direction = Literal["min", "max"]


class Scored(NamedTuple):
    """What an objective makes of a batch.

    Attributes:
        loss: the mean loss per target, a number.
        minimised: what training minimises, a number with a gradient: the loss, or another in its place.
        sums: the number of "targets", and of a model in eval mode the other metrics, each summed over the targets.
    """

    loss: Tensor
    minimised: Tensor
    sums: dict[str, Any]


def outputs_of(model: nn.Module, features: Tensor) -> Tensor:
    """The outputs that belong to a model's features: its `head` of them; of a model without `features`, they are it."""
    return model.head(features) if hasattr(model, "features") else features  # type: ignore[operator]


class Objective(ABC):
    """A loss, and the metrics that tell how well a model does.

    Attributes:
        metrics: the name of each metric of a validation, and whether less ("min") or more ("max") of it is better. The
            loss comes first. They are in `result.json` and in reports as `valid/NAME`.
        columns: those of them that have a column in the table on the screen.
    """

    metrics: Mapping[str, Direction] = {"loss": "min"}
    columns: ClassVar[tuple[str, ...]] = ("loss",)

    def __call__(self, model: nn.Module, features: Tensor, batch: Any) -> Scored:
        """Called once for each batch.

        Args:
            model: the model; in eval mode, the sums of all metrics are wanted.
            features: `[rows, predictions, …]`, what the model's `features` returned (of a model that has none, its
                outputs): for each step of a window, or the last ones. Of batches with one target a row: `[rows, …]`.
            batch: a `Window`, or a tuple whose second entry is the targets, `[rows]`.
        """
        one_target_a_row = batch[1].dim() == 1
        features, targets = (features, batch[1]) if one_target_a_row else batch.scored(features)
        if len(targets) == 0:  # every step of the window is masked, and a mean over nothing is not a number
            return self.score_nothing(model, features, targets)
        loss, minimised, sums = self.score(model, features, targets)
        return Scored(loss, minimised, {"targets": len(targets), **sums})

    @abstractmethod
    def score(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        """The same, without the number of targets.

        Args:
            model: as above.
            features: `[targets, …]`.
            targets: `[targets, …]`.
        """

    def score_nothing(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        """Zeros, with the graph and the names that `score` would give."""
        zero = outputs_of(model, features).sum()
        sums = self.score(model, features, targets).sums
        return Scored(zero, zero, {"targets": 0, **{name: torch.zeros_like(value) for name, value in sums.items()}})

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Further metrics, computed from the means over a split: of the loss, in validation of the sums, and the number
        of "targets"."""
        return {}


class CrossEntropy(Objective):
    """Classes by their scores: cross-entropy in nats per target, and the accuracy.

    Outputs are float `[targets, classes]`, targets int64 `[targets]`.

    Args:
        label_smoothing: the share of each target that training spreads over all classes (Szegedy et al. 2016,
            arXiv 1512.00567). No metric has it.
    """

    metrics: Mapping[str, Direction] = {"loss": "min", "accuracy": "max"}
    columns: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    @checked
    def __init__(self, label_smoothing: Share = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def score(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        outputs = outputs_of(model, features)
        loss = minimised = F.cross_entropy(outputs, targets)
        if self.label_smoothing and torch.is_grad_enabled():
            minimised = F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)
        return Scored(loss, minimised, {} if model.training else self.sums(outputs, targets))

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The metrics beside the loss, each summed over the targets."""
        return {"accuracy": (outputs.argmax(-1) == targets).sum()}


class MeanSquaredError(Objective):
    """Numbers: the mean squared error, its root and the mean absolute error, each the mean over a target's numbers.

    Outputs and targets are float, of the same shape.

    Raises:
        UserError: their shapes differ.
    """

    metrics: Mapping[str, Direction] = {"loss": "min", "rmse": "min", "mae": "min"}
    columns = ("loss", "mae")

    def score(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        outputs = outputs_of(model, features)
        if outputs.shape != targets.shape:  # broadcast against each other, they would give a loss that means nothing
            raise UserError(
                f"outputs {list(outputs.shape)} must have the shape of their targets, {list(targets.shape)}"
            )
        loss = F.mse_loss(outputs, targets)
        return Scored(loss, loss, {} if model.training else {"mae": F.l1_loss(outputs, targets) * len(targets)})

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"rmse": math.sqrt(means["loss"])}
