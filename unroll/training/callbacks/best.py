"""The best checkpoint of a run."""

import math

import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.lightning import pl
from unroll.training.learner import Learner


class BestCheckpoint(pl.callbacks.ModelCheckpoint):
    """Lightning's `ModelCheckpoint` for `best.ckpt`; the module says in which direction the metric is better.

    With `trainer.num_sanity_val_steps=-1`, a whole validation before the first step, the model that training begins
    with counts too.

    Args:
        dirpath: the folder.
        monitor: the metric, such as `valid/loss`.
    """

    untrained: dict[str, Tensor] | None = None  # the metrics before the first step

    def __init__(self, dirpath: str, monitor: str) -> None:
        super().__init__(dirpath, filename="best", monitor=monitor, enable_version_counter=False)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Learner)
        if self.monitor not in pl_module.metrics:
            raise UserError(f"there is no metric {self.monitor}; choose from: {', '.join(pl_module.metrics)}")
        self.mode = pl_module.metrics[self.monitor]
        self.kth_value = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)
        super().setup(trainer, pl_module, stage)

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.num_sanity_val_steps == math.inf:
            self.untrained = self._monitor_candidates(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        untrained, self.untrained = self.untrained, None
        if untrained is not None:
            self._save_topk_checkpoint(trainer, untrained)
