"""The checkpoint that a run is resumed from exactly, and the signals that stop a run with one."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from unroll.checks import Positive, Size, checked
from unroll.distributed import gathered
from unroll.errors import Interrupted
from unroll.resume import random_state

RANDOM = "random_state"  # the checkpoint's key: the random generators of each process
COUNTS_OF_TORCHDATA = {"_num_yielded", "_sampler_iter_yielded"}  # batches, in the state of its loader
CONTINUE, SAVE, SAVE_AND_STOP = range(3)
SHOW_CURSOR = b"\x1b[?25h"  # the progress bar hides it
STOPPING = b"\nstopping after this step (once more: at once)\n"


class LastCheckpoint(pl.callbacks.Checkpoint):
    """Writes `last.ckpt` after each epoch, at the end, at the intervals chosen, and when the run is told to stop.

    With any LightningModule and an `unroll.Stream`, as such or in torchdata's `StatefulDataLoader`, a fit that is
    resumed from the file (`fit(…, ckpt_path=…, weights_only=True)`) ends bit for bit like one that was never stopped.

    The file is only written between two steps, when everything of the step before has been done and logged (or, when a
    validation is cut short, as if that were still to begin). What Lightning notes of its own progress is changed to say
    just that: taken at other places, it would skip a validation or log a row twice on resume.

    SIGTERM and Ctrl-C stop the run in this way; a second one ends it at once.

    Args:
        dirpath: the folder.
        every_n_steps: write it also after so many optimizer steps.
        every_n_minutes: write it also when so many minutes have passed since the last one.

    Raises:
        Interrupted: after a signal, with the exit status that belongs to it.
    """

    @checked
    def __init__(
        self, dirpath: str, every_n_steps: Size | None = None, every_n_minutes: Positive | None = None
    ) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.signal: int | None = None
        self.handlers_before: dict[int, Any] = {}
        self.note: Callable[[dict[str, Any]], None] | None = None
        self.resumed: dict[str, Any] | None = None

    # When it is written

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self.handlers_before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.resumed is not None:
            random_state.restore(self.resumed)
            self.resumed = None
        self.saved_at = time.monotonic()
        self.announces = trainer.is_global_zero
        for number in self.handlers_before:
            signal.signal(number, self._on_signal)  # in place of Lightning's

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for handled in self.handlers_before:
            signal.signal(handled, signal.SIG_DFL)
        if self.announces:  # os.write, because the signal may have interrupted a print()
            os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + STOPPING)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        due = self._due(trainer, batch_idx)
        if due:
            self._save(trainer, lambda loops: before_batch(trainer, loops, trainer.current_epoch, batch_idx))
        if due == SAVE_AND_STOP:
            self._stop(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking and self._agreed(trainer, SAVE_AND_STOP if self.signal else CONTINUE):
            self._save(trainer, before_validation)
            self._stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, batch = trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if batch >= trainer.num_training_batches:
            batch = 0  # a run that is extended begins with a new epoch
        else:
            epoch -= 1  # Lightning counts an epoch that max_steps has cut short as done
        self._save(trainer, lambda loops: before_batch(trainer, loops, epoch, batch))

    def _due(self, trainer: pl.Trainer, batch_idx: int) -> int:
        due = CONTINUE
        step = trainer.global_step
        minutes = (time.monotonic() - self.saved_at) / 60
        if (
            (batch_idx == 0 and trainer.current_epoch > 0)
            or (self.every_n_steps is not None and step > 0 and step % self.every_n_steps == 0)
            or (self.every_n_minutes is not None and minutes >= self.every_n_minutes)
        ):
            due = SAVE
        if self.signal is not None:
            due = SAVE_AND_STOP
        return self._agreed(trainer, due)

    def _agreed(self, trainer: pl.Trainer, due: int) -> int:
        """The most urgent of what all processes propose: clocks differ, and a signal may reach only one."""
        if trainer.world_size == 1:
            return due
        proposal = torch.tensor(due, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(proposal, reduce_op="max"))

    def _stop(self, trainer: pl.Trainer) -> None:
        # One process exits with the signal's status, for the shell; the others must not look as if they had failed.
        raise Interrupted(128 + (self.signal or signal.SIGTERM) if trainer.is_global_zero else 0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers_before.items():
            signal.signal(number, handler)
        self.handlers_before = {}

    # What is in it

    def _save(self, trainer: pl.Trainer, note: Callable[[dict[str, Any]], None]) -> None:
        self.saved_at = time.monotonic()
        if not all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters()):
            return  # the next step will say that the run has diverged; the last good checkpoint stays
        self.note = note
        trainer.save_checkpoint(self.path)
        self.note = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RANDOM] = gathered(random_state.get())
        if self.note is not None:
            self.note(checkpoint["loops"]["fit_loop"])
            loggers = [logger for logger in trainer.loggers if hasattr(logger, "position")]
            checkpoint["loggers"] = {type(logger).__name__: logger.position() for logger in loggers}
            checkpoint["folder"] = str(self.path.parent)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        everyones = checkpoint.get(RANDOM, [])
        if trainer.global_rank < len(everyones):
            self.resumed = everyones[trainer.global_rank]
        positions = checkpoint.get("loggers", {})
        for logger in trainer.loggers:
            if type(logger).__name__ in positions:
                logger.rewind(positions[type(logger).__name__])  # type: ignore[attr-defined]
        folder = checkpoint.get("folder")
        if folder is not None and folder != str(self.path.parent):  # it was moved; other callbacks name files in it
            checkpoint["callbacks"] = moved(checkpoint["callbacks"], folder, str(self.path.parent))


def before_batch(trainer: pl.Trainer, fit_loop: dict[str, Any], epoch: int, batch: int) -> None:
    """Changes Lightning's notes to: so many epochs and batches are done, and the next batch is about to begin.

    Args:
        fit_loop: `checkpoint["loops"]["fit_loop"]`.
        epoch, batch: how many are done, of the run and of the epoch. With batch 0 the epoch is about to begin, so that
            its hooks are called on resume.
    """
    for count in fit_loop["epoch_progress"].values():
        count.update(ready=epoch + 1, started=epoch + (batch > 0), processed=epoch, completed=epoch)
    batches = fit_loop["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for count, done in ((batches["total"], batches["total"]["completed"]), (batches["current"], batch)):
        count.update(ready=done + 1, started=done, processed=done, completed=done)
    following = batch + 1
    if following % trainer.accumulate_grad_batches == 0 or following == trainer.num_training_batches:
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning will add one on resume
    for loader in fit_loop["state_dict"].get("combined_loader", []):
        move_to(loader, epoch, batch)


def move_to(loader: Any, epoch: int, batch: int) -> None:
    """Changes the place of an `unroll.streams.Resumable` in the state of a loader, or of one around it."""
    if isinstance(loader, dict):
        if set(loader) == {"epoch", "batches"}:
            loader.update(epoch=epoch, batches=batch)
        loader.update(dict.fromkeys(COUNTS_OF_TORCHDATA & set(loader), batch))
        for part in loader.values():
            move_to(part, epoch, batch)


def before_validation(fit_loop: dict[str, Any]) -> None:
    """Changes Lightning's notes to: the validation that has been cut short is about to begin."""
    batches = fit_loop["epoch_loop.val_loop.batch_progress"]
    batches["is_last_batch"] = False
    for count in (batches["total"], batches["current"]):
        count.update(ready=1, started=1, processed=0, completed=0)


def moved(names: Any, before: str, now: str) -> Any:
    """A copy in which every path below the folder `before` is below `now` instead."""
    if isinstance(names, dict):
        return {moved(key, before, now): moved(value, before, now) for key, value in names.items()}
    if isinstance(names, str) and (names == before or names.startswith(before + os.sep)):
        return now + names.removeprefix(before)
    return names
