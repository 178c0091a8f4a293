"""Loggers of MLflow and of Weights & Biases, for runs that can be resumed: Lightning's, which go on in the same run.

What a run has logged to its tracker is noted in the run directory. A run that is resumed does some steps a second time,
with the same metrics; they are not logged twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy

from unroll.errors import require
from unroll.files import read_json, write_json
from unroll.lightning import pl
from unroll.resume.lightning import forget_experiment, opened_experiment

REPORT = ("report.md", "report.csv", "report.png")


class LoggedSteps:
    """The id of a run at its tracker, and the latest step of each metric that the tracker has.

    Args:
        path: the file that has both.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path)
        self.id: str | None = content.get("id")
        self.steps: dict[str, int] = content.get("steps", {})

    def not_yet_logged(self, metrics: Mapping[str, Any], step: int) -> dict[str, Any]:
        """The metrics that were not logged at this step or a later one."""
        return {name: value for name, value in metrics.items() if self.steps.get(name, -1) < step}

    def add(self, run_id: str, metrics: Mapping[str, Any], step: int) -> None:
        """Notes that these metrics were logged at a step."""
        self.id = run_id
        self.steps |= dict.fromkeys(metrics, step)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"id": run_id, "steps": self.steps})


class TrackerWriter:
    """The methods of TensorBoard's `SummaryWriter` that callbacks call, for a tracker.

    Args:
        logged: what was logged so far.
        run_id: returns the id of the run at the tracker.
        log_scalar, log_text, log_image: log a value to the tracker: `(name, value, step)`.
    """

    def __init__(
        self,
        logged: LoggedSteps,
        run_id: Callable[[], str],
        log_scalar: Callable[[str, float, int], Any],
        log_text: Callable[[str, str, int], Any],
        log_image: Callable[[str, numpy.ndarray, int], Any],
    ) -> None:
        self.logged, self.run_id = logged, run_id
        self.log_scalar, self.log_text, self.log_image = log_scalar, log_text, log_image

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._log(self.log_scalar, name, float(value), step)

    def add_text(self, name: str, value: str, step: int) -> None:
        self._log(self.log_text, name, value, step)

    def add_image(self, name: str, pixels: numpy.ndarray, step: int, dataformats: str = "HWC") -> None:
        self._log(self.log_image, name, numpy.asarray(pixels), step)

    def add_histogram(self, *arguments: Any, **settings: Any) -> None:
        """Does nothing: histograms are in TensorBoard."""

    def _log(self, log: Callable[..., Any], name: str, value: Any, step: int) -> None:
        if self.logged.not_yet_logged({name: value}, step):
            log(name, value, step)
            self.logged.add(self.run_id(), {name: value}, step)


def run_name(folder: str) -> str:
    """The name of a run: the last two parts of its directory, as in `sweep/3` or `gru/2026-01-31_12-00-00`."""
    return "/".join(Path(folder).absolute().parts[-2:])


class Tracker(ABC):
    """What callbacks call on these loggers."""

    @property
    @abstractmethod
    def writer(self) -> TrackerWriter:
        """To be called like TensorBoard's."""

    @abstractmethod
    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Logs the settings of the run, by name."""

    @abstractmethod
    def log_report(self, folder: Path) -> None:
        """Logs the report of a sweep, as a run of its own."""


class MLflow(Tracker, pl.loggers.MLFlowLogger):
    """An MLflow run for a run directory.

    Args:
        folder: the run directory; `mlflow.json` in it has the run's id.
        experiment: the experiment's name.
        uri: of the tracking server, or of a database file: `sqlite:///FILE`.
        artifacts: the folder for samples and plots, if the server does not say.

    Raises:
        UserError: MLflow is not installed.
    """

    def __init__(self, folder: str, experiment: str, uri: str, artifacts: str | None = None) -> None:
        require("logger=mlflow", "mlflow", "mlflow")
        self.logged = LoggedSteps(Path(folder) / "mlflow.json")
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        location = None if artifacts is None else Path(artifacts).absolute().as_uri()
        super().__init__(experiment, run_name(folder), uri, artifact_location=location, run_id=self.logged.id)
        self.resumed_run = self.logged.id

    @pl.utilities.rank_zero_only
    def ask_for_logged_steps(self) -> None:
        """Asks the server which metrics of a resumed run it has: a run that was killed may not have noted the last."""
        if self.resumed_run is not None:
            for name in self.experiment.get_run(self.resumed_run).data.metrics:
                history = self.experiment.get_metric_history(self.resumed_run, name)
                self.logged.steps[name] = max(point.step for point in history)
            self.resumed_run = None

    @pl.utilities.rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.ask_for_logged_steps()
        step = step or 0
        if missing := self.logged.not_yet_logged(metrics, step):
            super().log_metrics(missing, step)
            self.logged.add(str(self.run_id), missing, step)

    @property
    def writer(self) -> TrackerWriter:
        self.ask_for_logged_steps()

        def text(name: str, value: str, step: int) -> None:
            self.experiment.log_text(self.run_id, value, f"{name}/{step:08}.md")

        def image(name: str, pixels: numpy.ndarray, step: int) -> None:
            self.experiment.log_image(self.run_id, pixels, f"{name}.png")

        def scalar(name: str, value: float, step: int) -> None:
            super(MLflow, self).log_metrics({name: value}, step)

        return TrackerWriter(self.logged, lambda: str(self.run_id), scalar, text, image)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        known = self.experiment.get_run(self.run_id).data.params  # they can't be logged again with another value
        self.log_hyperparams({name: value for name, value in settings.items() if name not in known})

    def log_report(self, folder: Path) -> None:
        for name in REPORT:
            self.experiment.log_artifact(self.run_id, str(folder / name))
        self.logged.add(str(self.run_id), {}, 0)  # a sweep that is continued reports in the same run
        self.finalize("success")


class Wandb(Tracker, pl.loggers.WandbLogger):
    """A Weights & Biases run for a run directory.

    Args:
        folder: the run directory; `wandb.json` in it has the run's id.
        project: the project's name.
        offline: keep everything in the folder `wandb` of the run directory, for `wandb sync`.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, folder: str, project: str, offline: bool = False) -> None:
        require("logger=wandb", "wandb", "wandb")
        self.logged = LoggedSteps(Path(folder) / "wandb.json")
        Path(folder).mkdir(parents=True, exist_ok=True)
        super().__init__(run_name(folder), folder, id=self.logged.id, project=project, offline=offline, resume="allow")

    @pl.utilities.rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = step or 0
        if missing := self.logged.not_yet_logged(metrics, step):
            super().log_metrics(missing, step)
            self.logged.add(self.experiment.id, missing, step)

    @pl.utilities.rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run: the next one in this process, of a sweep, would otherwise go on in it."""
        super().finalize(status)
        run = opened_experiment(self)
        if run is not None:
            run.finish(exit_code=int(status == "failed"))
            forget_experiment(self)

    @property
    def writer(self) -> TrackerWriter:
        def log(name: str, value: Any, step: int) -> None:
            super(Wandb, self).log_metrics({name: value}, step)

        def text(name: str, value: str, step: int) -> None:
            import html

            import wandb

            log(name, wandb.Html(f"<pre>{html.escape(value)}</pre>"), step)

        def image(name: str, pixels: numpy.ndarray, step: int) -> None:
            import wandb

            log(name, wandb.Image(pixels), step)

        return TrackerWriter(self.logged, lambda: self.experiment.id, log, text, image)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        self.experiment.config.update(dict(settings), allow_val_change=True)

    def log_report(self, folder: Path) -> None:
        import wandb

        report = wandb.Artifact("report", "report")
        for name in REPORT:
            report.add_file(str(folder / name))
        self.experiment.log_artifact(report)
        self.logged.add(self.experiment.id, {}, 0)
        self.finalize("success")
