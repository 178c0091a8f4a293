"""The LightningModule of language models."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lm.models.heads import Head, Measured, unscored
from unroll.errors import UserError
from unroll.module import Prediction, WindowLearner
from unroll.objectives import CrossEntropy, Direction, Objective
from unroll.streams import IndependentWindows, Window
from unroll.streams.one import OneSequence


class Unscored:
    """Predictions of tokens whose scores are not computed as a whole.

    Args:
        head: the model's.
        activations: what the head is given, `[targets, hidden]`.
    """

    def __init__(self, head: Head, activations: Tensor) -> None:
        self.head = head
        self.activations = activations
        self.latest: Measured | None = None

    def measured(self, targets: Tensor, label_smoothing: float) -> Measured:
        """As `Head.measured`; the next call returns the same."""
        if self.latest is None:
            self.latest = self.head.measured(self.activations, targets, label_smoothing)
        return self.latest

    def right(self, targets: Tensor) -> Tensor:
        """How many of the targets have the highest score."""
        if self.latest is not None and self.latest.right is not None:
            return self.latest.right
        with torch.no_grad():  # the latest keeps its gradient
            right = self.head.measured(self.activations, targets).right
        assert right is not None
        return right

    def scores(self) -> Tensor:
        """All of them, `[targets, vocab]`."""
        return self.head.scores(self.activations)

    def sum(self) -> Tensor:
        """Of all scores."""
        return self.scores().sum()


class NextToken(CrossEntropy):
    """The next token by its scores, or `Unscored`: loss in nats per token, accuracy and perplexity."""

    figures: Mapping[str, Direction] = {**CrossEntropy.figures, "perplexity": "min"}

    def of_characters(self) -> None:
        """Gives the loss in bits per character too."""
        self.figures = {**self.figures, "bits_per_character": "min"}

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        if isinstance(outputs, Unscored):
            return outputs.measured(targets, self.label_smoothing).loss
        return super().loss(outputs, targets)

    def minimised(self, outputs: Any, targets: Tensor, loss: Tensor) -> Tensor:
        if isinstance(outputs, Unscored):
            return outputs.measured(targets, self.label_smoothing).minimised
        return super().minimised(outputs, targets, loss)

    def sums(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        if isinstance(outputs, Unscored):
            return {"accuracy": outputs.right(targets)}
        return super().sums(outputs, targets)

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"]), "bits_per_character": means["loss"] / math.log(2)}


class LanguageModel(WindowLearner):
    """Trains a model of `lm.models` on windows of tokens: one window is one `training_step`.

    Args:
        model: `forward(tokens, state=None) -> (logits, state)` as described in `lm.models`.
        objective: the loss and the figures, `NextToken()` by default.
        characters: tokens are characters.
        settings: optimizer, groups, schedule, metadata, compile and forget, as for `WindowLearner`.
    """

    unit = "tokens"

    def __init__(
        self,
        model: nn.Module,
        *settings: Any,
        objective: Objective | None = None,
        characters: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(model, objective or NextToken(), *settings, **more)
        if characters and isinstance(self.objective, NextToken):
            self.objective.of_characters()

    def predict(self, split: str, batch: Window) -> Prediction:
        head = getattr(self.model, "head", None)
        if not isinstance(head, Head):
            return super().predict(split, batch)
        with unscored(head):
            prediction = super().predict(split, batch)
        return prediction._replace(outputs=Unscored(head, prediction.outputs))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        only = getattr(self.model, "only_window", None)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for batches in (data.train, data.valid) if only and data is not None else ():
            if window_lengths(batches) != {only}:
                raise UserError(
                    f"{type(self.model).__name__} reads windows of {only} tokens, all of one length: "
                    f"write data.layout=windows data.bptt={only}"
                )


def window_lengths(batches: OneSequence | IndependentWindows) -> set[int]:
    """The lengths of an epoch's windows."""
    if isinstance(batches, OneSequence):
        return {stop - start for start, stop in batches.windows()}
    return {batches.bptt}


def perplexity(loss: float) -> float:
    """The number of equally likely tokens that a loss, in nats per token, corresponds to."""
    return math.exp(loss) if loss < 700 else math.inf
