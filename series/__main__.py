"""Forecasts on from a file's end: `python -m series CKPT FILE.csv --steps 100` prints them as CSV."""

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy

from series.checkpoint import TrainedForecaster
from series.data import written
from series.files import Series, ended, read_series
from series.forecast import forecast
from series.scale import standard
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
    parser.add_argument("--future", metavar="FILE", help="what is known ahead, if not in rows at the end of the file")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be 1 or more")
    with errors_in_one_line():
        levels = numbers_of(arguments.quantiles)
        loaded = TrainedForecaster.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model))
        # A forecast goes on from the last piece of a series, so gaps before it do no harm.
        gaps = loaded.file["gaps"] if loaded.file["gaps"] in ("keep", "fill") else "split"
        how_read = {**loaded.file, "gaps": gaps}
        found = read_series(arguments.file, loaded.columns, **how_read)
        for note in found.notes:
            print(note, file=sys.stderr)
        ends: dict[str, Series] = {series.name: series for series in found.series}
        if loaded.covariates.known:
            targets = [loaded.columns.index(name) for name in loaded.targets]
            ends = {name: ended(series, targets) for name, series in ends.items()}
        if arguments.future is not None:
            ends = with_future(loaded, ends, arguments.future, how_read)
        short = [name for name, series in ends.items() if len(series.values) < loaded.horizon]
        if short and len(short) < len(ends):
            print(
                f"too short for a forecast {loaded.horizon} steps ahead, left out: {', '.join(short)}", file=sys.stderr
            )
            ends = {name: series for name, series in ends.items() if name not in short}
        named, timed = loaded.file["series"], loaded.file["time"]
        if named is None and loaded.file.get("wide"):
            named = "series"
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


def with_future(
    loaded: TrainedForecaster, ends: dict[str, Series], file: str, how_read: dict[str, Any]
) -> dict[str, Series]:
    """The series with what another file knows of the steps after them.

    Raises:
        UserError: nothing is known ahead by the model, or the file does not go on where a series ends.
    """
    known = list(loaded.covariates.known)
    if not known:
        raise UserError(f"--future {file}: is for a model that was trained with data.known=[…]")
    found = {series.name: series for series in read_series(file, known, **{**how_read, "static": []}).series}
    made = {}
    for name, series in ends.items():
        if name not in found:
            raise UserError(f"{file}: has no rows of the series {name}")
        coming = found[name]
        if series.clock is not None and coming.wall is not None:
            (expected,) = series.clock.walls(1)
            if coming.wall[0] != expected:
                raise UserError(f"{file}: begins at {coming.wall[0]}, and {name or 'the series'} goes on at {expected}")
        after = numpy.full((len(coming.values), len(loaded.columns)), numpy.nan)
        after[:, [loaded.columns.index(column) for column in known]] = coming.values
        made[name] = series._replace(after=after)
    return made


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
