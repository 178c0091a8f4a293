"""The checkpoint that a run is resumed from exactly, and the signals that stop a run with one."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import torch

from unroll.checks import Positive, Rule, Size, checked
from unroll.errors import Interrupted, UserError
from unroll.lightning import KNOWN, Checkpoint, pl, refuse_unknown_trainer
from unroll.resume.checkpoint import glance
from unroll.resume.exact import ResumesExactly, weights
from unroll.resume.lightning import (
    batches_completed,
    ends_trial,
    is_fitting,
    is_restarting,
    is_trial,
    look_for_last,
    next_batch,
    reduce_over_processes,
    weight_averages,
)
from unroll.resume.loaders import put_before_batch
from unroll.resume.moment import BeforeStep

CONTINUE, SAVE, SAVE_AND_STOP = range(3)
FolderName = Annotated[
    str | os.PathLike[str],
    Rule(
        lambda value: isinstance(value, (str, os.PathLike)) and "://" not in str(value),
        "the name of a folder on a disk of this machine",
    ),
]
SHOW_CURSOR = b"\x1b[?25h"  # the progress bar hides it
STOPPING = b"\nstopping after this step (once more: at once)\n"


class LastCheckpoint(ResumesExactly, Checkpoint):
    """Writes `last.ckpt` after each epoch, at the end, at the intervals chosen, and when the run is told to stop.

    With any LightningModule and an `unroll.Stream`, as such, in a `DataLoader` or in torchdata's `StatefulDataLoader`,
    or several of them, a fit that is resumed from the file (`fit(…, ckpt_path="last", weights_only=True)`) ends bit for
    bit like one that was never stopped. A file that is there already and holds more steps than the fit begins with is
    kept beside it, under the name `last-STEPS.ckpt`, or `last-STEPS-v1.ckpt`, … where there is one already.

    The file is only written between two steps, when everything of the step before has been done and logged (or, when a
    validation is cut short, as if that were still to begin). The progress that Lightning saves is changed to say just
    that: as it is, Lightning would skip a validation or log a row twice on resume.

    SIGTERM and Ctrl-C stop the run in this way; a second one ends it at once. A fit with `fast_dev_run` writes nothing,
    as with Lightning's own callbacks.

    Args:
        dirpath: the folder.
        every_n_steps: write it also after so many optimizer steps.
        every_n_minutes: write it also when so many minutes have passed since the last one.

    Raises:
        Interrupted: after a signal, with the exit status that belongs to it.
        UserError: the Trainer is of a copy of Lightning that was imported after `unroll` (see `unroll.lightning`), it
            has another `LastCheckpoint`, the folder can't be written to, or a stream can't be resumed exactly (see
            `unroll.resume.exact`).
    """

    best_model_path = ""  # Lightning asks the first Checkpoint for it, and says in a line that there is none

    @checked
    def __init__(
        self, dirpath: FolderName, every_n_steps: Size | None = None, every_n_minutes: Positive | None = None
    ) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.signal: int | None = None
        self.ended = False
        self.handlers_before: dict[int, Any] = {}
        self.set_progress: Callable[[dict[str, Any]], None] | None = None  # while it is written
        self.weights: dict[str, Any] | None = None  # beside Lightning's average, which takes their place at the end
        for lightning in KNOWN:
            look_for_last(lightning.Trainer, lambda callback: isinstance(callback, LastCheckpoint))

    # When it is written

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        refuse_unknown_trainer(trainer)
        refuse_another(self, trainer)
        super().setup(trainer, pl_module, stage)
        self.signal, self.weights = None, None  # of a fit before
        # behind the others: Lightning asks the first Checkpoint for the best model
        callbacks: Any = trainer
        callbacks.callbacks = [callback for callback in callbacks.callbacks if callback is not self] + [self]
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self.handlers_before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number, handler in self.handlers_before.items():  # by Lightning's a program ends as if all had gone well
            signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero and not is_trial(trainer):
            make_folder(self.path.parent)
        self._keep_longer_run(trainer)
        self.saved_at = time.monotonic()
        self.ended = False
        self.is_global_zero = trainer.is_global_zero
        for number in self.handlers_before:
            signal.signal(number, self._on_signal)  # in place of Lightning's

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for handled in self.handlers_before:
            signal.signal(handled, signal.SIG_DFL)
        if self.is_global_zero:  # os.write, because the signal may have interrupted a print()
            os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + STOPPING)

    def before_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().before_epoch(trainer, pl_module)
        if trainer.current_epoch > 0 and not is_restarting(trainer):
            self._save_behind_epoch(trainer)
            if self._most_urgent(trainer, SAVE_AND_STOP if self.signal else CONTINUE):
                self._stop(trainer)

    def before_batch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().before_batch(trainer, pl_module)
        batches = batches_completed(trainer)
        between_steps = batches > 0 and batches % trainer.accumulate_grad_batches == 0
        action = self._action(trainer) if between_steps and not is_restarting(trainer) else CONTINUE
        if action != CONTINUE:
            self.before = self.before or BeforeStep(trainer, pl_module)
            self._save(trainer)
        if action == SAVE_AND_STOP:
            self._stop(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking and self._most_urgent(trainer, SAVE_AND_STOP if self.signal else CONTINUE):
            self._save(trainer)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if weight_averages(trainer):
            self.weights = weights(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended = True
        self._save_behind_epoch(trainer)

    def _save_behind_epoch(self, trainer: pl.Trainer) -> None:
        epoch, batch = next_batch(trainer)
        if batch:  # a fit that was cut short, and is extended
            self._save(trainer)
        else:
            self._save(trainer, partial(put_before_batch, trainer=trainer, epoch=epoch, batch=0))

    def _keep_longer_run(self, trainer: pl.Trainer) -> None:
        """Renames a file that is there already if it holds more steps than the fit begins with."""
        if is_trial(trainer) or not trainer.is_global_zero or not self.path.exists():
            return
        if trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve() == self.path.resolve():
            return  # the fit goes on from it, whatever else it holds
        steps = glance(self.path).get("global_step")  # None if it is no checkpoint, damaged, or can't be read safely
        if steps is None or steps > trainer.global_step:
            kept = free_name(self.path.with_name(f"last-{'unreadable' if steps is None else steps}.ckpt"))
            self.path.replace(kept)
            held = "which can't be read safely" if steps is None else f"of {steps} steps"
            begins = f"this fit begins at step {trainer.global_step}"
            warnings.warn(f"{self.path} was there, {held}; {begins}, so it is kept as {kept}", stacklevel=2)

    def _action(self, trainer: pl.Trainer) -> int:
        action = CONTINUE
        step = trainer.global_step
        minutes = (time.monotonic() - self.saved_at) / 60
        if (self.every_n_steps is not None and step > 0 and step % self.every_n_steps == 0) or (
            self.every_n_minutes is not None and minutes >= self.every_n_minutes
        ):
            action = SAVE
        if self.signal is not None:
            action = SAVE_AND_STOP
        return self._most_urgent(trainer, action)

    def _most_urgent(self, trainer: pl.Trainer, action: int) -> int:
        """The most urgent action of all processes: clocks differ, and a signal may reach only one."""
        if trainer.world_size == 1:
            return action
        return int(reduce_over_processes(trainer, torch.tensor(action), "max"))

    def _stop(self, trainer: pl.Trainer) -> None:
        # One process exits with the signal's status, for the shell; the others must not look as if they had failed.
        raise Interrupted(128 + (self.signal or signal.SIGTERM) if trainer.is_global_zero else 0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers_before.items():
            signal.signal(number, handler)
        self.handlers_before = {}

    # What is in it

    def _save(
        self, trainer: pl.Trainer, set_progress: Callable[[dict[str, Any]], None] = lambda checkpoint: None
    ) -> None:
        self.saved_at = time.monotonic()
        if is_trial(trainer):
            return
        if not all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters()):
            return  # the next step will say that the run has diverged; the last good checkpoint stays
        self.set_progress = set_progress
        trainer.save_checkpoint(self.path, weights_only=False)  # said, or Lightning says that it was not
        self.set_progress = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.set_progress is not None:  # other checkpoints are left as Lightning makes them
            self.set_progress(checkpoint)
            if self.ended and self.weights is not None:
                checkpoint["current_model_state"] = self.weights
            loggers = [logger for logger in trainer.loggers if hasattr(logger, "position")]
            checkpoint["loggers"] = {type(logger).__name__: logger.position() for logger in loggers}
            checkpoint["folder"] = str(self.path.parent)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not is_fitting(trainer) or ends_trial(trainer):  # the weights are only looked at: no log is rewound
            return
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        positions = checkpoint.get("loggers", {})
        for logger in trainer.loggers:
            if type(logger).__name__ in positions:
                logger.rewind(positions[type(logger).__name__])  # type: ignore[attr-defined]
        folder = checkpoint.get("folder")
        if folder is not None and folder != str(self.path.parent):  # it was moved; other callbacks name files in it
            checkpoint["callbacks"] = replace_folder(checkpoint["callbacks"], folder, str(self.path.parent))


def refuse_another(callback: LastCheckpoint, trainer: Any) -> None:
    """
    Raises:
        UserError: the trainer has more than one: each would put its own in the place of Lightning's progress.
    """
    others = [other for other in trainer.callbacks if isinstance(other, LastCheckpoint) and other is not callback]
    if others:
        raise UserError(
            f"the Trainer has two LastCheckpoint callbacks ({callback.path} and {others[0].path}): give it one, and "
            f"for more files a ModelCheckpoint, whose files resume exactly, too"
        )


def make_folder(path: Path) -> None:
    """
    Raises:
        UserError: it can't be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(path, os.W_OK) else "it can't be written to"
    except (OSError, ValueError) as error:  # the latter for a name with a zero in it
        why = getattr(error, "strerror", None) or str(error)
    if why:
        raise UserError(f"dirpath={path}: no folder for checkpoints ({why})")


def free_name(path: Path) -> Path:
    """The path, or the first of `…-v1`, `…-v2` that is free."""
    numbered = (path.with_name(f"{path.stem}-v{number}{path.suffix}") for number in count(1))
    return next(free for free in chain([path], numbered) if not free.exists())


def replace_folder(paths: Any, before: str, now: str) -> Any:
    """A copy of a nest of dicts in which every path below the folder `before` is below `now` instead."""
    if isinstance(paths, dict):
        return {replace_folder(key, before, now): replace_folder(value, before, now) for key, value in paths.items()}
    if isinstance(paths, str) and (paths == before or paths.startswith(before + os.sep)):
        return now + paths.removeprefix(before)
    return paths
