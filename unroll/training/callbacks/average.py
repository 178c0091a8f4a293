"""Averaged weights: of the last part of training, used in place of the last weights."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_avg_fn

from unroll.checks import Fraction, Share, Size, checked
from unroll.lightning import pl
from unroll.resume.lightning import is_fitting
from unroll.training.learner import Learner
from unroll.training.schedules import count_steps

TRAINED = "current_model_state"  # the checkpoint's key, as in Lightning's WeightAveraging: the weights that are trained


class Average(pl.Callback):
    """Averages the weights, from a share of training on; validation and the finished model use the average.

    A checkpoint has the average as `state_dict`, and the weights that training continues with as `current_model_state`.

    Lightning's `WeightAveraging`, begun late, validates and saves the untrained weights until then (its issue 21724),
    loses the weights that training would continue with, at the end and in a validation that is cut short, and waits for
    the device in every step. So this does not inherit from it.

    Args:
        start: the share of all optimizer steps after which averaging begins.
        decay: None for the plain mean (Izmailov et al. 2018, arXiv 1803.05407), or the weight that an exponential
            moving average keeps at each step (0.99 looks back over about a hundred steps).
    """

    @checked
    def __init__(self, start: Share, decay: Fraction | None = None) -> None:
        self.start = start
        self.decay = decay
        self.first_step = 0
        self.clear()

    def clear(self) -> None:
        """Forgets the average."""
        self.count = 0  # the steps that are in it
        self.latest_step = 0
        self.weights: list[Tensor] = []  # the average; while it is in use, the weights that are trained
        self.in_use = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.clear()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # a checkpoint is restored before the model is moved to the device
        self.weights = [kept.to(tensor.device) for kept, tensor in zip(self.weights, tensors(pl_module), strict=False)]
        self.plan(trainer, pl_module)

    def plan(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Finds the step at which averaging begins."""
        _, total_steps = count_steps(trainer)
        self.first_step = int(self.start * total_steps)
        if trainer.global_step < self.first_step:  # a finished run was extended: its last part is yet to come
            self.clear()

    def includes(self, step: int) -> bool:
        """Whether the weights after this optimizer step, counted from 0, go into the average."""
        return step >= self.first_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self.latest_step and self.includes(trainer.global_step - 1):
            self.update(pl_module)
            self.latest_step = trainer.global_step

    @torch.no_grad()
    def update(self, module: pl.LightningModule) -> None:
        """Takes the module's weights into the average."""
        if self.count == 0:
            self.weights = [tensor.clone() for tensor in tensors(module)]
        mean = get_swa_avg_fn()
        for average, tensor in zip(self.weights, tensors(module), strict=True):
            if not average.is_floating_point():  # such as the number of batches that a norm has seen
                average.copy_(tensor)
            elif self.decay is None:
                average.copy_(mean(average, tensor, self.count))
            else:
                average.lerp_(tensor, 1 - self.decay)
        self.count += 1

    @torch.no_grad()
    def swap(self, module: pl.LightningModule) -> None:
        """Exchanges the module's weights and the ones that are kept here, if there is an average."""
        if self.count == 0:
            return
        for kept, tensor in zip(self.weights, tensors(module), strict=True):
            before = tensor.clone()
            tensor.copy_(kept)
            kept.copy_(before)
        self.in_use = not self.in_use

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_fitting(trainer):
            self.swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_fitting(trainer):
            self.swap(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "latest_step": self.latest_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count, self.latest_step = state_dict["count"], state_dict["latest_step"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.count == 0:
            return
        kept = {id(tensor): other for tensor, other in zip(tensors(pl_module), self.weights, strict=True)}
        in_module = pl_module.state_dict(keep_vars=True)  # the tensors themselves; one may have several names
        others = {name: kept.get(id(tensor), tensor) for name, tensor in in_module.items()}
        if self.in_use:
            checkpoint[TRAINED] = others
        else:
            checkpoint[TRAINED], checkpoint["state_dict"] = checkpoint["state_dict"], others

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if is_fitting(trainer) and TRAINED in checkpoint:  # the module has the average
            self.weights = [tensor.detach().clone() for tensor in tensors(pl_module)]
            pl_module.load_state_dict(checkpoint[TRAINED])


def tensors(module: pl.LightningModule) -> list[Tensor]:
    """The parameters and the buffers of a module."""
    return [*module.parameters(), *module.buffers()]


class NonMonotonicAverage(Average):
    """The mean of the weights from when validation stops getting better: the trigger of NT-ASGD (Merity et al. 2017,
    arXiv 1708.02182, algorithm 1), which goes with SGD at a constant rate.

    It begins after the first validation whose metric is worse than the best of all but the last `patience` before it.

    Args:
        monitor: the metric, such as `valid/loss`.
        patience: the number of validations, the non-monotone interval.
    """

    @checked
    def __init__(self, monitor: str = "valid/loss", patience: Size = 5) -> None:
        super().__init__(start=0)
        self.monitor = monitor
        self.patience = patience

    def clear(self) -> None:
        super().clear()
        self.history: list[float] = []  # of the metric, in a direction in which less is better
        self.triggered = False

    def plan(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Does nothing: when averaging begins is not known before."""

    def includes(self, step: int) -> bool:
        return self.triggered

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if self.triggered or not is_fitting(trainer):
            return
        sign = 1 if pl_module.metrics[self.monitor] == "min" else -1
        value = sign * float(trainer.callback_metrics[self.monitor])
        self.triggered = value > min(self.history[: -self.patience], default=math.inf)
        self.history.append(value)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "history": self.history, "triggered": self.triggered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.history, self.triggered = state_dict["history"], state_dict["triggered"]
