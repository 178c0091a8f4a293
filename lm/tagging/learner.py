"""The LightningModule of taggers, and their metrics."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Unpack

from lm.tagging import spans
from lm.tagging.schemes import Scheme
from unroll.checks import Share
from unroll.errors import UserError
from unroll.streams import Window
from unroll.training.learner import LearnerSettings, Step, WindowLearner
from unroll.training.objectives import CrossEntropy, Direction, Objective, Scored, outputs_of


class Labels(CrossEntropy):
    """A label for every word: loss and accuracy per word, and precision, recall and F1 of spans as conlleval counts;
    `strict_f1` leaves out spans that are not spelt as the scheme spells them.

    The loss of a model with a CRF is that of whole sentences, per word. The metrics beside the loss are those of the
    labels that a model predicts, which `TaggingLearner` counts.

    Args:
        label_smoothing: as for `CrossEntropy`; a CRF has none.
    """

    metrics: Mapping[str, Direction] = {
        **CrossEntropy.metrics,
        "precision": "max",
        "recall": "max",
        "f1": "max",
        "strict_f1": "max",
    }
    columns: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "f1")

    def __call__(self, model: nn.Module, features: Tensor, batch: Window) -> Scored:
        if (crf := getattr(model, "crf", None)) is None:
            return super().__call__(model, features, batch)
        count = batch.num_targets
        loss = crf.nll(outputs_of(model, features), batch.targets, batch.full_mask) / count
        return Scored(loss, loss, {"targets": count})

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {}

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        if "spans_true" not in means:  # of training
            return {}
        counts, strict = (
            spans.Counts(*(means[f"{kind}_{name}"] for name in spans.Counts._fields)) for kind in ("spans", "strict")
        )
        return {
            "precision": counts.correct / counts.predicted if counts.predicted else 0.0,
            "recall": counts.correct / counts.true if counts.true else 0.0,
            "f1": counts.f1,
            "strict_f1": strict.f1,
        }


class TaggingLearner(WindowLearner):
    """Trains a model of `lm.tagging.model` on sentences, or on windows of a stream.

    Args:
        model: `forward(inputs, state=None) -> (scores, state)`, as `lm.tagging.model.Tagger`.
        labels: their names.
        scheme: how they spell spans, the attributes of a `Scheme`; IOB2 by default.
        objective: the metrics, `Labels()` by default.
        forget: as for `WindowLearner`.
        settings: as for `Learner`.
    """

    unit = "words"

    def __init__(
        self,
        model: nn.Module,
        labels: Sequence[str],
        scheme: Mapping[str, Any] | None = None,
        objective: Objective | None = None,
        forget: Share = 0.0,
        **settings: Unpack[LearnerSettings],
    ) -> None:
        super().__init__(model, objective or Labels(), forget, **settings)
        self.labels = list(labels)
        self.scheme = Scheme(**scheme or {})
        self.read_labels: list[tuple[list[str], list[str]]] = []  # the true and the predicted ones of a pass, by row
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
        self.read_labels, self.at_row = [], {}

    def step(self, split: str, batch: Window) -> Step:
        step = super().step(split, batch)
        if split != "train":
            model: Any = self.model
            mask = batch.full_mask
            predicted = model.labels(outputs_of(model, step.features), mask)
            self.passes[split].add_one("accuracy", ((predicted == batch.targets) & mask).sum())
            self.keep(batch, predicted, mask)
        return step

    def keep(self, batch: Window, predicted: Tensor, mask: Tensor) -> None:
        """Keeps labels until the end of the pass: a span may go on in the next window."""
        for row, starts in enumerate(batch.starts.tolist()):
            if starts:
                self.at_row[row] = ([], [])
                self.read_labels.append(self.at_row[row])
            for names, ids in zip(self.at_row[row], (batch.targets, predicted), strict=True):
                names += [self.labels[number] for number in ids[row][mask[row]].tolist()]

    def on_validation_epoch_end(self) -> None:
        true, predicted = zip(*self.read_labels, strict=True) if self.read_labels else ((), ())
        for kind, strict in (("spans", False), ("strict", True)):
            for name, value in spans.count(true, predicted, self.scheme, strict)._asdict().items():
                self.passes["valid"].sums[f"{kind}_{name}"] = float(value)
        super().on_validation_epoch_end()
