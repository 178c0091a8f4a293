"""Stops a run whose loss is no longer a number."""

import math
from typing import Any

from unroll.errors import UserError
from unroll.lightning import pl
from unroll.resume.lightning import true_in_any_process
from unroll.training.callbacks.log_interval import LogInterval


class StopWhenDiverged(pl.Callback):
    """Stops the run when a training loss is not finite; the checkpoints of earlier epochs stay as they are.

    On a CPU every batch is checked. On other devices a check waits for the device, so it is done at the steps that are
    logged.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.log_interval = LogInterval(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.log_interval.ended(trainer) and pl_module.device.type != "cpu":
            return
        diverged = not math.isfinite(outputs["loss"].item())
        if true_in_any_process(trainer, diverged):  # if one process stops, all do
            shorter = "a shorter data.bptt, " if hasattr(trainer.datamodule, "bptt") else ""  # type: ignore[attr-defined]
            raise UserError(
                f"the loss is not finite after step {trainer.global_step} of epoch {trainer.current_epoch + 1} "
                f"(learning rate {trainer.optimizers[0].param_groups[0]['lr']:.3g}); try a lower optimizer.lr, "
                f"{shorter}or trainer.gradient_clip_val=1"
            )
