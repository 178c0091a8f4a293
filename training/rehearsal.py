"""Some steps of training that leave the module as it is."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from training.module import SupervisedModule
from training.optimizers import parameter_groups


class Rehearsal:
    """A copy of a module, with an optimizer of its own made as the module's would be.

    Args:
        module: what is to be trained later.
        device: where the copy lives.
    """

    def __init__(self, module: SupervisedModule, device: torch.device | None = None) -> None:
        assert module.optimizer is not None
        self.module = deepcopy(module).train()
        if device is not None:
            self.module.to(device)
        self.module.read.how = False
        self.stepper: Optimizer = module.optimizer(parameter_groups(self.module.model, module.groups))
        self.module.start("train")

    def train_on(self, batch: Any) -> Tensor:
        """One step. Returns the loss before it."""
        step = self.module.step("train", batch)
        self.stepper.zero_grad()
        step.objective.backward()
        self.stepper.step()
        return step.loss
