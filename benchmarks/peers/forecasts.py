"""Our forecaster beside the recurrent ones of darts and neuralforecast: accuracy, and the time that it takes.

    python -m benchmarks.peers.forecasts ETTh1.csv [--horizon 96] [--seeds 1] [--times 2] [--write FOLDER] [overrides]
    python -m benchmarks.peers.forecasts Hourly-train.csv Hourly-test.csv [--season 24] …

The files and the splits are those of `benchmarks.forecasts`; of ETT, each 24th origin of the test part is read.
One thread each. The peers have their own defaults, but for 128 units and windows of 336 steps, as ours; they train on
the validation part too; and each may train for `--times` the processor time that our whole command takes, imports,
validations and plots included. They run in an environment of their own, which is made at the first call (`--python`
names one that is there).
"""

import argparse
import csv
import json
import resource
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from benchmarks import forecasts
from benchmarks.peers.environment import HERE, fit_of, forecasters_python
from benchmarks.process import Table, watch, with_overrides
from series.backtest import Backtest
from series.learner import ForecastLearner
from series.model import Forecaster
from unroll.resume.checkpoint import checkpoint_file, rebuild

PEERS = ("darts RNNModel", "darts BlockRNNModel", "neuralforecast LSTM", "neuralforecast DeepAR")
EVERY, CONTEXT = 24, 336  # steps

Forecasts = dict[int, dict[str, numpy.ndarray]]  # by how many steps are known, and by series: `[horizon]`


def of_ours(typed: Sequence[str], run: Path) -> float:
    """Trains ours; the processor time of the whole command, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    watch([sys.executable, "train.py", "model=forecaster", *typed, "threads=1", f"hydra.run.dir={run}"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def of_peer(python: str, name: str, job: Mapping[str, Any], folder: Path) -> tuple[Forecasts, float, int]:
    """Forecasts of a peer, the processor time of its training in seconds, and its steps."""
    out = folder / "forecasts.csv"
    asked = json.dumps({**job, "model": name.rpartition(" ")[2], "context": CONTEXT, "out": str(out)})
    ended = watch([python, str(HERE / "forecasters.py"), asked])
    seconds, speed = fit_of(ended.output)
    made: Forecasts = defaultdict(lambda: defaultdict(lambda: numpy.full(job["horizon"], numpy.nan)))
    with open(out, newline="") as opened:
        for row in csv.DictReader(opened):
            made[int(row["origin"])][row["series"]][int(row["step"])] = float(row["value"])
    return made, seconds, round(seconds * speed)


@torch.inference_mode()
def ett(file: Path, asked: argparse.Namespace, overrides: Sequence[str]) -> None:
    table = Table("forecasts_ett_peers", ("data", "horizon", "seed", "", "mse", "mae", "s", "steps"), asked.write)
    parts = [forecasts.part(file, months) for months in (16, 20)]
    known, whole = map(columns, parts)
    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            typed = forecasts.typed(file, asked.horizon)
            seconds = of_ours([*typed, f"seed={seed}", *overrides], folder / "run")
            model, metadata = rebuild(checkpoint_file(folder / "run"), Forecaster)
            data = forecasts.data_of_test(parts[1], asked.horizon, metadata)
            span = data.valid_spans[0]
            cells = ((file.stem, ""), (asked.horizon, ""), (seed, ""))
            ours = Backtest(str(folder), EVERY).forecasts(ForecastLearner(model.eval()), span, data)
            errors = forecasts.mean_errors(span, data, ours)
            table.add(*cells, ("unroll", ""), *errors, (seconds, ".0f"), ("", ""))
            job = {
                "train": str(forecasts.long(folder / "train.csv", known)),
                "whole": str(forecasts.long(folder / "whole.csv", whole)),
                "origins": [step + 1 for step in range(span.start, span.stop, EVERY)],
                **{"horizon": asked.horizon, "seed": seed, "seconds": asked.times * seconds},
            }
            for name in PEERS:
                made, trained, steps = of_peer(asked.python, name, job, folder)
                numbers = {
                    known: numpy.stack([of_series[column] for column in whole], 1) for known, of_series in made.items()
                }
                points = [
                    (known - 1, torch.from_numpy(span.scale.standardised(values)).T)
                    for known, values in numbers.items()
                ]
                errors = forecasts.mean_errors(span, data, points)
                table.add(*cells, (name, ""), *errors, (trained, ".0f"), (steps, ""))
    table.keep()


def m4(train: Path, test: Path, asked: argparse.Namespace, overrides: Sequence[str]) -> None:
    table = Table("forecasts_m4_peers", ("data", "seed", "", "sMAPE", "MASE", "OWA", "s", "steps"), asked.write)
    known, coming = forecasts.wide(train), forecasts.wide(test)
    horizon = max(map(len, coming.values()))
    simple = forecasts.naive2_scores(known, coming, asked.season)

    def row(seed: int, name: str, made: Mapping[str, numpy.ndarray], seconds: float, steps: Any) -> None:
        shown = forecasts.shown(forecasts.scores(made, known, coming, asked.season), simple)
        table.add((train.stem, ""), (seed, ""), (name, ""), *shown, (seconds, ".0f"), (steps, ""))

    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            file = str(forecasts.long(folder / "train.csv", known))
            typed = forecasts.typed_of_many(Path(file), horizon)
            seconds = of_ours([*typed, f"seed={seed}", *overrides], folder / "run")
            ours, _ = forecasts.forecasts_of(folder / "run", known, horizon)
            row(seed, "unroll", {name: points[:, 0] for name, points in ours.items()}, seconds, "")
            job = {"train": file, "whole": file, "origins": None, "horizon": horizon, "seed": seed}
            for name in PEERS:
                made, trained, steps = of_peer(asked.python, name, {**job, "seconds": asked.times * seconds}, folder)
                row(seed, name, {one: points for some in made.values() for one, points in some.items()}, trained, steps)
    table.keep()


def columns(file: Path) -> dict[str, numpy.ndarray]:
    """The numbers of an ETT file."""
    with open(file, newline="") as opened:
        (_, *names), *rows = csv.reader(opened)
    return dict(zip(names, numpy.array([row[1:] for row in rows], dtype=float).T, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="one of ETT, or two of M4")
    parser.add_argument("--horizon", type=int, default=96, help="of ETT; default: %(default)s")
    parser.add_argument("--season", type=int, default=24, help="of M4; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--times", type=float, default=2, help="the time that peers may train; default: %(default)s")
    parser.add_argument("--python", help="of an environment that has darts and neuralforecast")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, overrides = with_overrides(parser)
    arguments.python = arguments.python or forecasters_python()
    torch.set_num_threads(1)
    if len(arguments.files) == 1:
        ett(arguments.files[0], arguments, overrides)
    else:
        m4(arguments.files[0], arguments.files[1], arguments, overrides)


if __name__ == "__main__":
    main()
