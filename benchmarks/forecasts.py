"""Numbers over time: our forecasts beside simple ones, on the splits that forecasters measure by.

    python -m benchmarks.forecasts ett ETTh1.csv [--horizons 96 192] [--seeds 3] [--write FOLDER] [overrides]
    python -m benchmarks.forecasts m4 Hourly-train.csv Hourly-test.csv --season 24 [--seeds 3] [overrides]

The files are those of zhouhaoyi/ETDataset (ETT-small/) and Mcompetitions/M4-methods (Dataset/). Each run is a whole
`python train.py model=forecaster`, with nothing typed but files and horizon, chosen by its validation split; the test
part is read once, by the checkpoint. ETT: the first 12 months train, 4 validate and 4 test, every origin, errors in
deviations of the training part. M4: the mean sMAPE and MASE over series, and the OWA, against Naive2 (the competition's
own rules: a season is taken out where the autocorrelation is significant). Runs are kept under
`outputs/benchmarks/forecasts/`, so a call that was stopped continues.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch

from benchmarks.process import ROOT, Table
from benchmarks.tagging import finished
from series.checkpoint import TrainedForecaster
from series.data import SeriesFiles
from series.files import Series
from series.forecast import forecast
from series.learner import ForecastLearner
from series.model import Forecaster
from unroll.lightning import pl
from unroll.resume.checkpoint import checkpoint_file, rebuild

OUTPUTS = ROOT / "outputs" / "benchmarks" / "forecasts"
MONTHS = {"h": 30 * 24, "m": 30 * 24 * 4}  # steps, by the letter in the file's name


def ett(file: Path, horizons: Sequence[int], seeds: int, folder: Path | None, overrides: Sequence[str]) -> None:
    table = Table("forecasts_ett", ("data", "horizon", "seed", "mse", "mae", "linear mse", "seconds"), folder)
    month = MONTHS[file.stem.removeprefix("ETT")[0]]
    parts = {}
    for name, months in (("fitted", 16), ("tested", 20)):
        parts[name] = OUTPUTS / f"{file.stem}_{name}.csv"
        parts[name].parent.mkdir(parents=True, exist_ok=True)
        parts[name].write_text("".join(file.read_text().splitlines(keepends=True)[: 1 + months * month]))
    for horizon in horizons:
        for seed in range(seeds):
            run = OUTPUTS / f"{file.stem}_{horizon}_{seed}"
            typed = [f"data.train={parts['fitted']}", "data.time=date", "data.valid_fraction=0.25"]
            typed += [f"data.horizon={horizon}", f"seed={seed}"]
            seconds = finished(run, ["model=forecaster", *typed, *overrides])
            metrics = tested(run, parts["tested"], horizon)
            errors = [(metrics[name], ".4f") for name in ("mse", "mae", "linear_mse")]
            table.add((file.stem, ""), (horizon, ""), (seed, ""), *errors, (seconds, ".0f"))
    table.keep()


def tested(run: Path, file: Path, horizon: int) -> dict[str, float]:
    """The metrics of a run's best checkpoint on the last fifth of a file, by the checkpoint's scale."""
    model, metadata = rebuild(checkpoint_file(run), Forecaster)
    data = SeriesFiles(train=str(file), time="date", valid_fraction=0.2, horizon=horizon, bptt=500)
    data.as_in(metadata["data"])
    learner = ForecastLearner(model)
    pl.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False).validate(
        learner, datamodule=data, verbose=False
    )
    return learner.total("valid")


def m4(train: Path, test: Path, season: int, seeds: int, folder: Path | None, overrides: Sequence[str]) -> None:
    table = Table("forecasts_m4", ("data", "seed", "forecast", "sMAPE", "MASE", "OWA", "seconds"), folder)
    known, coming = wide(train), wide(test)
    horizon = max(map(len, coming.values()))
    file = OUTPUTS / f"{train.stem}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as opened:
        rows = ((name, step, value) for name, values in known.items() for step, value in enumerate(values))
        csv.writer(opened).writerows([("series", "step", "value"), *rows])
    simple = scores({name: naive2(values, season, horizon) for name, values in known.items()}, known, coming, season)
    table.add((train.stem, ""), ("", ""), ("Naive2", ""), *shown(simple, simple), ("", ""))
    for seed in range(seeds):
        run = OUTPUTS / f"{train.stem}_{seed}"
        typed = [f"data.train={file}", "data.series=series", "data.time=step", f"data.horizon={horizon}"]
        seconds = finished(run, ["model=forecaster", *typed, f"seed={seed}", *overrides])
        loaded = TrainedForecaster.load(checkpoint_file(run))
        made = {
            name: forecast(loaded, Series(name, values[:, None]), horizon)[:, 0, 0].numpy()
            for name, values in known.items()
        }
        ours = scores(made, known, coming, season)
        table.add((train.stem, ""), (seed, ""), ("`forecaster`", ""), *shown(ours, simple), (seconds, ".0f"))
    table.keep()


def wide(file: Path) -> dict[str, numpy.ndarray]:
    """M4's files: a row for each series, its name first."""
    with open(file, newline="") as opened:
        rows = csv.reader(opened)
        next(rows)
        return {name: numpy.array([float(value) for value in values if value]) for name, *values in rows}


def naive2(values: numpy.ndarray, season: int, horizon: int) -> numpy.ndarray:
    """The last value, where a season is significant after taking it out (multiplicative), as in M4's benchmarks."""
    factors = numpy.ones(season)
    if season > 1 and len(values) >= 3 * season and seasonal(values, season):
        kernel = numpy.ones(season) / season
        if season % 2 == 0:
            kernel = numpy.convolve(kernel, [0.5, 0.5])
        trend = numpy.convolve(values, kernel, "valid")
        lead = len(kernel) // 2
        ratios = values[lead : lead + len(trend)] / trend
        at = (numpy.arange(len(ratios)) + lead) % season
        factors = numpy.array([ratios[at == phase].mean() for phase in range(season)])
        factors /= factors.mean()
    level = values[-1] / factors[(len(values) - 1) % season]
    return level * factors[(len(values) + numpy.arange(horizon)) % season]


def seasonal(values: numpy.ndarray, season: int) -> bool:
    """M4's test: the autocorrelation at the season, at 90 %."""
    apart = values - values.mean()
    alike = [float((apart[lag:] * apart[: len(apart) - lag]).sum() / (apart**2).sum()) for lag in range(1, season + 1)]
    limit = 1.645 * numpy.sqrt((1 + 2 * sum(value**2 for value in alike[:-1])) / len(values))
    return abs(alike[-1]) > limit


def scores(made: dict, known: dict, coming: dict, season: int) -> tuple[float, float]:
    """The mean sMAPE and MASE over series."""
    smape, mase = [], []
    for name, truth in coming.items():
        forecast, before = made[name][: len(truth)], known[name]
        smape.append(200 * numpy.mean(numpy.abs(forecast - truth) / (numpy.abs(forecast) + numpy.abs(truth))))
        mase.append(numpy.abs(forecast - truth).mean() / numpy.abs(before[season:] - before[:-season]).mean())
    return float(numpy.mean(smape)), float(numpy.mean(mase))


def shown(ours: tuple[float, float], naive: tuple[float, float]) -> list[tuple[float, str]]:
    return [(ours[0], ".2f"), (ours[1], ".3f"), ((ours[0] / naive[0] + ours[1] / naive[1]) / 2, ".3f")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecasts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("ett", "m4"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--horizons", nargs="+", type=int, default=[96, 192, 336, 720])
    parser.add_argument("--season", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    if arguments.what == "ett":
        for file in arguments.files:
            ett(file, arguments.horizons, arguments.seeds, arguments.write, overrides)
    else:
        train, test = arguments.files
        m4(train, test, arguments.season, arguments.seeds, arguments.write, overrides)


if __name__ == "__main__":
    main()
