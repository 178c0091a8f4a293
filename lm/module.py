"""The LightningModule of text: one window is one step, and the state travels from window to window."""

import math
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn

import lm.models
from lm.compiled import FastWindows
from lm.state import State, detach, for_rows, forget
from training.module import Prediction, SupervisedModule, Totals

Batch = tuple[Tensor, Tensor]


class LanguageModel(SupervisedModule):
    """Trains a model of `lm.models` on streams: one window is one ordinary `training_step`.

    The state travels: each split has its own, which starts from zeros when a pass over the split starts and
    is handed, detached, from one step to the next, so that gradients reach back through one window while
    the memory goes on.

    Logs `train/perplexity` and `valid/perplexity` beside what every module does (see `SupervisedModule`); losses are in
    nats per token. With several processes each has rows of its own (`BpttStream.shard`) and their states.

    Args:
        model: `forward(tokens, state) -> (logits, state)` as described in `lm.models`.
        forget: the share of rows that start from zeros again, before each training window.
        settings: optimizer, groups, schedule, metadata, compile and label_smoothing, as for `SupervisedModule`.
    """

    models: ClassVar[ModuleType] = lm.models
    unit = "tokens"
    recorded = (*SupervisedModule.recorded, "valid/perplexity")

    def __init__(self, model: nn.Module, *settings: Any, forget: float = 0.0, **more: Any) -> None:
        super().__init__(model, *settings, **more)
        self.forget = forget
        self.states: dict[str, State] = {}

    def faster(self, how: bool | str) -> FastWindows:
        return FastWindows(self.model, how)

    def start(self, split: str) -> None:
        """Forgets the state and the sums of the split's last pass."""
        super().start(split)
        self.states[split] = None

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch[:1]

    def predict(self, split: str, batch: Batch) -> Prediction:
        """Reads the next window of a split."""
        inputs, targets = batch
        state = for_rows(self.states[split], inputs.size(0))
        if split == "train":
            state = forget(state, self.forget)
        logits, state, penalty = self.read(inputs, state)
        self.states[split] = detach(state)
        targets = targets[:, -logits.size(1) :].flatten()  # a model may only guess after the last word
        return Prediction(logits.flatten(0, 1), targets, penalty)

    def size(self, batch: Batch) -> int:
        return batch[0].numel()

    def figures(self, split: str, totals: Totals) -> dict[str, float]:
        return {**super().figures(split, totals), f"{split}/perplexity": perplexity(totals.mean_loss())}

    def carried(self) -> State:
        return self.states.get("train")

    def carry(self, carried: State) -> None:
        self.states = {"train": carried}


def perplexity(loss: float) -> float:
    """How many equally likely words the model hesitates between, for a loss in nats per token."""
    return math.exp(loss) if loss < 700 else math.inf
