"""The LightningModule of document classifiers, and their metrics."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from unroll.streams import Window
from unroll.training.learner import Learner, LearnerSettings
from unroll.training.objectives import CrossEntropy, Direction, Objective


class Classes(CrossEntropy):
    """A class for each document: loss in nats, accuracy, and the mean F1 of the classes that are there or predicted
    (macro F1, as in scikit-learn).

    Args:
        classes: how many there are.
        label_smoothing: as for `CrossEntropy`.
    """

    metrics: Mapping[str, Direction] = {**CrossEntropy.metrics, "macro_f1": "max"}
    columns: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "macro_f1")

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        classes, predicted = outputs.size(-1), outputs.argmax(-1)
        true, guessed, right = (
            torch.bincount(labels, minlength=classes) for labels in (targets, predicted, targets[predicted == targets])
        )
        counts = {f"true_{number}": true[number] for number in range(classes)}
        counts |= {f"guessed_{number}": guessed[number] for number in range(classes)}
        counts |= {f"right_{number}": right[number] for number in range(classes)}
        return {**super().sums(outputs, targets), **counts}

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        numbers = [name.removeprefix("true_") for name in means if name.startswith("true_")]
        if not numbers:  # of training
            return {}
        both = {number: means[f"true_{number}"] + means[f"guessed_{number}"] for number in numbers}
        scores = [2 * means[f"right_{number}"] / both[number] for number in numbers if both[number]]
        return {"macro_f1": sum(scores) / len(scores)}


class DocumentClassifier(Learner):
    """Trains a model of `lm.documents.model` on batches of whole documents.

    Args:
        model: `forward(tokens, lengths) -> scores`, as `lm.documents.model.Classifier`.
        classes: their names.
        objective: the metrics, `Classes()` by default.
        settings: as for `Learner`.
    """

    unit = "tokens"

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        objective: Objective | None = None,
        **settings: Unpack[LearnerSettings],
    ) -> None:
        super().__init__(model, objective or Classes(), **settings)
        self.classes = list(classes)

    def inputs(self, batch: Window) -> tuple[Tensor, ...]:
        rows, time = batch.inputs.shape[:2]
        mask = batch.on_host[1]
        return batch.inputs, torch.full((rows,), time) if mask is None else mask.sum(1)

    def size(self, batch: Window) -> int:
        return batch.num_targets
