"""Loggers of MLflow and of Weights & Biases, for runs that can be resumed: Lightning's, which go on in the same run.

What a run has told its tracker is kept in the run directory. A run that is resumed does some steps a second time, with
the same metrics; they are not told twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
from pytorch_lightning.loggers import MLFlowLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from unroll.errors import require
from unroll.files import read_json, write_json

REPORT = ("report.md", "report.csv", "report.png")


class Told:
    """The id of a run at its tracker, and the latest step of each figure that the tracker has.

    Args:
        path: the file in which both are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path)
        self.id: str | None = content.get("id")
        self.steps: dict[str, int] = content.get("steps", {})

    def news(self, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        """Those of the metrics that have not been told at this step or a later one."""
        return {name: value for name, value in metrics.items() if self.steps.get(name, -1) < step}

    def keep(self, run: str, names: Mapping[str, Any], step: int) -> None:
        self.id = run
        self.steps |= dict.fromkeys(names, step)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"id": run, "steps": self.steps})


class TrackedWriter:
    """What callbacks call a TensorBoard writer with, for a tracker.

    Args:
        told: what was told so far.
        run: gives the tracker's name of the run.
        scalar, text, image: tell the tracker a value at a step, under a name.
    """

    def __init__(
        self,
        told: Told,
        run: Callable[[], str],
        scalar: Callable[[str, float, int], Any],
        text: Callable[[str, str, int], Any],
        image: Callable[[str, numpy.ndarray, int], Any],
    ) -> None:
        self.told, self.run = told, run
        self.scalar, self.text, self.image = scalar, text, image

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._tell(self.scalar, name, float(value), step)

    def add_text(self, name: str, value: str, step: int) -> None:
        self._tell(self.text, name, value, step)

    def add_image(self, name: str, pixels: numpy.ndarray, step: int, dataformats: str = "HWC") -> None:
        self._tell(self.image, name, numpy.asarray(pixels), step)

    def add_histogram(self, *arguments: Any, **settings: Any) -> None:
        """Does nothing: histograms are in TensorBoard."""

    def _tell(self, tell: Callable[..., Any], name: str, value: Any, step: int) -> None:
        if self.told.news({name: value}, step):
            tell(name, value, step)
            self.told.keep(self.run(), {name: value}, step)


def shown_name(folder: str) -> str:
    """The last two parts of a run directory: `sweep/3`, `gru/2026-01-31_12-00-00`."""
    return "/".join(Path(folder).absolute().parts[-2:])


class Tracker(ABC):
    """What callbacks ask of these loggers."""

    @property
    @abstractmethod
    def writer(self) -> TrackedWriter:
        """In the place of TensorBoard's."""

    @abstractmethod
    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Tells the settings of the run, by name."""

    @abstractmethod
    def log_report(self, folder: Path) -> None:
        """Tells the report of a sweep, in a run of its own."""


class MLflow(Tracker, MLFlowLogger):
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
        self.told = Told(Path(folder) / "mlflow.json")
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        location = None if artifacts is None else Path(artifacts).absolute().as_uri()
        super().__init__(experiment, shown_name(folder), uri, artifact_location=location, run_id=self.told.id)
        self.resumed = self.told.id

    @rank_zero_only
    def catch_up(self) -> None:
        """Asks the server which metrics of a resumed run it has: a run that was killed may not have noted the last."""
        if self.resumed is not None:
            for name in self.experiment.get_run(self.resumed).data.metrics:
                history = self.experiment.get_metric_history(self.resumed, name)
                self.told.steps[name] = max(point.step for point in history)
            self.resumed = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.catch_up()
        step = step or 0
        if news := self.told.news(metrics, step):
            super().log_metrics(news, step)
            self.told.keep(str(self.run_id), news, step)

    @property
    def writer(self) -> TrackedWriter:
        self.catch_up()

        def text(name: str, value: str, step: int) -> None:
            self.experiment.log_text(self.run_id, value, f"{name}/{step:08}.md")

        def image(name: str, pixels: numpy.ndarray, step: int) -> None:
            self.experiment.log_image(self.run_id, pixels, f"{name}.png")

        def scalar(name: str, value: float, step: int) -> None:
            super(MLflow, self).log_metrics({name: value}, step)

        return TrackedWriter(self.told, lambda: str(self.run_id), scalar, text, image)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        known = self.experiment.get_run(self.run_id).data.params  # they can't be told again with another value
        self.log_hyperparams({name: value for name, value in settings.items() if name not in known})

    def log_report(self, folder: Path) -> None:
        for name in REPORT:
            self.experiment.log_artifact(self.run_id, str(folder / name))
        self.told.keep(str(self.run_id), {}, 0)  # a sweep that is continued reports in the same run
        self.finalize("success")


class Wandb(Tracker, WandbLogger):
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
        self.told = Told(Path(folder) / "wandb.json")
        Path(folder).mkdir(parents=True, exist_ok=True)
        super().__init__(shown_name(folder), folder, id=self.told.id, project=project, offline=offline, resume="allow")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = step or 0
        if news := self.told.news(metrics, step):
            super().log_metrics(news, step)
            self.told.keep(self.experiment.id, news, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run: the next one in this process, of a sweep, would otherwise go on in it."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status == "failed"))
            self._experiment = None

    @property
    def writer(self) -> TrackedWriter:
        def tell(name: str, value: Any, step: int) -> None:
            super(Wandb, self).log_metrics({name: value}, step)

        def text(name: str, value: str, step: int) -> None:
            import html

            import wandb

            tell(name, wandb.Html(f"<pre>{html.escape(value)}</pre>"), step)

        def image(name: str, pixels: numpy.ndarray, step: int) -> None:
            import wandb

            tell(name, wandb.Image(pixels), step)

        return TrackedWriter(self.told, lambda: self.experiment.id, tell, text, image)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        self.experiment.config.update(dict(settings), allow_val_change=True)

    def log_report(self, folder: Path) -> None:
        import wandb

        report = wandb.Artifact("report", "report")
        for name in REPORT:
            report.add_file(str(folder / name))
        self.experiment.log_artifact(report)
        self.told.keep(self.experiment.id, {}, 0)
        self.finalize("success")
