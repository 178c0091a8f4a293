"""The best checkpoint of a run."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.lightning import pl
from unroll.resume import lightning
from unroll.training.learner import Learner


class BestCheckpoint(pl.callbacks.ModelCheckpoint):
    """Lightning's `ModelCheckpoint` for `best.ckpt`; the module says in which direction the metric is better.

    With `trainer.num_sanity_val_steps=-1`, a whole validation before the first step, the model that training begins
    with counts too.

    Args:
        dirpath: the folder.
        monitor: the metric, such as `valid/loss`.

    Attributes:
        metrics: of the model in `best.ckpt`.
    """

    untrained: dict[str, Tensor] | None = None  # the metrics before the first step

    def __init__(self, dirpath: str, monitor: str) -> None:
        super().__init__(dirpath, filename="best", monitor=monitor, enable_version_counter=False)
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.metrics = state_dict.get("metrics", {})

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Learner)
        if self.monitor not in pl_module.metrics:
            raise UserError(f"there is no metric {self.monitor}; choose from: {', '.join(pl_module.metrics)}")
        self.mode = pl_module.metrics[self.monitor]
        self.kth_value = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)
        lightning.call_before_best(self, self._note)
        super().setup(trainer, pl_module, stage)

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.num_sanity_val_steps == math.inf:
            self.untrained = lightning.metrics_to_choose_by(self, trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        untrained, self.untrained = self.untrained, None
        if untrained is not None and self.monitor in untrained:
            lightning.save_if_best(self, trainer, untrained)

    def _note(self, trainer: pl.Trainer, metrics: Mapping[str, Tensor]) -> None:
        names: Any = trainer.lightning_module.metrics
        self.metrics = {name: metrics[name].item() for name in names if name in metrics}
