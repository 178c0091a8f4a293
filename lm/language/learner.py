"""The LightningModule of language models."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from typing_extensions import Unpack

from lm.language.heads import Head
from unroll.checks import Share
from unroll.errors import UserError
from unroll.streams import IndependentWindows, Stream
from unroll.streams.one import OneSequence
from unroll.training.learner import LearnerSettings, WindowLearner
from unroll.training.objectives import CrossEntropy, Direction, Objective, Scored


class NextToken(CrossEntropy):
    """The next token: loss in nats per token, accuracy and perplexity; of characters also bits per character.

    Args:
        label_smoothing: as for `CrossEntropy`.
    """

    metrics: Mapping[str, Direction] = {**CrossEntropy.metrics, "perplexity": "min"}

    def of_characters(self) -> None:
        """Gives the loss in bits per character too."""
        self.metrics = {**self.metrics, "bits_per_character": "min"}

    def score(self, model: nn.Module, features: Tensor, targets: Tensor) -> Scored:
        head = getattr(model, "head", None)
        if not (hasattr(model, "features") and isinstance(head, Head)):
            return super().score(model, features, targets)
        count_right = not model.training
        loss, minimised, right = head.measured(features, targets, self.label_smoothing, count_right)
        return Scored(loss, minimised, {} if right is None else {"accuracy": right})

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"]), "bits_per_character": means["loss"] / math.log(2)}


class LanguageModel(WindowLearner):
    """Trains a model of `lm.language` on windows of tokens: one window is one `training_step`.

    Args:
        model: `forward(tokens, state=None) -> (scores, state)`, best as `lm.language.model.NextTokenModel`.
        objective: the loss and the metrics, `NextToken()` by default.
        characters: tokens are characters.
        forget: as for `WindowLearner`.
        settings: as for `Learner`.
    """

    unit = "tokens"

    def __init__(
        self,
        model: nn.Module,
        objective: Objective | None = None,
        characters: bool = False,
        forget: Share = 0.0,
        **settings: Unpack[LearnerSettings],
    ) -> None:
        super().__init__(model, objective or NextToken(), forget, **settings)
        if characters and isinstance(self.objective, NextToken):
            self.objective.of_characters()

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


def window_lengths(batches: Stream | IndependentWindows) -> set[int]:
    """The lengths of an epoch's windows."""
    if isinstance(batches, Stream) and isinstance(batches.layout, OneSequence):
        return {stop - start for start, stop in batches.layout.cuts(batches.random)}
    return {batches.bptt}


def perplexity(loss: float) -> float:
    """The number of equally likely tokens that a loss, in nats per token, corresponds to."""
    return math.exp(loss) if loss < 700 else math.inf
