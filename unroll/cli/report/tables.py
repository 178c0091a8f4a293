"""A report's tables: one for people, with a row per setting, and `report.csv` with a row per run."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from unroll.cli.report.runs import Run
from unroll.cli.report.statistics import Setting, deviation, metric_names
from unroll.files import replacing
from unroll.terminal import in_markdown, one_line

FORMULA = ("=", "+", "-", "@")  # how one begins
AS_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}  # of names that are no Unicode


def value_text(value: Any) -> str:
    """A value as it is typed, numbers shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def mean_text(metrics: Sequence[float], digits: int) -> str:
    """`mean ± standard deviation`; the number itself if there is one, `–` if there is none."""
    if not metrics:
        return "–"
    sd = f" ± {deviation(metrics):,.{digits}f}" if len(metrics) > 1 else ""
    return f"{mean(metrics):,.{digits}f}{sd}"


def digits_of(name: str) -> int:
    """The number of digits that a metric is shown with."""
    return 1 if name == "seconds" else 0 if name.endswith("/s") else 4


def markdown(ranked: Sequence[Setting], keys: Sequence[str]) -> str:
    """A table with aligned columns, to be read on a screen too."""
    names = metric_names(runs_of(ranked))
    rows = [[*map(in_markdown, keys), "finished", *map(in_markdown, names)]]
    for setting in ranked:
        finished = sum(run.status == "finished" for run in setting.runs)
        metrics = [mean_text(setting.metrics(name), digits_of(name)) for name in names]
        values = [in_markdown(value_text(value)) for value in setting.values]
        rows.append([*values, f"{finished} of {len(setting.runs)}", *metrics])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )


def in_sheet(text: Any) -> Any:
    """A cell that a spreadsheet takes for text, not for a formula."""
    if not (isinstance(text, str) and text.startswith(FORMULA)):
        return text
    try:
        float(text)
        return text
    except ValueError:
        return f"'{text}"


def write_csv(path: Path, ranked: Sequence[Setting], keys: Sequence[str]) -> None:
    names = metric_names(runs_of(ranked))
    titles = [*keys, "seed", "status", *names, "directory", "error"]
    with replacing(path) as unfinished, open(unfinished, "w", newline="", **AS_TEXT) as file:
        writer = csv.writer(file)
        writer.writerow([in_sheet(one_line(title)) for title in titles])
        for setting in ranked:
            for run in setting.runs:
                metrics = [run.metrics.get(name) for name in names]
                values = [str(value) if isinstance(value, float) else value_text(value) for value in setting.values]
                row = [*values, run.value("seed"), run.status, *metrics, str(run.directory), one_line(run.error)]
                writer.writerow(["" if cell is None else in_sheet(cell) for cell in row])


def runs_of(settings: Sequence[Setting]) -> list[Run]:
    return [run for setting in settings for run in setting.runs]
