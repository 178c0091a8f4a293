"""The LightningModule of taggers, and their figures."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lm import spans
from unroll.errors import UserError
from unroll.module import Step, WindowLearner
from unroll.objectives import CrossEntropy, Direction, Objective
from unroll.state import forget
from unroll.streams import Window


class Labels(CrossEntropy):
    """A label for every word: loss and accuracy per word, and precision, recall and F1 of spans as conlleval counts."""

    figures: Mapping[str, Direction] = {
        **CrossEntropy.figures,
        "precision": "max",
        "recall": "max",
        "f1": "max",
    }
    columns: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "f1")

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        if "spans_true" not in means:  # of training
            return {}
        true, predicted, correct = (means[f"spans_{name}"] for name in spans.Counts._fields)
        return {
            "precision": correct / predicted if predicted else 0.0,
            "recall": correct / true if true else 0.0,
            "f1": 2 * correct / (true + predicted) if true + predicted else 0.0,
        }


class TaggingLearner(WindowLearner):
    """Trains a model of `lm.models.tagger` on sentences, or on windows of a stream.

    Args:
        model: `forward(inputs, state=None) -> (scores, state)`, as `lm.models.tagger.Tagger`.
        labels: their names.
        objective: the figures, `Labels()` by default.
        settings: as for `WindowLearner`.
    """

    unit = "words"

    def __init__(
        self, model: nn.Module, labels: Sequence[str], *settings: Any, objective: Objective | None = None, **more: Any
    ) -> None:
        super().__init__(model, objective or Labels(), *settings, **more)
        self.labels = list(labels)
        self.read: list[tuple[list[str], list[str]]] = []  # the true and the predicted labels of a validation, by row
        self.at_row: dict[int, tuple[list[str], list[str]]] = {}

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if getattr(self.model, "whole", False) and getattr(data, "layout", None) == "stream":
            raise UserError(
                "data.layout=stream: needs model.bidirectional=false model.crf=false, which read whole sentences"
            )

    def start(self, split: str) -> None:
        super().start(split)
        self.read, self.at_row = [], {}

    def step(self, split: str, batch: Window) -> Step:
        state = self.state(batch, split)
        if split == "train":
            state = forget(state, self.forget, self.state_axis)
        scores, state, penalty = self.fast_model(*self.inputs(batch), state)
        self.carry(state, split)
        mask = torch.ones_like(batch.targets, dtype=torch.bool) if batch.mask is None else batch.mask
        outputs, targets = scores[mask], batch.targets[mask]
        model: Any = self.model
        crf, sums = model.crf, self.passes[split]
        loss = (
            self.objective.loss(outputs, targets)
            if crf is None
            else crf.nll(scores, batch.targets, mask) / len(targets)
        )
        sums.add("loss", loss, times=len(targets))
        sums.targets += len(targets)
        if split == "train":
            minimised = loss if crf is not None else self.objective.minimised(outputs, targets, loss)
            return Step(loss, minimised if penalty is None else minimised + penalty, outputs, targets)
        predicted = model.labels(scores, mask)
        sums.add("accuracy", (predicted[mask] == targets).sum())
        self.keep(batch, predicted, mask)
        return Step(loss, loss, outputs, targets)

    def keep(self, batch: Window, predicted: Tensor, mask: Tensor) -> None:
        """Keeps labels until the end of the pass: a span may go on in the next window."""
        for row, starts in enumerate(batch.starts.tolist()):
            if starts:
                self.at_row[row] = ([], [])
                self.read.append(self.at_row[row])
            for names, ids in zip(self.at_row[row], (batch.targets, predicted), strict=True):
                names += [self.labels[number] for number in ids[row][mask[row]].tolist()]

    def on_validation_epoch_end(self) -> None:
        true, predicted = zip(*self.read, strict=True) if self.read else ((), ())
        for name, value in spans.count(true, predicted)._asdict().items():
            self.passes["valid"].sums[f"spans_{name}"] = float(value)
        super().on_validation_epoch_end()
