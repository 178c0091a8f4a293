"""The figures of a finished run, for people and programs: `result.json`."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

METRICS = ("train/loss", "valid/loss", "valid/accuracy", "valid/perplexity")


class Result(pl.Callback):
    """Writes `result.json` when the fit has ended.

    Args:
        path: the file.
        seed: the run's seed, to be recorded.
        overrides: what was typed on the command line, to be recorded.
    """

    def __init__(self, path: str, seed: int, overrides: Sequence[str]) -> None:
        self.path = Path(path)
        self.seed = seed
        self.overrides = list(overrides)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.started = time.perf_counter()
        self.tokens = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.tokens += batch[0].numel()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self.started
        metrics = trainer.callback_metrics
        result = {
            "status": "finished",
            "metrics": {name: metrics[name].item() if name in metrics else None for name in METRICS},
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "tokens_per_second": round(self.tokens / seconds, 1),
            "seconds": round(seconds, 3),
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
            "seed": self.seed,
            "overrides": self.overrides,
        }
        whole = self.path.with_suffix(".tmp")  # a reader sees the whole file or none
        whole.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        os.replace(whole, self.path)
