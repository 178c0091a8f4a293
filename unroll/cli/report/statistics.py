"""Runs brought together by their settings, and the means of their metrics."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from unroll.cli.report.runs import Run

NOT_SETTINGS = ("seed", "resume", "checkpoint.")  # how keys begin that make no other experiment of a run


@dataclass
class Setting:
    """The runs that differ in their seed alone.

    Attributes:
        values: of the keys that were swept.
        runs: at least one.
    """

    values: tuple[Any, ...]
    runs: list[Run]

    def metrics(self, name: str) -> list[float]:
        """A metric of each run that has finished."""
        metrics = (run.metrics.get(name) for run in self.runs if run.status == "finished")
        return [metric for metric in metrics if metric is not None]


def swept_keys(runs: Sequence[Run]) -> list[str]:
    """The keys that the runs differ in, the seed apart."""
    keys = dict.fromkeys(key for run in runs for key in run.typed)
    return [key for key in keys if not key.startswith(NOT_SETTINGS) and len({run.value(key) for run in runs}) > 1]


def ranked_settings(runs: Sequence[Run], keys: Sequence[str], metric: str) -> list[Setting]:
    """The runs by the values of these keys, best first; settings without a finished run come last."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.value(key) for key in keys), []).append(run)
    sign = -1 if direction(runs, metric) == "max" else 1

    def rank(setting: Setting) -> float:
        metrics = setting.metrics(metric)
        return sign * mean(metrics) if metrics else float("inf")

    return sorted((Setting(values, group) for values, group in groups.items()), key=rank)


def direction(runs: Iterable[Run], metric: str) -> str:
    """Whether less ("min") or more ("max") of a metric is better."""
    return next((run.directions[metric] for run in runs if metric in run.directions), "min")


def deviation(metrics: Sequence[float]) -> float:
    """The standard deviation; 0 of one number."""
    try:
        return stdev(metrics) if len(metrics) > 1 else 0.0
    except OverflowError:
        return math.inf


def metric_names(runs: Sequence[Run]) -> list[str]:
    """The metrics that there are: of validation first, then of training, then seconds and throughput."""
    found = dict.fromkeys(name for run in runs for name, value in run.metrics.items() if value is not None)

    def place(name: str) -> int:
        return 3 if name.endswith("/s") else 2 if name == "seconds" else 1 if name.startswith("train/") else 0

    return sorted(found, key=place)
