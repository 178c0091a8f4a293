"""The results of many runs in one table: `python -m unroll.cli.report DIR…`, and at the end of every sweep.

Writes `report.csv` (a row per run), `report.md` (a row per setting, seeds as mean ± standard deviation) and
`report.png` (what was swept against the result).
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from unroll.cli.run_directory import FAILURE
from unroll.errors import UserError
from unroll.files import read_json
from unroll.terminal import errors_in_one_line

SPEED = "_per_second"  # how the key of a run's throughput ends in result.json
DEFAULT_METRIC = "valid/loss"


@dataclass
class Run:
    """One run directory.

    Attributes:
        directory: where it is.
        typed: the overrides that were typed.
        status: "finished", "interrupted", "failed", or "unfinished" for a run that was killed or is still training.
        metrics: by name, and with them seconds and throughput.
        error: why it failed.
        directions: of each figure, whether less ("min") or more ("max") is better, as the run's task says.
    """

    directory: Path
    typed: dict[str, Any]
    status: str
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str = ""
    directions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "Run":
        overrides: Any = OmegaConf.load(directory / ".hydra" / "overrides.yaml")
        result = read_json(directory / "result.json")
        failure = read_json(directory / FAILURE)
        directions = read_json(directory / "metrics.json")
        metrics = dict(result.get("metrics", {}))
        metrics["seconds"] = result.get("seconds")
        metrics |= {key.removesuffix(SPEED) + "/s": value for key, value in result.items() if key.endswith(SPEED)}
        typed = dict(map(parse, overrides))
        if failure:
            return cls(directory, typed, "failed", error=failure["error"], directions=directions)
        return cls(directory, typed, result.get("status", "unfinished"), metrics, directions=directions)

    @cached_property
    def hydra_dir(self) -> tuple[Any, Any]:
        folder = self.directory / ".hydra"
        return OmegaConf.load(folder / "config.yaml"), OmegaConf.load(folder / "hydra.yaml")

    def value(self, key: str) -> Any:
        """The value of a key, typed or from the configuration."""
        if key in self.typed:
            return self.typed[key]
        config, hydra = self.hydra_dir
        choices = hydra.hydra.runtime.choices
        return choices[key] if key in choices else OmegaConf.select(config, key)


@dataclass
class Setting:
    """The runs that differ in their seed alone."""

    values: tuple[Any, ...]
    runs: list[Run]

    def metrics(self, name: str) -> list[float]:
        metrics = (run.metrics.get(name) for run in self.runs if run.status == "finished")
        return [figure for figure in metrics if figure is not None]


def parse(override: str) -> tuple[str, Any]:
    """`data.bptt=8` as a key and a number, or a string."""
    key, _, text = override.lstrip("+~").partition("=")
    for kind in (int, float):
        try:
            return key, kind(text)
        except ValueError:
            continue
    return key, text


def find(directories: Iterable[Path]) -> list[Run]:
    """The runs in these directories and below them.

    Raises:
        UserError: there are none.
    """
    directories = list(directories)
    found = {path.parents[1] for directory in directories for path in directory.rglob(".hydra/config.yaml")}
    if not found:
        raise UserError(f"no runs in {', '.join(map(str, directories))}")
    return [Run.read(directory) for directory in sorted(found, key=natural)]


def natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in path.parts]


def swept(runs: Sequence[Run]) -> list[str]:
    """The keys that the runs differ in, the seed apart."""
    keys = dict.fromkeys(key for run in runs for key in run.typed)
    left_out = ("seed", "resume", "checkpoint.")
    return [key for key in keys if not key.startswith(left_out) and len({run.value(key) for run in runs}) > 1]


def settings(runs: Sequence[Run], keys: Sequence[str], metric: str) -> list[Setting]:
    """The runs by what was swept, best first; settings without a finished run come last."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.value(key) for key in keys), []).append(run)
    sign = -1 if direction(runs, metric) == "max" else 1

    def rank(setting: Setting) -> float:
        metrics = setting.metrics(metric)
        return sign * mean(metrics) if metrics else float("inf")

    return sorted((Setting(values, group) for values, group in groups.items()), key=rank)


def direction(runs: Iterable[Run], metric: str) -> str:
    """Whether less ("min") or more ("max") of a figure is better."""
    return next((run.directions[metric] for run in runs if metric in run.directions), "min")


def show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def deviation(metrics: Sequence[float]) -> float:
    return stdev(metrics) if len(metrics) > 1 else 0.0


def digits_of(name: str) -> int:
    return 1 if name == "seconds" else 0 if name.endswith("/s") else 4


def spread(metrics: Sequence[float], digits: int) -> str:
    if not metrics:
        return "–"
    sd = f" ± {deviation(metrics):,.{digits}f}" if len(metrics) > 1 else ""
    return f"{mean(metrics):,.{digits}f}{sd}"


def table(ranked: Sequence[Setting], keys: Sequence[str]) -> str:
    """Markdown with aligned columns, to be read on a screen too."""
    names = columns(ranked)
    rows = [[*keys, "finished", *names]]
    for setting in ranked:
        finished = sum(run.status == "finished" for run in setting.runs)
        metrics = [spread(setting.metrics(name), digits_of(name)) for name in names]
        rows.append([*map(show, setting.values), f"{finished} of {len(setting.runs)}", *metrics])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )


def columns(ranked: Sequence[Setting]) -> list[str]:
    """The metrics that there are: of validation first, then of training, then seconds and throughput."""
    runs = [run for setting in ranked for run in setting.runs]
    found = dict.fromkeys(name for run in runs for name, value in run.metrics.items() if value is not None)

    def place(name: str) -> int:
        return 3 if name.endswith("/s") else 2 if name == "seconds" else 1 if name.startswith("train/") else 0

    return sorted(found, key=place)


def remarks(runs: Sequence[Run]) -> list[str]:
    """A line for each run that has not finished, and why."""
    return [
        f"{run.directory}: {run.status}{f' ({run.error})' if run.error else ''}"
        for run in runs
        if run.status != "finished"
    ]


def write_csv(path: Path, ranked: Sequence[Setting], keys: Sequence[str]) -> None:
    names = columns(ranked)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*keys, "seed", "status", *names, "directory", "error"])
        for setting in ranked:
            for run in setting.runs:
                metrics = [run.metrics.get(name) for name in names]
                row = [*setting.values, run.value("seed"), run.status, *metrics, run.directory, run.error]
                writer.writerow(["" if cell is None else cell for cell in row])


def draw(path: Path, ranked: Sequence[Setting], keys: Sequence[str], metric: str) -> None:
    """A curve for one number, one per name beside a number, a heat map for two numbers, bars for anything else."""
    from matplotlib.figure import Figure  # takes half a second

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    done = [setting for setting in ranked if setting.metrics(metric)]
    numeric = [all(isinstance(setting.values[at], (int, float)) for setting in done) for at in range(len(keys))]
    if not done:
        axes.text(0.5, 0.5, "no run has finished", ha="center")
    elif numeric == [True, True]:
        draw_heat_map(figure, axes, done, keys, metric)
    elif sum(numeric) == 1 and len(keys) <= 2:
        draw_curves(axes, done, keys, numeric.index(True), metric)
    else:
        labels = [", ".join(map(show, setting.values)) or "all" for setting in done]
        means = [mean(setting.metrics(metric)) for setting in done]
        axes.barh(labels, means, xerr=[deviation(setting.metrics(metric)) for setting in done])
        axes.invert_yaxis()
        axes.set_xlabel(metric)
        axes.set_ylabel(", ".join(keys))
    figure.savefig(path, dpi=150)


def draw_curves(axes: Any, done: Sequence[Setting], keys: Sequence[str], at: int, metric: str) -> None:
    names = sorted({setting.values[1 - at] for setting in done}, key=str) if len(keys) == 2 else [None]
    for name in names:
        line = sorted(
            (setting.values[at], setting.metrics(metric))
            for setting in done
            if name is None or setting.values[1 - at] == name
        )
        positions, metrics = [x for x, _ in line], [y for _, y in line]
        means, deviations = [mean(y) for y in metrics], [deviation(y) for y in metrics]
        axes.errorbar(positions, means, yerr=deviations, marker="o", capsize=3, label=name)
    positions = sorted({setting.values[at] for setting in done})
    if positions[0] > 0 and positions[-1] >= 8 * positions[0]:
        axes.set_xscale("log")
    axes.set_xticks(positions, [f"{position:g}" for position in positions], minor=False)
    axes.minorticks_off()
    axes.set_xlabel(keys[at])
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    if len(keys) == 2:
        axes.legend(title=keys[1 - at])


def draw_heat_map(figure: Any, axes: Any, done: Sequence[Setting], keys: Sequence[str], metric: str) -> None:
    rows, columns = (sorted({setting.values[at] for setting in done}) for at in (0, 1))
    means = {setting.values: mean(setting.metrics(metric)) for setting in done}
    grid = [[means.get((row, column), float("nan")) for column in columns] for row in rows]
    runs = (run for setting in done for run in setting.runs)
    image = axes.imshow(grid, aspect="auto", cmap="viridis" if direction(runs, metric) == "max" else "viridis_r")
    for (row, column), value in means.items():
        axes.text(columns.index(column), rows.index(row), f"{value:.3f}", ha="center", va="center", color="white")
    axes.set_xticks(range(len(columns)), [f"{column:g}" for column in columns])
    axes.set_yticks(range(len(rows)), [f"{row:g}" for row in rows])
    axes.set_xlabel(keys[1])
    axes.set_ylabel(keys[0])
    figure.colorbar(image, label=metric)


def report(directories: Sequence[Path], folder: Path, metric: str = DEFAULT_METRIC) -> list[Run]:
    """Writes the three files into the folder, prints the table, and returns the runs.

    Raises:
        UserError: there are no runs, or none has the figure.
    """
    runs = find(directories)
    known = columns([Setting((), runs)])
    if metric not in known and any(run.status == "finished" for run in runs):
        raise UserError(f"no run has the figure {metric}; choose from: {', '.join(known)}")
    keys = swept(runs)
    ranked = settings(runs, keys, metric)
    text = table(ranked, keys)
    unfinished = remarks(runs)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "report.csv", ranked, keys)
    command = f"python -m unroll.cli.report {' '.join(map(str, directories))} --metric {metric}"
    lines = ["# Report", "", f"Best {metric} first. `{command}`", "", text]
    lines += ["", *(f"- {line}" for line in unfinished), "", "![What was swept against the result](report.png)", ""]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    draw(folder / "report.png", ranked, keys, metric)
    print(f"report.csv, report.md and report.png are in {folder.resolve()}", file=sys.stderr)
    for line in unfinished:
        print(line, file=sys.stderr)
    print(f"\n{text}\n", flush=True)
    return runs


def keep_report(config: DictConfig, folder: Path) -> None:
    """Hands a sweep's report to the trackers that its runs have used."""
    chosen = [settings._target_ for settings in config.logger.values() if settings]
    if all(target.startswith("unroll.training.loggers.") for target in chosen):
        return
    from unroll.cli import build
    from unroll.training.trackers import Tracker

    config.run_dir = str(folder)
    for logger in build.loggers(config):
        if isinstance(logger, Tracker):
            logger.log_report(folder)


class ReportSweep(Callback):
    """Hydra's callback that reports a sweep after its last job; the exit status is not 0 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        try:
            runs = report([folder], folder, config.get("objective", DEFAULT_METRIC))
            keep_report(config, folder)
        except UserError as error:
            sys.exit(f"error: {error}")
        if failed := [run for run in runs if run.status == "failed"]:
            sys.exit(
                f"error: {len(failed)} of the sweep's jobs failed; the same command with hydra.sweep.dir={folder} "
                f"tries them again"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m unroll.cli.report", description="The results of runs as a table.")
    parser.add_argument("directories", metavar="DIR", type=Path, nargs="+", help="runs, sweeps, or folders of them")
    parser.add_argument("--metric", default=DEFAULT_METRIC, help="the figure to rank by (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="where the report goes (default: DIR, if it is one; else the current folder)"
    )
    arguments = parser.parse_args()
    one = arguments.directories[0] if len(arguments.directories) == 1 else Path()
    with errors_in_one_line():
        report(arguments.directories, arguments.folder or one, arguments.metric)


if __name__ == "__main__":
    main()
