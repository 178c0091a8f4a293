"""A checkpoint at the end of each cycle of a schedule with warm restarts."""

from pathlib import Path

from unroll.lightning import Checkpoint, pl
from unroll.resume.lightning import is_trial
from unroll.training.schedules import cycle_ends


class CycleCheckpoints(Checkpoint):
    """Saves `cycle_0.ckpt`, `cycle_1.ckpt`, … when a cycle of `unroll.training.schedules.sgdr` has ended.

    Args:
        dirpath: the folder.
        constant_epochs, cycle_length, cycle_mult: the schedule's.
    """

    def __init__(self, dirpath: str, constant_epochs: int, cycle_length: int | None, cycle_mult: int) -> None:
        self.dirpath = Path(dirpath)
        self.cycles = (constant_epochs, cycle_length, cycle_mult)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.current_epoch + 1
        ends = cycle_ends(max(trainer.max_epochs or 0, done), *self.cycles)
        if done in ends and not is_trial(trainer):
            trainer.save_checkpoint(self.dirpath / f"cycle_{ends.index(done)}.ckpt")
