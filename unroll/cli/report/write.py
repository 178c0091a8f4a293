"""A report as a whole: `report.csv`, `report.md` and `report.png`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from unroll.cli.report.plots import draw
from unroll.cli.report.runs import Run, find_runs
from unroll.cli.report.statistics import metric_names, ranked_settings, swept_keys
from unroll.cli.report.tables import AS_TEXT, markdown, write_csv
from unroll.errors import UserError, require
from unroll.files import replacing
from unroll.terminal import in_markdown, one_line

DEFAULT_METRIC = "valid/loss"


def write_report(directories: Sequence[Path], folder: Path, metric: str = DEFAULT_METRIC) -> list[Run]:
    """Writes the report of all runs in these directories, prints its table, and returns the runs.

    `report.csv` has a row per run, `report.md` a row per setting, with seeds as mean ± standard deviation, and
    `report.png` is what was swept against the result.

    Args:
        directories: with runs in them, or below.
        folder: for the three files.
        metric: what settings are ranked by.

    Raises:
        UserError: there are no runs, or none has the metric.
    """
    require("a report", "app", "matplotlib")
    runs = find_runs(directories)
    known = metric_names(runs)
    if metric not in known and any(run.status == "finished" for run in runs):
        raise UserError(f"no run has the metric {metric}; choose from: {', '.join(known)}")
    keys = swept_keys(runs)
    ranked = ranked_settings(runs, keys, metric)
    table = markdown(ranked, keys)
    unfinished = [
        one_line(f"{run.directory}: {run.status}{f' ({run.error})' if run.error else ''}")
        for run in runs
        if run.status != "finished"
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "report.csv", ranked, keys)
    command = f"python -m unroll.cli.report {' '.join(map(str, directories))} --metric {metric}"
    lines = ["# Report", "", f"Best {metric} first. `{command}`", "", table]
    lines += ["", *(f"- {in_markdown(line)}" for line in unfinished)]
    lines += ["", "![What was swept against the result](report.png)", ""]
    with replacing(folder / "report.md") as file:
        file.write_text("\n".join(lines), **AS_TEXT)
    draw(folder / "report.png", ranked, keys, metric)
    print(f"report.csv, report.md and report.png are in {folder.resolve()}", file=sys.stderr)
    for line in unfinished:
        print(line, file=sys.stderr)
    print(f"\n{table}\n", flush=True)
    return runs
