"""A recurrent model, called window by window, by a faster version of it where there is one."""

from typing import Any

from torch import Tensor

from lm.state import State
from training.compiled import FastModel


class FastWindows(FastModel):
    """A `FastModel` that gives what a model of `lm.models` does: the logits and the state after them, and then what the
    model adds to the loss in training, or None.
    """

    def read(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State, Tensor | None]:
        model: Any = self.model
        if model.training and hasattr(model, "penalised"):
            return model.penalised(inputs, state)
        return *model(inputs, state), None
