"""Forecasts on from a file's end: `python -m series CKPT FILE.csv --steps 100` prints them as CSV."""

import argparse
import csv
import sys
from itertools import repeat
from pathlib import Path

from series.checkpoint import TrainedForecaster
from series.data import written
from series.files import Series, read_series
from series.forecast import forecast
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.terminal import errors_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m series", description="Forecasts on from the end of each series of a file."
    )
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("file", help="a table with the columns of the training file")
    parser.add_argument("--steps", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be 1 or more")
    with errors_in_one_line():
        loaded = TrainedForecaster.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model))
        # A forecast goes on from the last piece of a series, so gaps before it do no harm.
        gaps = "keep" if loaded.file["gaps"] == "keep" else "split"
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
        stds = [loaded.std[name] for name in loaded.targets]
        writer = csv.writer(sys.stdout)
        writer.writerow([name for name in (named, timed) if name is not None] + loaded.targets)
        for series in ends.values():
            times = repeat("") if series.clock is None else series.clock.following(arguments.steps)
            for time, values in zip(times, forecast(loaded, series, arguments.steps), strict=False):
                row = [series.name] if named is not None else []
                row += [time] if timed is not None else []
                writer.writerow(row + list(map(written, values, stds)))


if __name__ == "__main__":
    main()
