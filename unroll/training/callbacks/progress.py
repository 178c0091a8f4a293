"""What a run shows while it trains: a bar with loss and throughput, and a table with a row per epoch."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from unroll.checks import NonNegative, checked
from unroll.lightning import pl
from unroll.training.learner import Learner


class Progress(pl.Callback):
    """A progress bar on standard error (if that is a terminal), and on standard output a table with a row per epoch.

    The table has the training loss, the validation metrics that the objective names as columns, and the seconds. With
    `trainer.num_sanity_val_steps=-1`, it begins with those before the first epoch.

    Args:
        refresh_seconds: the least time between two updates of the bar: to read the loss is to wait for the device.
    """

    @checked
    def __init__(self, refresh_seconds: NonNegative = 0.25) -> None:
        self.refresh_seconds = refresh_seconds
        self.bar: Bar | None = None
        self.validated = False
        self.untrained: dict[str, float] = {}  # the validation before the first epoch

    def state_dict(self) -> dict[str, Any]:
        return {"validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validated = state_dict["validated"]

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock()

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.num_sanity_val_steps == math.inf:
            self.untrained = pl_module.total("valid")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.is_global_zero:
            self._show(trainer, pl_module)
        self._start_clock()  # an epoch that is gone on with is not started again

    def _show(self, trainer: pl.Trainer, pl_module: Learner) -> None:
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measured]}"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # rows go above the bar, but never from a pipe to the screen
            disable=not console.is_terminal,
        )
        self.bar.start()
        self.task = self.bar.add_task(
            "",
            total=trainer.num_training_batches,
            epoch=trainer.current_epoch + 1,
            epochs=trainer.max_epochs if (trainer.max_epochs or -1) > 0 else "…",
            measured="",  # nothing yet
        )
        names = ["train loss", *(title(name) for name in pl_module.objective.columns)]
        self.widths = [max(len(name), 8) for name in names]
        print("  ".join(["epoch", *map(str.rjust, names, self.widths), "seconds"]), flush=True)
        untrained, self.untrained = self.untrained, {}
        if untrained:
            self._print_row(0, [math.nan, *(untrained.get(name, math.nan) for name in pl_module.objective.columns)])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock()
        self.validated = False
        if self.bar is not None:
            self.bar.reset(self.task)
            self.bar.update(self.task, epoch=trainer.current_epoch + 1)

    def _start_clock(self) -> None:
        self.started = self.shown = time.perf_counter()
        self.units = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        self.units += pl_module.size(batch) * trainer.world_size
        now = time.perf_counter()
        if self.bar is None or self.bar.disable or now - self.shown < self.refresh_seconds:
            return
        self.shown = now
        speed = self.units / (now - self.started)
        measured = f"loss {float(outputs['loss']):.3f} {speed:,.0f} {pl_module.unit}/s"
        self.bar.update(self.task, completed=batch_idx + 1, measured=measured, refresh=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        train, valid = pl_module.total("train"), pl_module.total("valid")  # all processes must ask
        if self.bar is None:
            return
        metrics = [train.get("loss", math.nan)]  # none, if no step of the windows counts
        metrics += [valid.get(name, math.nan) if self.validated else math.nan for name in pl_module.objective.columns]
        self._print_row(trainer.current_epoch + 1, metrics)

    def _print_row(self, epoch: int, metrics: Sequence[float]) -> None:
        cells = ["–" if math.isnan(value) else f"{value:.4f}" for value in metrics]
        seconds = time.perf_counter() - self.started
        print("  ".join([f"{epoch:>5}", *map(str.rjust, cells, self.widths), f"{seconds:>7.1f}"]), flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None and not self.bar.disable:  # before rich 14.1 one that is not shown ends a line
            self.bar.stop()
        self.bar = None


def title(name: str) -> str:
    """The column's title for a validation metric."""
    return "valid loss" if name == "loss" else name
