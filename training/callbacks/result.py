"""The figures of a finished run, for people and programs: `result.json`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from training.errors import Interrupted
from training.files import replacing
from training.module import SupervisedModule
from training.runs import METRICS


def latest_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """Of those that are recorded, what was logged last."""
    return {name: trainer.callback_metrics[name].item() for name in METRICS if name in trainer.callback_metrics}


class Result(pl.Callback):
    """Writes `result.json` when the fit has ended, or when it was told to stop.

    Seconds, tokens and images are those of the whole run: those before a resume count too.

    Args:
        path: the file.
        seed: the run's seed, to be recorded.
        overrides: what was typed on the command line, to be recorded.
    """

    def __init__(self, path: str, seed: int, overrides: Sequence[str]) -> None:
        self.path = Path(path)
        self.seed = seed
        self.overrides = list(overrides)
        self.metrics: dict[str, float | None] = {}
        self.seconds_before = 0.0
        self.units = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, SupervisedModule)
        self.metrics = dict.fromkeys(pl_module.recorded)
        self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "seconds": self._seconds(), "units": self.units}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics = state_dict["metrics"]
        self.units = state_dict.get("units", state_dict.get("tokens", 0))  # as older checkpoints call them
        self.seconds_before = state_dict["seconds"]

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SupervisedModule)
        self.units += pl_module.size(batch) * trainer.world_size

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keep_metrics(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keep_metrics(trainer)

    def _keep_metrics(self, trainer: pl.Trainer) -> None:
        """Lightning's own memory of them ends with the process."""
        self.metrics |= latest_metrics(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, pl_module, "finished")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Interrupted):
            self._write(trainer, pl_module, "interrupted")

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, status: str) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SupervisedModule)
        seconds = self._seconds()
        result = {
            "status": status,
            "metrics": self.metrics,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            f"{pl_module.unit}_per_second": round(self.units / seconds, 1),
            "seconds": round(seconds, 3),
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
            "seed": self.seed,
            "overrides": self.overrides,
        }
        with replacing(self.path) as unfinished:
            unfinished.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
