"""A report's plot: what was swept against the result."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from unroll.checks import is_number
from unroll.cli.report.statistics import Setting, deviation, direction
from unroll.cli.report.tables import runs_of, value_text
from unroll.files import replacing

LARGEST = 1e15  # number that is drawn


def draw(path: Path, ranked: Sequence[Setting], keys: Sequence[str], metric: str) -> None:
    """A curve for one number, one per name beside a number, a heat map for two numbers, bars for anything else."""
    from matplotlib import rc_context  # takes half a second

    with rc_context({"text.parse_math": False}):  # names can have a $
        draw_as(path, ranked, keys, metric)


def draw_as(path: Path, ranked: Sequence[Setting], keys: Sequence[str], metric: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    done = [setting for setting in ranked if setting.metrics(metric) and all(map(fits, setting.metrics(metric)))]
    numeric = [all(fits(setting.values[at]) for setting in done) for at in range(len(keys))]
    if not done:
        axes.text(0.5, 0.5, "no run has finished", ha="center")
    elif numeric == [True, True]:
        draw_heat_map(figure, axes, done, keys, metric)
    elif sum(numeric) == 1 and len(keys) <= 2:
        draw_curves(axes, done, keys, numeric.index(True), metric)
    else:
        draw_bars(axes, done, keys, metric)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=150, format="png")


def fits(value: Any) -> bool:
    """Whether a value is a number that axes can show: near the largest ones they overflow."""
    return is_number(value) and abs(value) < LARGEST


def draw_bars(axes: Any, done: Sequence[Setting], keys: Sequence[str], metric: str) -> None:
    labels = [", ".join(map(value_text, setting.values)) or "all" for setting in done]
    means = [mean(setting.metrics(metric)) for setting in done]
    axes.barh(labels, means, xerr=[deviation(setting.metrics(metric)) for setting in done])
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    axes.set_ylabel(", ".join(keys))


def draw_curves(axes: Any, done: Sequence[Setting], keys: Sequence[str], at: int, metric: str) -> None:
    """A curve over the numbers of one key, for each value of the other if there is another.

    Args:
        at: the place of the first among the keys.
    """
    names = sorted({value_text(setting.values[1 - at]) for setting in done}) if len(keys) == 2 else [None]
    for name in names:
        line = sorted(
            (setting.values[at], setting.metrics(metric))
            for setting in done
            if name is None or value_text(setting.values[1 - at]) == name
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
    more_is_better = direction(runs_of(done), metric) == "max"
    image = axes.imshow(grid, aspect="auto", cmap="viridis" if more_is_better else "viridis_r")
    for (row, column), value in means.items():
        axes.text(columns.index(column), rows.index(row), f"{value:.3f}", ha="center", va="center", color="white")
    axes.set_xticks(range(len(columns)), [f"{column:g}" for column in columns])
    axes.set_yticks(range(len(rows)), [f"{row:g}" for row in rows])
    axes.set_xlabel(keys[1])
    axes.set_ylabel(keys[0])
    figure.colorbar(image, label=metric)
