"""Forecasts on from a file's end: `python -m series CKPT FILE.csv --steps 100` prints them as CSV."""

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

from series.checkpoint import TrainedForecaster
from series.data import standard, written
from series.files import Series, read_series
from series.forecast import forecast
from unroll.errors import UserError
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.terminal import errors_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m series", description="Forecasts on from the end of each series of a file."
    )
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("file", help="a table with the columns of the training file")
    parser.add_argument("--steps", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--quantiles", metavar="0.1,0.5,0.9", default="", help="further columns, one for each")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be 1 or more")
    with errors_in_one_line():
        levels = numbers_of(arguments.quantiles)
        loaded = TrainedForecaster.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model))
        # A forecast goes on from the last piece of a series, so gaps before it do no harm.
        gaps = loaded.file["gaps"] if loaded.file["gaps"] in ("keep", "fill") else "split"
        found = read_series(arguments.file, loaded.columns, **{**loaded.file, "gaps": gaps})
        for note in found.notes:
            print(note, file=sys.stderr)
        ends: dict[str, Series] = {series.name: series for series in found.series}
        short = [name for name, series in ends.items() if len(series.values) < loaded.horizon]
        if short and len(short) < len(ends):
            print(
                f"too short for a forecast {loaded.horizon} steps ahead, left out: {', '.join(short)}", file=sys.stderr
            )
            ends = {name: series for name, series in ends.items() if name not in short}
        named, timed = loaded.file["series"], loaded.file["time"]
        writer = csv.writer(sys.stdout)
        writer.writerow([name for name in (named, timed) if name is not None] + columns(loaded.targets, levels))
        for series in ends.values():
            times = repeat("") if series.clock is None else series.clock.following(arguments.steps)
            stds = [standard(series.values)[1][loaded.columns.index(name)] for name in loaded.targets]
            made = forecast(loaded, series, arguments.steps, levels).tolist()
            for time, values in zip(times, made, strict=False):
                row = [series.name] if named is not None else []
                row += [time] if timed is not None else []
                writer.writerow(
                    row + [written(value, std) for part, std in zip(values, stds, strict=True) for value in part]
                )


def numbers_of(levels: str) -> list[float]:
    """The levels of `--quantiles`."""
    try:
        found = [float(level) for level in levels.split(",") if level]
    except ValueError:
        found = [0.0]
    if not all(0 < level < 1 for level in found):
        raise UserError(f"--quantiles {levels}: must be numbers between 0 and 1, as in 0.1,0.5,0.9")
    return found


def columns(targets: Sequence[str], levels: Sequence[float]) -> list[str]:
    return [name for target in targets for name in (target, *(f"{target}_q{level:g}" for level in levels))]


if __name__ == "__main__":
    main()
