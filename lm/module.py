"""The LightningModule of language models."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from unroll.errors import UserError
from unroll.module import WindowLearner
from unroll.objectives import CrossEntropy, Direction, Objective
from unroll.streams import IndependentWindows
from unroll.streams.one import OneSequence


class NextToken(CrossEntropy):
    """The next token by its scores: loss in nats per token, accuracy and perplexity."""

    figures: ClassVar[Mapping[str, Direction]] = {**CrossEntropy.figures, "perplexity": "min"}

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"perplexity": perplexity(means["loss"])}


class LanguageModel(WindowLearner):
    """Trains a model of `lm.models` on windows of tokens: one window is one `training_step`.

    Args:
        model: `forward(tokens, state=None) -> (logits, state)` as described in `lm.models`.
        objective: the loss and the figures, `NextToken()` by default.
        settings: optimizer, groups, schedule, metadata, compile and forget, as for `WindowLearner`.
    """

    unit = "tokens"

    def __init__(self, model: nn.Module, *settings: Any, objective: Objective | None = None, **more: Any) -> None:
        super().__init__(model, objective or NextToken(), *settings, **more)

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
