"""Numbers over time: our forecasts beside simple ones, on the splits that forecasters measure by.

    python -m benchmarks.forecasts ett ETTh1.csv [--horizons 96 192] [--seeds 3] [--write FOLDER] [overrides]
    python -m benchmarks.forecasts m4 Hourly-train.csv Hourly-test.csv --season 24 [--seeds 3] [overrides]
    python -m benchmarks.forecasts memory ETTh1.csv [--horizons 96] [--seeds 3] [overrides]
    python -m benchmarks.forecasts many [--series 1000 10000 100000] [overrides]

The files are those of zhouhaoyi/ETDataset (ETT-small/) and Mcompetitions/M4-methods (Dataset/). Each run is a whole
`python train.py model=forecaster`, with nothing typed but files and horizon, chosen by its validation split; the test
part is read once, by the checkpoint. ETT: the first 12 months train, 4 validate and 4 test, every origin, errors in
deviations of the training part. M4: the mean sMAPE and MASE over series, and the OWA, against Naive2 (the competition's
own rules: a season is taken out where the autocorrelation is significant). `coverage` is the share of the test part
between the first and the last decile, where a model says how sure it is (objective=quantiles, normal, student_t).
`memory` reads the test part of `ett` with the state carried from the beginning of the file, and from zeros in windows
of so many steps, each 24th origin. `many` trains for a hundred steps on so many series of fifty steps each, and tells
the time and the memory of the whole command. Runs are kept under `outputs/benchmarks/forecasts/`, so a call that was
stopped continues.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from benchmarks.process import ROOT, Table, watch, with_overrides
from benchmarks.tagging import finished
from series.backtest import Backtest, errors
from series.callbacks import BAND
from series.checkpoint import TrainedForecaster
from series.data import SeriesFiles
from series.files import Series
from series.forecast import forecast
from series.learner import ForecastLearner
from series.model import Forecaster
from series.windows import Span
from unroll.lightning import pl
from unroll.resume.checkpoint import checkpoint_file, rebuild

OUTPUTS = ROOT / "outputs" / "benchmarks" / "forecasts"
M4 = ("data", "seed", "forecast", "sMAPE", "MASE", "OWA", "coverage", "seconds")
WINDOWS = (96, 336, 720)  # steps
STEPS = 50  # of each of many series
MONTHS = {"h": 30 * 24, "m": 30 * 24 * 4}  # steps, by the letter in the file's name


def ett(file: Path, horizons: Sequence[int], seeds: int, folder: Path | None, overrides: Sequence[str]) -> None:
    columns = ("data", "horizon", "seed", "mse", "mae", "linear mse", "coverage", "seconds")
    table = Table("forecasts_ett", columns, folder)
    for horizon in horizons:
        for seed in range(seeds):
            run, seconds = fitted(file, horizon, seed, overrides)
            metrics = tested(run, part(file, 20), horizon)
            shown = [(metrics[name], ".4f") for name in ("mse", "mae", "linear_mse")]
            covered = (metrics["coverage"], ".3f") if "coverage" in metrics else ("", "")
            table.add((file.stem, ""), (horizon, ""), (seed, ""), *shown, covered, (seconds, ".0f"))
    table.keep()


def part(file: Path, months: int) -> Path:
    """The first months of a file."""
    path = OUTPUTS / f"{file.stem}_{months}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(file.read_text().splitlines(keepends=True)[: 1 + steps(file, months)]))
    return path


def steps(file: Path, months: int) -> int:
    """How many steps a file has in some months."""
    return months * MONTHS[file.stem.removeprefix("ETT")[0]]


def fitted(file: Path, horizon: int, seed: int, overrides: Sequence[str]) -> tuple[Path, float]:
    """A run on the parts that train and validate, and the seconds of its training."""
    run = OUTPUTS / "_".join([file.stem, str(horizon), str(seed), *named(overrides)])
    return run, finished(run, ["model=forecaster", *typed(file, horizon), f"seed={seed}", *overrides])


def typed(file: Path, horizon: int) -> list[str]:
    """What says which file, and which part of it validates."""
    return [f"data.train={part(file, 16)}", "data.time=date", "data.valid_fraction=0.25", f"data.horizon={horizon}"]


def named(overrides: Sequence[str]) -> list[str]:
    """What tells runs apart in the name of a folder."""
    typed = (override.partition("=") for override in overrides)
    return [f"{key.rpartition('.')[2]}-{value}".replace("/", "-") for key, _, value in typed]


def data_of_test(file: Path, horizon: int, metadata: Mapping[str, Any]) -> SeriesFiles:
    """The last fifth of a file, by a checkpoint's scale."""
    data = SeriesFiles(train=str(file), time="date", valid_fraction=0.2, horizon=horizon, bptt=500)
    data.as_in(metadata["data"])
    return data


def tested(run: Path, file: Path, horizon: int) -> dict[str, float]:
    """The metrics of a run's best checkpoint on the last fifth of a file."""
    model, metadata = rebuild(checkpoint_file(run), Forecaster)
    data = data_of_test(file, horizon, metadata)
    learner = ForecastLearner(model)
    pl.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False).validate(
        learner, datamodule=data, verbose=False
    )
    return learner.total("valid")


@torch.inference_mode()
def memory(file: Path, horizons: Sequence[int], seeds: int, folder: Path | None, overrides: Sequence[str]) -> None:
    table = Table("forecasts_memory", ("data", "horizon", "seed", "read", "mse", "mae"), folder)
    for horizon in horizons:
        for seed in range(seeds):
            run, _ = fitted(file, horizon, seed, overrides)
            model, metadata = rebuild(checkpoint_file(run), Forecaster)
            learner, data = ForecastLearner(model.eval()), data_of_test(part(file, 20), horizon, metadata)
            span = data.valid_spans[0]
            made = {"all, the state carried": [*Backtest(str(OUTPUTS), every=24).forecasts(learner, span, data)]}
            for steps in WINDOWS:
                origins = torch.arange(span.start, span.stop, 24)
                windows = span.values[origins[:, None] + torch.arange(1 - steps, 1)]  # [origins, steps, columns]
                outputs = torch.cat([learner.model(some)[0][:, -1] for some in windows.split(16)])
                points = learner.model.outlook.point(outputs)  # type: ignore[operator, union-attr]
                made[f"{steps} steps, from zeros"] = [*zip(origins.tolist(), points, strict=True)]
            for name, forecasts in made.items():
                table.add((file.stem, ""), (horizon, ""), (seed, ""), (name, ""), *mean_errors(span, data, forecasts))
    table.keep()


def mean_errors(
    span: Span, data: SeriesFiles, forecasts: Iterable[tuple[int, torch.Tensor]]
) -> list[tuple[float, str]]:
    """The squared and the absolute error of forecasts, as cells of a table."""
    found = torch.stack([errors(span, data, step, points) for step, points in forecasts])
    return [(mean, ".4f") for mean in found.nanmean((0, 2, 3))[:2].tolist()]


def m4(train: Path, test: Path, season: int, seeds: int, folder: Path | None, overrides: Sequence[str]) -> None:
    table = Table("forecasts_m4", M4, folder)
    known, coming = wide(train), wide(test)
    horizon = max(map(len, coming.values()))
    file = long(OUTPUTS / f"{train.stem}.csv", known)
    simple = naive2_scores(known, coming, season)
    table.add((train.stem, ""), ("", ""), ("Naive2", ""), *shown(simple, simple), ("", ""), ("", ""))
    for seed in range(seeds):
        run = OUTPUTS / "_".join([train.stem, str(seed), *named(overrides)])
        seconds = finished(run, ["model=forecaster", *typed_of_many(file, horizon), f"seed={seed}", *overrides])
        made, levels = forecasts_of(run, known, horizon)
        ours = scores({name: points[:, 0] for name, points in made.items()}, known, coming, season)
        inside = [
            (made[name][: len(truth), 1] <= truth) & (truth <= made[name][: len(truth), 2])
            for name, truth in coming.items()
            if levels
        ]
        covered = (float(numpy.concatenate(inside).mean()), ".3f") if levels else ("", "")
        table.add((train.stem, ""), (seed, ""), ("`forecaster`", ""), *shown(ours, simple), covered, (seconds, ".0f"))
    table.keep()


def typed_of_many(file: Path, horizon: int) -> list[str]:
    """What says which file of several series, as `long` writes it."""
    return [f"data.train={file}", "data.series=series", "data.time=step", f"data.horizon={horizon}"]


def naive2_scores(
    known: Mapping[str, numpy.ndarray], coming: Mapping[str, numpy.ndarray], season: int
) -> tuple[float, float]:
    """The scores of Naive2, as `scores`."""
    made = {name: naive2(values, season, len(coming[name])) for name, values in known.items()}
    return scores(made, known, coming, season)


def forecasts_of(
    run: Path, known: Mapping[str, numpy.ndarray], horizon: int
) -> tuple[dict[str, numpy.ndarray], Sequence[float]]:
    """What a run's best checkpoint forecasts behind each series: `[horizon, 1 + levels]`, the points and, where the
    model says how sure it is, a band; and its levels."""
    loaded = TrainedForecaster.load(checkpoint_file(run))
    outlook: Any = loaded.model.outlook
    levels = BAND if outlook.spread else ()
    made = {
        name: forecast(loaded, Series(name, values[:, None]), horizon, levels)[:, 0].numpy()
        for name, values in known.items()
    }
    return made, levels


def long(file: Path, series: Mapping[str, numpy.ndarray]) -> Path:
    """Writes a file with a row for each step of each series."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as opened:
        rows = ((name, step, value) for name, values in series.items() for step, value in enumerate(values))
        csv.writer(opened).writerows([("series", "step", "value"), *rows])
    return file


def many(counts: Sequence[int], folder: Path | None, overrides: Sequence[str]) -> None:
    table = Table("forecasts_many", ("series", "file, MB", "seconds", "peak MiB"), folder)
    draw = numpy.random.default_rng(0)
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            walks = draw.normal(size=(count, STEPS)).cumsum(1).round(3)
            file = long(Path(scratch) / "many.csv", {f"series {number}": walk for number, walk in enumerate(walks)})
            typed = [*typed_of_many(file, horizon=7), "trainer.max_steps=100", "trainer.limit_val_batches=10"]
            typed += [f"hydra.run.dir={scratch}/run"]
            ended = watch([sys.executable, "train.py", "model=forecaster", *typed, *overrides])
            megabytes = file.stat().st_size / 1e6
            table.add((count, ","), (megabytes, ".1f"), (ended.seconds, ".0f"), (ended.memory, ",.0f"))
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


def scores(
    made: Mapping[str, numpy.ndarray],
    known: Mapping[str, numpy.ndarray],
    coming: Mapping[str, numpy.ndarray],
    season: int,
) -> tuple[float, float]:
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
    parser.add_argument("what", choices=("ett", "m4", "memory", "many"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--series", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--horizons", nargs="+", type=int, default=[96, 192, 336, 720])
    parser.add_argument("--season", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments, overrides = with_overrides(parser)
    if arguments.what != "many" and not arguments.files:
        parser.error(f"{arguments.what}: of which files?")
    torch.set_num_threads(1)
    if arguments.what == "many":
        many(arguments.series, arguments.write, overrides)
    elif arguments.what in ("ett", "memory"):
        for file in arguments.files:
            measure = ett if arguments.what == "ett" else memory
            measure(file, arguments.horizons, arguments.seeds, arguments.write, overrides)
    else:
        train, test = arguments.files
        m4(train, test, arguments.season, arguments.seeds, arguments.write, overrides)


if __name__ == "__main__":
    main()
