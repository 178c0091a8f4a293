"""What TensorBoard and other trackers show beside the logged metrics: throughput, the run's settings, and plots.

Nothing here is in `metrics.csv`, which is the same for the same run.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from unroll.errors import require
from unroll.files import replacing
from unroll.lightning import pl
from unroll.training.callbacks.log_interval import LogInterval
from unroll.training.callbacks.result import latest_metrics
from unroll.training.learner import Learner
from unroll.training.loggers import MetricsFile
from unroll.training.trackers import Tracker

# The HParams tab sorts columns by name and shows the first five; the others are named "settings/…" to come after.
FIRST_COLUMNS = ("data", "data.bptt", "model", "optimizer.lr", "seed")

PLOT_LIBRARIES = ("matplotlib", "PIL")


def tensorboard_writers(trainer: pl.Trainer) -> list[Any]:
    """The `SummaryWriter`s of the trainer's TensorBoard loggers; none in processes other than the first."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, pl.loggers.TensorBoardLogger)]
    return [logger.experiment for logger in loggers if trainer.is_global_zero]


def trackers(trainer: pl.Trainer) -> list[Tracker]:
    """The trainer's loggers of MLflow and Weights & Biases; none in processes other than the first."""
    return [logger for logger in trainer.loggers if isinstance(logger, Tracker) and trainer.is_global_zero]


def writers(trainer: pl.Trainer) -> list[Any]:
    """The writers of TensorBoard and of trackers, which have the same methods (`TrackerWriter`)."""
    return tensorboard_writers(trainer) + [tracker.writer for tracker in trackers(trainer)]


def save_plot(trainer: pl.Trainer, folder: Path, name: str, pixels: numpy.ndarray) -> None:
    """Saves a plot as `NAME.png` in the folder, and shows it in TensorBoard and other trackers.

    Args:
        pixels: uint8 `[height, width, 3]`.
    """
    from PIL import Image

    with replacing(folder / f"{name}.png") as unfinished:
        Image.fromarray(pixels).save(unfinished, "PNG", compress_level=1)
    for writer in writers(trainer):
        writer.add_image(name, pixels, trainer.global_step, dataformats="HWC")


class Throughput(pl.Callback):
    """Units per second while training, written once for each optimizer step that is logged."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.log_interval = LogInterval(trainer)
        self.writers = writers(trainer)
        self._start_clock()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock()

    def _start_clock(self) -> None:
        self.started, self.units = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        self.units += pl_module.size(batch) * trainer.world_size
        if self.log_interval.ended(trainer):
            speed = self.units / (time.perf_counter() - self.started)
            for writer in self.writers:
                writer.add_scalar(f"{pl_module.unit}_per_second", speed, trainer.global_step)
            self._start_clock()


class HyperParameters(pl.Callback):
    """The run's settings and final metrics in TensorBoard's HParams tab, and its settings in other trackers.

    Args:
        settings: the parts of the configuration to show.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flatten(settings)
        self.columns = {
            name if name in FIRST_COLUMNS else f"settings/{name}": value for name, value in self.settings.items()
        }

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for tracker in trackers(trainer):
            tracker.log_settings(self.settings)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from torch.utils.tensorboard.summary import hparams

        assert isinstance(pl_module, Learner)
        for writer in tensorboard_writers(trainer):
            for summary in hparams(self.columns, latest_metrics(trainer, pl_module)):
                writer.file_writer.add_summary(summary)


def flatten(settings: Any, prefix: str = "") -> dict[str, bool | str | float]:
    """Nested settings as `{"data.bptt": 20, …}`; the HParams tab takes numbers, strings and booleans."""
    if isinstance(settings, Mapping):
        parts = (flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in settings.items())
        return {key: value for part in parts for key, value in part.items()}
    if prefix.endswith("._target_"):
        return {prefix.removesuffix("._target_"): str(settings).rpartition(".")[2]}
    if prefix.endswith("._partial_") or settings is None:
        return {}
    return {prefix: settings if isinstance(settings, (bool, int, float)) else str(settings)}


class Curves(pl.Callback):
    """`curves.png`: loss, metrics, learning rate and gradient norm over the run, from `metrics.csv`.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        require("Curves", "app", *PLOT_LIBRARIES)
        self.folder = Path(folder)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        files = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        if not files or not trainer.is_global_zero:
            return
        from unroll.training.plots import curves  # matplotlib takes a while

        assert isinstance(pl_module, Learner)
        second = next((name for name in pl_module.objective.columns if name != "loss"), None)
        save_plot(trainer, self.folder, "curves", curves(files[0].read(), second))
