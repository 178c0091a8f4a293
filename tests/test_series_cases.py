"""Numbers over time as users of other tools have reported them: a file, and what is read of it, forecast and said."""

import csv
import io
import sys

import numpy
import polars
import pytest
import pytorch_lightning as pl
import torch

from series.__main__ import main
from series.checkpoint import TrainedForecaster
from series.data import SeriesFiles
from series.learner import ForecastLearner
from series.model import Forecaster
from unroll.errors import UserError

WAVE = 10 + numpy.sin(numpy.arange(200) / 5).round(3)


def table(header, *columns):
    return "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns, strict=False))]) + "\n"


def dates(first, last, every, format="%Y-%m-%d"):
    start, stop = (polars.Series([day]).str.to_datetime().item() for day in (first, last))
    return polars.datetime_range(start, stop, every, eager=True).dt.strftime(format).to_list()


HOURS = dates("2021-03-01 00:00:00", "2021-03-08 00:00:00", "1h", "%Y-%m-%d %H:%M:%S")
YEARS = range(1900, 2020)
WORKDAYS = [day for day in dates("2021-01-04", "2021-06-04", "1d", "%Y-%m-%d %u") if day[-1] not in "67"]
NAMES = "time,out temp,a.b,Größe,2020,null,data.train,x=y,on"

# A file, the settings, the columns that are read, what the run says, and the times of the steps that follow.
READ = {
    "no line of names": (table("10.013,21.025", WAVE, WAVE), {}, ["1", "2"], "no line of names: the columns", None),
    "an index": (
        table(",time,load", range(169), HOURS, WAVE), {"time": "time"}, ["load"],
        "the column 1, an index without a name of its own, left out", ["2021-03-08 01:00:00"],
    ),
    "a separator at each line's end": (
        table("time,load,", HOURS, WAVE, [""] * 200), {"time": "time"}, ["load"],
        "column 3, which has neither name nor values, left out", ["2021-03-08 01:00:00"],
    ),
    "names that YAML reads otherwise": (
        table(NAMES, range(99), *8 * [WAVE]), {"time": "time", "columns": [2020, None, "Größe", "x=y", "out temp"]},
        ["2020", "null", "Größe", "x=y", "out temp"], "reads 2020, null, Größe, x=y, out temp", ["99", "100"],
    ),
    "a column of one value": (
        table("t,rain,load", range(200), [0.1] * 180 + [0.2] * 20, WAVE), {"time": "t"}, ["rain", "load"],
        "rain has one value throughout training, and is scaled by 1", ["200"],
    ),
    "years as numbers": (table("year,sun", YEARS, WAVE), {"time": "year"}, ["sun"], "reads sun", ["2020", "2021"]),
    "the first day of years": (
        table("date,sun", [f"{year}-01-01" for year in YEARS], WAVE), {"time": "date"}, ["sun"], "reads sun",
        ["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01", "2024-01-01"],
    ),
    "no weekends": (
        table("day,price", [day[:10] for day in WORKDAYS], WAVE), {"time": "day"}, ["price"], "a season of 5 steps",
        ["2021-06-07", "2021-06-08", "2021-06-09", "2021-06-10", "2021-06-11", "2021-06-14"],
    ),
    "nanoseconds": (
        table("ts,x", range(1614556800 * 10**9, 1615276800 * 10**9, 3600 * 10**9), WAVE), {"time": "ts"}, ["x"],
        "reads x", ["1615276800000000000", "1615280400000000000"],
    ),
    "tenths": (
        table("t,x", [f"{at / 10:.1f}" for at in range(200)], WAVE), {"time": "t"}, ["x"], "reads x",
        ["20.0", "20.1", "20.2", "20.3"],
    ),
    "a series that is too short": (
        table("id,t,x", ["a"] * 60 + ["tiny"] * 4 + ["b"] * 60, [*range(60), *range(4), *range(60)], WAVE),
        {"series": "id", "time": "t", "horizon": 6}, ["x"], "too short for the training split: tiny",
        ["60", "61", "62", "63", "64", "65"] * 2,
    ),
    "an hour that comes twice": (
        table("time,load", dates("2021-10-20", "2021-10-30 23:00:00", "1h", "%Y-%m-%d %H:%M:%S+02:00"), [*WAVE] * 2),
        {"time": "time", "time_zone": "Europe/Berlin"}, ["load"], "a season of 24 steps",
        [f"2021-10-31 0{hour}:00:00+0{zone}:00" for hour, zone in ((0, 2), (1, 2), (2, 2), (2, 1), (3, 1))],
    ),
    "an hour that is left out": (
        table("time,load", dates("2021-03-20", "2021-03-28", "1h", "%Y-%m-%d %H:%M:%S+01:00"), [*WAVE] * 2),
        {"time": "time", "time_zone": "Europe/Berlin"}, ["load"], "a season of 24 steps",
        [f"2021-03-28 0{hour}:00:00+0{zone}:00" for hour, zone in ((1, 1), (3, 2), (4, 2))],
    ),
}  # fmt: skip

# A file, the settings, and what is said of it.
REFUSED = {
    "several series that are read as one": (
        table("time,store,sold", [hour for hour in HOURS for _ in "12"], ["01", "02"] * 169, [*WAVE] * 2),
        {"time": "time", "columns": ["sold"]},
        "line 3: the time 2021-03-01 00:00:00 is not after 2021-03-01 00:00:00, the one before it; most times come "
        "more than once: if there are several series in the file, data.series=store tells them apart",
    ),
    "numbers that may be names": (table("2020,2021", WAVE, WAVE), {}, "line 1: has numbers alone (2020, 2021)"),
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    def write(content, name="a.csv", **settings):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return SeriesFiles(train=str(tmp_path / name), **settings)

    return write


def forecaster(data):
    """A model of these data as it is before training."""
    torch.manual_seed(0)
    model = Forecaster(**data.model_arguments(), hidden_size=4).eval()
    about = data.description()
    return TrainedForecaster(
        model, data.columns, data.targets, data.horizon, False, about["file"], data.covariates, data.scales, data.log,
        data.season,
    )  # fmt: skip


@pytest.fixture
def forecast(monkeypatch, capsys):
    """The rows that `python -m series` prints of a file."""

    def run(loaded, file, steps):
        monkeypatch.setattr("series.__main__.checkpoint_file", str)
        monkeypatch.setattr(TrainedForecaster, "load", lambda path, model: loaded)
        monkeypatch.setattr(sys, "argv", ["series", "run", str(file), "--steps", str(steps)])
        capsys.readouterr()
        main()
        shown = capsys.readouterr()
        return list(csv.DictReader(io.StringIO(shown.out))), shown.err

    return run


@pytest.mark.parametrize("case", READ)
def test_what_is_read_said_and_forecast(data, forecast, tmp_path, case):
    content, settings, columns, said, times = READ[case]
    found = data(content, **settings)
    assert found.columns == columns
    assert said in found.summary()
    series = found.in_training.series
    loaded = forecaster(found)
    used = [one for one in series if len(one.values) >= found.horizon]
    rows, errors = forecast(loaded, tmp_path / "a.csv", len(times or "1") // len(used))
    if times is not None:
        assert [row[settings["time"]] for row in rows] == times
    else:
        assert list(rows[0]) == columns
    left_out = [one.name for one in series if one not in used]
    assert ("left out: " + ", ".join(left_out) in errors) == bool(left_out)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_asked(data, case):
    content, settings, words = REFUSED[case]
    with pytest.raises(UserError) as error:
        data(content, **settings).train  # noqa: B018
    assert words in str(error.value)


def test_time_stamps_of_a_zone_in_a_parquet_file_go_on_hour_by_hour(tmp_path, forecast):
    times = polars.datetime_range(
        polars.datetime(2021, 10, 24), polars.datetime(2021, 10, 31), "1h", time_zone="Europe/Berlin", eager=True
    )
    polars.DataFrame({"time": times, "load": WAVE[: len(times)]}).write_parquet(tmp_path / "a.parquet")
    found = SeriesFiles(train=str(tmp_path / "a.parquet"), time="time")
    rows, _ = forecast(forecaster(found), tmp_path / "a.parquet", 4)
    hours = [row["time"].removeprefix("2021-10-31 ") for row in rows]
    assert hours == ["01:00:00+02:00", "02:00:00+02:00", "02:00:00+01:00", "03:00:00+01:00"]


def test_series_of_any_size_have_forecasts_of_their_size(data, forecast, tmp_path):
    sizes = {"A": 1e6, "B": 1.0, "C": 1e-3}
    sold = [f"{value * size:.9g}" for size in sizes.values() for value in WAVE]
    content = table("shop,t,sold", [shop for shop in sizes for _ in WAVE], [*range(200)] * 3, sold)
    loaded = forecaster(data(content, series="shop", time="t"))
    torch.nn.init.normal_(loaded.model.head.weight)
    rows, _ = forecast(loaded, tmp_path / "a.csv", 3)
    made = {shop: [float(row["sold"]) / size for row in rows if row["shop"] == shop] for shop, size in sizes.items()}
    assert made["A"] == pytest.approx(made["B"], rel=1e-3)
    assert made["C"] == pytest.approx(made["B"], rel=1e-3)
    assert max(made["B"]) - min(made["B"]) > 0.01


def test_numbers_have_the_digits_that_tell_them_apart(data, forecast, tmp_path):
    level = (1234567566 + 100 * WAVE).round(2)
    found = data(table("time,count", HOURS, level), time="time")
    rows, _ = forecast(forecaster(found), tmp_path / "a.csv", 6)
    assert abs(float(rows[0]["count"]) - level[168]) < 0.1
    shown = [line.split()[-1] for line in found.show(tmp_path).splitlines()[1:9]]
    assert len(set(shown)) == 8


@pytest.mark.parametrize("changed", [1, 5])
def test_a_forecast_knows_the_file_to_its_end(data, forecast, tmp_path, changed):
    loaded = forecaster(data(table("t,x", range(200), WAVE), time="t", horizon=6))
    torch.nn.init.normal_(loaded.model.head.weight)
    files = tmp_path / "a.csv", tmp_path / "b.csv"
    files[1].write_text(table("t,x", range(200), [*WAVE[:-changed], WAVE[-changed] + 3, *WAVE[200 - changed + 1 :]]))
    first = [float(forecast(loaded, file, 1)[0][0]["x"]) for file in files]
    assert abs(first[0] - first[1]) > 0.01


@pytest.mark.parametrize("how", ["grown", "later"])
def test_an_evaluation_scales_another_file_as_training_did(data, how):
    trained = data(table("time,load", HOURS[:100], WAVE), time="time")
    if how == "grown":
        other = data(table("time,load", HOURS, WAVE + numpy.arange(200)), name="b.csv", time="time")
    else:
        data(table("time,load", HOURS[100:], 50 + WAVE), name="b.csv")
        other = SeriesFiles(
            train=trained.files[0], valid=trained.files[0].replace("a.csv", "b.csv"), time="time", valid_fraction=0.2
        )
    about = trained.description()
    other.as_in(about)
    assert {name: other.description()[name] for name in other.meaning} == {name: about[name] for name in other.meaning}
    span = other.valid_spans[-1]
    last = float(trained.scales[""].in_units(span.values[-1])[0])
    assert last == pytest.approx(WAVE[168] + 168 if how == "grown" else 50 + WAVE[68], abs=0.01)


def test_no_setting_of_reading_changes_the_skill(data):
    found = []
    for batch_size, bptt in ((1, 40), (4, 40), (64, 5)):
        of_case = data(table("t,x", range(200), WAVE), time="t", batch_size=batch_size, bptt=bptt)
        learner = ForecastLearner(forecaster(of_case).model)
        torch.nn.init.normal_(learner.model.head.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        pl.Trainer(**quiet).validate(learner, datamodule=of_case, verbose=False)
        found.append(learner.total("valid")["skill"])
    assert found == pytest.approx([found[0]] * 3, abs=1e-5)
