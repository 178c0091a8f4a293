"""Loggers that can be rewound to where a checkpoint was written, so that no row is lost or doubled on resume.

`position()` returns the length of the log, in plain numbers; `rewind(position)` deletes what came after it,
`rewind(None)` everything.
"""

import csv
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unroll.errors import require
from unroll.files import named, replacing
from unroll.lightning import pl
from unroll.resume.lightning import forget_experiment, opened_experiment

FLUSH_SECONDS = 1.0


class MetricsFile(pl.loggers.Logger):
    """A CSV file: a row for each time that something is logged, a column for each name.

    Lightning's own CSVLogger deletes a file that is there, and rewrites it in place when a column is added; this file
    is whole at every moment.

    Args:
        path: the file.
    """

    name = None
    version = None

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self.columns: list[str] = []
        self.rows = 0

    @pl.utilities.rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {**metrics, "step": step}
        if not set(row) <= set(self.columns):
            self._write(self.read() if self.rows else [], sorted({*self.columns, *row}))
        with named(self.path), open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        self.rows += 1

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the configuration is in the run directory."""

    def position(self) -> int:
        return self.rows

    @pl.utilities.rank_zero_only
    def rewind(self, position: int | None) -> None:
        self.rows = position or 0
        if self.rows == 0:
            self.path.unlink(missing_ok=True)
        else:
            rows = self.read()[: self.rows]
            self._write(rows, list(rows[0]))

    def read(self) -> list[dict[str, Any]]:
        with open(self.path, newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        self.columns = columns
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as unfinished, open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


class TensorBoard(pl.loggers.TensorBoardLogger):
    """Lightning's TensorBoard logger for a directory that holds one run."""

    flushed_at = 0.0

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        require("logger.tensorboard", "app", "tensorboard")
        super().__init__(*arguments, **settings)
        import torch.utils.tensorboard  # noqa: F401 - Lightning would import it when the fit's clock is running

    def save(self) -> None:
        """Lightning calls this at each step that is logged, and would wait each time until all is in the file."""
        writer = opened_experiment(self)
        if writer is not None and time.monotonic() - self.flushed_at > FLUSH_SECONDS:
            writer.flush()
            self.flushed_at = time.monotonic()

    def position(self) -> dict[str, int]:
        """The size of each event file, in bytes."""
        writer = opened_experiment(self)
        if writer is None:  # only process 0 writes
            return {}
        writer.flush()
        return {file.name: file.stat().st_size for file in self._event_files()}

    @pl.utilities.rank_zero_only
    def rewind(self, position: Mapping[str, int] | None) -> None:
        writer = opened_experiment(self)
        if writer is not None:  # it has opened a file already; the next one gets another name
            writer.close()
            forget_experiment(self)
        kept = position or {}
        for file in self._event_files():
            if file.name in kept:
                if file.is_symlink():  # what it leads to stays as it is
                    with replacing(file) as copy:
                        shutil.copyfile(file, copy)
                os.truncate(file, kept[file.name])
            else:
                file.unlink()

    def _event_files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("events.out.tfevents.*"))
