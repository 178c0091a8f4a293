"""The report at the end of a sweep."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from unroll.cli.messages import explain
from unroll.errors import UserError


class ReportSweep(Callback):
    """Hydra's callback that reports a sweep after its last job; the exit status is not 0 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from unroll.cli.report.write import DEFAULT_METRIC, write_report  # not at the start of every run

        folder = Path(config.hydra.sweep.dir)
        try:
            runs = write_report([folder], folder, config.get("compare", DEFAULT_METRIC))
            log_report(config, folder)
        except (UserError, OSError) as error:  # Hydra turns what a callback raises into a warning
            sys.exit(f"error: {explain(error, [])}")
        if failed := [run for run in runs if run.status == "failed"]:
            sys.exit(
                f"error: {len(failed)} of the sweep's jobs failed; the same command with hydra.sweep.dir={folder} "
                f"tries them again"
            )


def log_report(config: DictConfig, folder: Path) -> None:
    """Logs a sweep's report to the trackers (MLflow, Weights & Biases) that its runs have used."""
    chosen = [settings._target_ for settings in config.logger.values() if settings]
    if all(target.startswith("unroll.training.loggers.") for target in chosen):
        return
    from unroll.cli import build
    from unroll.training.trackers import Tracker

    config.run_dir = str(folder)
    for logger in build.loggers(config):
        if isinstance(logger, Tracker):
            logger.log_report(folder)
