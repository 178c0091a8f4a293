"""What TensorBoard shows beside the logged figures, and the pictures that a run leaves."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from training.callbacks.result import latest_metrics
from training.loggers import MetricsFile
from training.module import SupervisedModule


class Board(pl.Callback):
    """Speed while training; settings, `curves.png` and a task's own pictures (`pictures`) at the end.

    Nothing here is in `metrics.csv`, which is the same for the same run.

    Args:
        folder: the run's directory.
        settings: the parts of the configuration that the HParams tab is to show.
    """

    def __init__(self, folder: str, settings: DictConfig) -> None:
        self.folder = Path(folder)
        self.settings = flat(OmegaConf.to_container(settings, resolve=True))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        self.writers = [board.experiment for board in boards if trainer.is_global_zero]
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
        assert isinstance(pl_module, SupervisedModule)
        self.units += pl_module.size(batch) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            speed = self.units / (time.perf_counter() - self.started)
            for writer in self.writers:
                writer.add_scalar(f"{pl_module.unit}_per_second", speed, trainer.global_step)
            self._start_clock()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SupervisedModule)
        for writer in self.writers:
            for summary in hparams(self.settings, latest_metrics(trainer)):
                writer.file_writer.add_summary(summary)
        for name, pixels in {**curves(trainer), **self.pictures(trainer, pl_module)}.items():
            self.keep(name, pixels, trainer.global_step)

    def pictures(self, trainer: pl.Trainer, module: SupervisedModule) -> dict[str, numpy.ndarray]:
        """Those of the finished model, by name: uint8 `[height, width, 3]`."""
        return {}

    def keep(self, name: str, pixels: numpy.ndarray, step: int) -> None:
        """A picture for the run's directory and for TensorBoard."""
        from PIL import Image

        Image.fromarray(pixels).save(self.folder / f"{name}.png", compress_level=1)
        for writer in self.writers:
            writer.add_image(name, pixels, step, dataformats="HWC")


def curves(trainer: pl.Trainer) -> dict[str, numpy.ndarray]:
    files = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
    if not files:
        return {}
    from training import pictures  # matplotlib takes a while

    return {"curves": pictures.curves(files[0].read())}


def flat(settings: Any, prefix: str = "") -> dict[str, bool | str | float]:
    """Nested settings as `{"data.bptt": 20, …}`; the HParams tab knows numbers, words and yes or no."""
    if isinstance(settings, Mapping):
        parts = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in settings.items())
        return {key: value for part in parts for key, value in part.items()}
    if prefix.endswith("._target_"):
        return {prefix.removesuffix("._target_"): str(settings).rpartition(".")[2]}
    if prefix.endswith("._partial_") or settings is None:
        return {}
    return {prefix: settings if isinstance(settings, (bool, int, float)) else str(settings)}
