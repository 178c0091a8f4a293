"""The metrics of a finished run, for people and programs: `result.json`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unroll.errors import Interrupted
from unroll.files import read_json, write_json
from unroll.lightning import pl
from unroll.resume.checkpoint import glance
from unroll.training.learner import Learner

METRICS = "metrics.json"
FIRST = 50  # steps, in which a device starts and whatever is chosen by measuring is chosen


def latest_metrics(trainer: pl.Trainer, module: Learner) -> dict[str, float]:
    """The module's metrics that were logged, each as it was logged last."""
    logged = trainer.callback_metrics
    return {name: logged[name].item() for name in module.metrics if name in logged}


def precision_of(checkpoint: Path) -> str | None:
    """The precision that the run of a checkpoint used; None if it is not known."""
    try:
        return str(glance(checkpoint)["callbacks"][Result.__name__]["precision"])
    except (KeyError, TypeError):  # not a checkpoint of a run
        return None


class Result(pl.Callback):
    """Writes `result.json` when the fit has ended or was told to stop.

    Beside it, `metrics.json` says which metrics the run has and whether less or more of each is better, for reports.
    Seconds and throughput are those of the whole run: those before a resume count too. Of a run of more than 50 steps,
    there is also the throughput without the first 50.

    Args:
        folder: the run directory.
        seed: the run's seed, to be recorded.
        overrides: what was typed on the command line, to be recorded.
    """

    def __init__(self, folder: str | Path, seed: int, overrides: Sequence[str]) -> None:
        self.folder = Path(folder)
        self.seed = seed
        self.overrides = list(overrides)
        self.metrics: dict[str, float | None] = {}
        self.precision = ""
        self.seconds_before = 0.0
        self.units = 0
        self.first: tuple[float, int] | None = None  # the seconds and units of the first steps

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Learner)
        self.metrics = dict.fromkeys(pl_module.metrics)
        self.precision = str(trainer.precision)
        self.started = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.is_global_zero:
            write_json(self.folder / METRICS, pl_module.metrics)

    def state_dict(self) -> dict[str, Any]:
        return {
            "metrics": self.metrics,
            "seconds": self._seconds(),
            "units": self.units,
            "first": self.first,
            "precision": self.precision,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics = state_dict["metrics"]
        self.units = state_dict["units"]
        self.seconds_before = state_dict["seconds"]
        self.first = state_dict.get("first")

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        self.units += pl_module.size(batch) * trainer.world_size
        if self.first is None and trainer.global_step >= FIRST:
            self.first = self._seconds(), self.units

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._update_metrics(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._update_metrics(trainer, pl_module)

    def _update_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keeps the latest metrics: a process that resumes the run has only those of its own."""
        assert isinstance(module, Learner)
        self.metrics |= latest_metrics(trainer, module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, pl_module, "finished")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Interrupted):
            self._write(trainer, pl_module, "interrupted")

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule, status: str) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(module, Learner)
        path, seconds = self.folder / "result.json", self._seconds()
        before = read_json(path)
        if status == "finished" == before.get("status") and before.get("steps") == trainer.global_step:
            return  # nothing was trained since
        later = {}
        if self.first is not None and self.units > self.first[1]:
            speed = (self.units - self.first[1]) / (seconds - self.first[0])
            later = {f"{module.unit}_per_second_after_{FIRST}_steps": round(speed, 1)}
        result = {
            "status": status,
            "stopped_early": status == "finished" and trainer.should_stop,
            "metrics": self.metrics,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            f"{module.unit}_per_second": round(self.units / seconds, 1),
            **later,
            "seconds": round(seconds, 3),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "precision": self.precision,
            "seed": self.seed,
            "overrides": self.overrides,
        }
        write_json(path, result)
