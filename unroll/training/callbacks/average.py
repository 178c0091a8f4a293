"""Averaged weights: of the last part of training, used in place of the last weights."""

import math
from typing import Any

import pytorch_lightning as pl
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_avg_fn

from unroll.checks import Fraction, Share, Size, checked
from unroll.training.learner import Learner


class Average(pl.callbacks.WeightAveraging):
    """Lightning's `WeightAveraging`, from a share of training on; validation and the finished model use the average.

    Lightning's own, begun late, validates and saves the untrained weights until then (its issue 21724), and loses
    the weights that training would continue with, at the end and in a validation that is cut short; here they are kept.

    Args:
        start: the share of all optimizer steps after which averaging begins.
        decay: None for the plain mean (Izmailov et al. 2018, arXiv 1803.05407), or the weight that an exponential
            moving average keeps at each step (0.99 looks back over about a hundred steps).
    """

    @checked
    def __init__(self, start: Share, decay: Fraction | None = None) -> None:
        if decay is None:
            super().__init__(avg_fn=get_swa_avg_fn())  # torch's multi-tensor version can't average integers
        else:
            super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.start = start
        self.first_step = 0
        self.swapped = False

    @property
    def begun(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        assert self._average_model is not None
        _, total_steps = pl_module.count_steps()
        self.first_step = int(self.start * total_steps)
        if trainer.global_step < self.first_step:  # a finished run was extended: its last part is yet to come
            self._average_model.n_averaged.zero_()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= self.first_step

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        if self.begun:
            super()._swap_models(pl_module)
            self.swapped = not self.swapped

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap_models(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.begun:
            return
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.swapped:  # Lightning takes the weights in use for the trained ones
            average, trained = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, trained

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class NonMonotonicAverage(Average):
    """The mean of the weights from when validation stops getting better: the trigger of NT-ASGD (Merity et al. 2017,
    arXiv 1708.02182, algorithm 1), which goes with SGD at a constant rate.

    It begins after the first validation whose figure is worse than the best of all but the last `patience` before it.

    Args:
        monitor: the figure, such as `valid/loss`.
        patience: the number of validations, the non-monotone interval.
    """

    @checked
    def __init__(self, monitor: str = "valid/loss", patience: Size = 5) -> None:
        super().__init__(start=0)
        self.monitor = monitor
        self.patience = patience
        self.seen: list[float] = []
        self.triggered = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Overrides the start after a share of the steps."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if self.triggered or trainer.state.fn != "fit":
            return
        sign = 1 if pl_module.metrics[self.monitor] == "min" else -1
        figure = sign * float(trainer.callback_metrics[self.monitor])
        self.triggered = figure > min(self.seen[: -self.patience], default=math.inf)
        self.seen.append(figure)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return self.triggered and step_idx is not None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seen": self.seen, "triggered": self.triggered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.seen, self.triggered = state_dict["seen"], state_dict["triggered"]
