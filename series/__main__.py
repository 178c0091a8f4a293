"""Forecasts on from a file's end: `python -m series CKPT FILE.csv --steps 100` prints them as CSV."""

import argparse
import csv
import sys
from pathlib import Path

from series.checkpoint import TrainedForecaster
from series.files import Series, read_series
from series.forecast import forecast
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.terminal import errors_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m series", description="Forecasts on from the end of each series of a file."
    )
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("file", type=Path, help="a CSV or Parquet file with the columns of the training file")
    parser.add_argument("--steps", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be 1 or more")
    with errors_in_one_line():
        loaded = TrainedForecaster.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model))
        # A forecast goes on from the last piece of a series, so gaps before it do no harm.
        gaps = "keep" if loaded.file["gaps"] == "keep" else "split"
        _, found = read_series(arguments.file, loaded.columns, **{**loaded.file, "gaps": gaps})
        ends: dict[str, Series] = {series.name: series for series in found}
        named, timed = loaded.file["series"], loaded.file["time"]
        writer = csv.writer(sys.stdout)
        writer.writerow([name for name in (named, timed) if name is not None] + loaded.targets)
        for series in ends.values():
            time = series.last_time
            for values in forecast(loaded, series, arguments.steps):
                row = [series.name] if named is not None else []
                if timed is not None:
                    time = None if series.step is None else time + series.step
                    row.append("" if time is None else str(time))
                writer.writerow(row + [f"{value:.6g}" for value in values])


if __name__ == "__main__":
    main()
