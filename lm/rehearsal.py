"""Some steps of training that leave the module as it is."""

from copy import deepcopy

import torch
from torch import Tensor
from torch.optim import Optimizer

from lm.module import Batch, LanguageModel
from lm.optimizers import parameter_groups


class Rehearsal(LanguageModel):
    """A copy of a module's model, with an optimizer of its own made as the module's would be.

    Args:
        module: what is to be trained later.
        device: where the copy lives.
    """

    def __init__(self, module: LanguageModel, device: torch.device | None = None) -> None:
        assert module.optimizer is not None
        model = deepcopy(module.model).train().to(device)
        super().__init__(model, forget=module.forget, label_smoothing=module.label_smoothing)
        self.stepper: Optimizer = module.optimizer(parameter_groups(self.model, module.groups))
        self.start("train")

    def train_on(self, batch: Batch) -> Tensor:
        """One step. Returns the loss before it."""
        window = self.step("train", batch)
        self.stepper.zero_grad()
        window.objective.backward()
        self.stepper.step()
        return window.loss
