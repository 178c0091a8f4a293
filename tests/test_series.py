"""Forecasts of numbers: files, what is read and scored, metrics beside the naive forecast, and the commands."""

import csv
import io
import json
import math

import numpy
import polars
import pytest
import torch

from series.checkpoint import TrainedForecaster
from series.data import SeriesFiles
from series.files import read_series
from series.learner import ForecastError
from series.model import Forecaster
from unroll.errors import UserError

STEPS = 600


def weather(steps=STEPS, station="north", first=0):
    """A slow and a fast wave, a number that is not forecast, and hourly time stamps."""
    at = numpy.arange(first, first + steps)
    noise = numpy.random.default_rng(first).normal(size=steps)
    start = polars.datetime(2026, 1, 1) + polars.duration(hours=polars.Series(at))
    return polars.select(
        station=polars.lit(station),
        time=start.dt.strftime("%Y-%m-%d %H:%M"),
        temperature=polars.Series(1000 + 20 * numpy.sin(at / 8) + noise),
        wind=polars.Series(5 + numpy.cos(at / 5)),
        sun=polars.Series((at % 24 < 12).astype(float)),
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weather.csv"
    table = polars.concat([weather(), weather(400, "south", 7)])
    table.sort("time", maintain_order=True).write_csv(path)  # the two stations in turn
    return path


def settings(file, **more):
    return {"train": str(file), "series": "station", "time": "time", "bptt": 20, "batch_size": 6, **more}


class TestFiles:
    def test_the_same_from_every_kind_of_file(self, tmp_path, file):
        table = polars.read_csv(file)
        table.write_csv(tmp_path / "weather.tsv", separator="\t")
        table.write_parquet(tmp_path / "weather.parquet")
        table.write_csv(tmp_path / "weather.csv.gz", compression="gzip")
        columns, expected, _, _ = read_series(str(file), None, "station", "time", "refuse")
        assert columns == ["temperature", "wind", "sun"]
        assert [(series.name, len(series.values)) for series in expected] == [("north", STEPS), ("south", 400)]
        for name in ("weather.tsv", "weather.parquet", "weather.csv.gz"):
            found = read_series(str(tmp_path / name), columns, "station", "time", "refuse").series
            for ours, theirs in zip(found, expected, strict=True):
                assert ours.name == theirs.name
                assert numpy.array_equal(ours.values, theirs.values)

    def test_a_series_is_split_where_time_stamps_are_missing(self, tmp_path):
        table = weather()
        path = str(tmp_path / "gaps.csv")
        polars.concat([table[:100], table[103:250], table[260:]]).write_csv(path)
        with pytest.raises(
            UserError, match=r"line 102: time stamps are missing between 2026-01-05 03:00 and 2026-01-05 07:00 "
            r"\(a step is 1:00:00; 2 gaps in all\); data.gaps=split begins a new series there"
        ):  # fmt: skip
            read_series(path, ["wind"], None, "time", "refuse")
        lengths = {
            gaps: [len(part.values) for part in read_series(path, ["wind"], None, "time", gaps).series]
            for gaps in ("split", "keep")
        }
        assert lengths == {"split": [100, 147, 340], "keep": [587]}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("1000.5", ""), r"line 4: the column temperature has no number \(1 in all\)"),
            (("1000.5", "NaN"), r"line 4: the column temperature has 'NaN', not a number"),
            (("1000.5", "mild"), r"line 4: the column temperature has 'mild', not a number"),
            (("2026-01-01 02:00", ""), r"line 4: the time stamp in the column time is missing"),
            (("2026-01-01 02:00", "noon"), r"line 4: the time stamp in the column time 'noon' can't be read"),
            (("2026-01-01 02:00", "2026-01-01 01:00"), r"line 4: .* is not after .* leave one of the two out"),
            (("2026-01-01 02:00", "2025-01-01 01:00"), r"line 4: .* is not after .* sort the file by time"),
            (("temperature", "heat"), r"there is no column temperature; choose from: station, time, heat, wind, sun"),
        ],
    )
    def test_a_wrong_value_is_named_with_its_line(self, tmp_path, change, words):
        text = weather(50).with_columns(temperature=polars.lit(1000.0)).write_csv()
        lines = text.splitlines()
        lines[3] = lines[3].replace("1000.0", "1000.5")
        (tmp_path / "wrong.csv").write_text("\n".join(lines).replace(*change))
        with pytest.raises(UserError, match=words) as error:
            read_series(str(tmp_path / "wrong.csv"), ["temperature"], "station", "time", "refuse")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("none.csv", None, "there is no such file"),
            ("text.txt", "a\n1\n", r"must be a .csv, .tsv or .parquet file"),
            ("empty.csv", "", "the file is empty"),
            ("names.csv", "a,b\n", "has no rows"),
            ("broken.parquet", "PAR1 and no more", "can't be read"),
        ],
    )
    def test_what_is_no_table_is_refused(self, tmp_path, name, content, words):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=words) as error:
            read_series(str(tmp_path / name))
        assert "\n" not in str(error.value)


# The content of a file, and the numbers that are read of each column, or words of the message and what answers it.
NUMBERS = {
    "points": ("a,b\n1.5,-2\n.5,1e3\n", {"a": [1.5, 0.5], "b": [-2, 1000]}),
    "decimal commas": ("a;b\n1,5;-2\n0,25;1\n", {"a": [1.5, 0.25], "b": [-2, 1]}),
    "decimal commas in quotes": ('a,b\n"1,5",2\n"0,25",1\n', {"a": [1.5, 0.25], "b": [2, 1]}),
    "decimal commas and thousands": ("a;b\n1.234,5;1.000\n2,25;1.000.000\n", {"a": [1234.5, 2.25], "b": [1000, 1e6]}),
    "thousands and points": ('a,b\n"1,234.5",2\n"12,345",1\n', {"a": [1234.5, 12345], "b": [2, 1]}),
    "millions": ('a,b\n"1,234,567",2\n"12,345",1\n', {"a": [1234567, 12345], "b": [2, 1]}),
    "thousands by blanks": ("a;b\n1 234,5;1\n12 345,25;2\n", {"a": [1234.5, 12345.25], "b": [1, 2]}),
    "thousands by apostrophes": ("a;b\n1'234.5;1\n12'345;2\n", {"a": [1234.5, 12345], "b": [1, 2]}),
    "points of three digits": ("a;b\n1.234;1\n12.345;2\n", {"a": [1.234, 12.345], "b": [1, 2]}),
    "a comma that may be either": (
        'a,b\n"1,234",2\n"12,345",1\n', r"line 2: the column a has '1,234'; data.decimal=',' reads the comma as",
        {"decimal": ","}, {"a": [1.234, 12.345], "b": [2, 1]},
    ),
    "units": ("a,b\nMW,m/s\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "units and notes": ("a,b\nMW,\nmean,max\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "names of another index": ("a,b\nx,y\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "an index": (",a\n0,1\n1,3\n", {"a": [1, 3]}),
    "an index of pandas": ("Unnamed: 0,a\n0,1\n1,3\n", {"a": [1, 3]}),
    "no names": ("1.5,2.5\n3.5,4.5\n", {"1": [1.5, 3.5], "2": [2.5, 4.5]}),
    "a name with a line end": ('"a\nb",c\n1,2\n3,4\n', {"a b": [1, 3], "c": [2, 4]}),
    "dates": (
        "day,a\n2020-01-01,1\n2020-01-02,2\n",
        "line 2: the column day has '2020-01-01', not a number (2 in all); if it is the time, write data.time=day",
        {"time": "day"}, {"a": [1, 2]},
    ),
    "words": (
        "who,a\nann,1\nbob,2\n",
        "the column who has 'ann', not a number (2 in all); name the columns of numbers, as in data.columns=[a]",
        {"columns": ["a"]}, {"a": [1, 2]},
    ),
    "nothing in the first line": (
        "a,b\nNA,NA\n1,2\n", "line 2: the column a has 'NA', not a number (1 in all); fill them or leave them out",
        None, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NUMBERS)
def test_the_numbers_of_a_file(tmp_path, case):
    content, *asked, expected = NUMBERS[case]
    (tmp_path / "a.csv").write_text(content)
    answer = {}
    if asked:
        words, answer = asked
        with pytest.raises(UserError) as error:
            read_series(str(tmp_path / "a.csv"))
        assert words in str(error.value)
    if expected is not None:
        found = read_series(str(tmp_path / "a.csv"), **answer)
        assert {name: found.series[0].values[:, at].tolist() for at, name in enumerate(found.columns)} == expected


def test_what_is_left_out_of_a_file_is_said(tmp_path):
    (tmp_path / "a.csv").write_text(",a,b\n,MW,m/s\n0,1,2\n1,3,4\n")
    notes = read_series(str(tmp_path / "a.csv")).notes
    assert [note.partition("a.csv: ")[2] for note in notes] == [
        "the column 1, an index without a name of its own, left out", "line 2 left out, as it has no numbers (MW, m/s)",
    ]  # fmt: skip


def test_several_series_that_are_read_as_one_are_told_apart(tmp_path):
    rows = [f"2020-01-0{day},{shop},{day}" for day in range(1, 6) for shop in "AB"]
    (tmp_path / "a.csv").write_text("\n".join(["day,shop,sold", *rows]))
    with pytest.raises(UserError, match=r"line 3: .* several series in the file, data\.series=shop tells them apart"):
        read_series(str(tmp_path / "a.csv"), ["sold"], None, "day")


def scored(stream, values):
    """The rows of `values` that count as targets."""
    found = []
    for window in stream:
        mask = torch.ones(window.inputs.shape[:2], dtype=torch.bool) if window.mask is None else window.mask
        for target in window.targets[..., 0][mask]:
            found.append(int((values - target).abs().sum(-1).argmin()))
    return sorted(found)


class TestData:
    @pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
    @pytest.mark.parametrize("warm_up", [0, 15])
    @pytest.mark.parametrize("horizon", [1, 6])
    def test_every_step_of_validation_is_forecast_once_and_none_of_training(
        self, tmp_path, batch_size, warm_up, horizon
    ):
        weather().write_csv(tmp_path / "north.csv")
        data = SeriesFiles(
            train=str(tmp_path / "north.csv"), columns=["temperature", "wind"], bptt=20, batch_size=batch_size,
            warm_up=warm_up, horizon=horizon,
        )  # fmt: skip
        values = data._standardised(data.in_training.series[0])
        cut = STEPS - math.ceil(STEPS * 0.2)
        assert scored(data.valid, values) == list(range(cut, STEPS))
        assert scored(data.train, values) == list(range(horizon + warm_up, cut))
        torch.testing.assert_close(values[:cut].mean(0), torch.zeros(2), atol=1e-3, rtol=0)
        torch.testing.assert_close(values[:cut].std(0), torch.ones(2), atol=2e-3, rtol=0)

    def test_the_target_is_so_many_steps_ahead_and_the_naive_forecast_is_the_value_now(self, file):
        data = SeriesFiles(**settings(file, targets=["wind"], horizon=5))
        for window in data.valid:
            mask = ... if window.mask is None else window.mask
            assert torch.equal(window.targets[..., 0, 1][mask], window.inputs[..., 1][mask])
            if window.inputs.size(1) > 5 and window.mask is None:
                assert torch.equal(window.targets[:, :-5, 0, 0], window.inputs[:, 5:, 1])

    @pytest.mark.parametrize("value", [0.1, 0.0, -7.3e9])
    def test_a_column_of_one_value_is_named_and_scaled_by_1(self, tmp_path, value):
        at = numpy.arange(100)
        frame = polars.DataFrame({"rain": numpy.where(at < 80, value, value + 2), "sun": at % 5})
        frame.write_csv(tmp_path / "dry.csv")
        data = SeriesFiles(train=str(tmp_path / "dry.csv"), bptt=10)
        assert "rain has one value throughout training, and is scaled by 1" in data.summary()
        assert data.statistics[1][0] == 1
        assert torch.cat([window.inputs[0] for window in data.valid])[-1, 0] == 2

    def test_series_that_are_too_short_are_named(self, tmp_path):
        short = weather(4, "east")
        polars.concat([weather(100), short]).write_csv(tmp_path / "a.csv")
        data = SeriesFiles(**settings(tmp_path / "a.csv", columns=["wind"], horizon=6))
        assert "too short for the training split: east" in data.summary()

    @pytest.mark.parametrize(("level", "spread", "digits"), [(1234567890, 200.0, 1), (0, 2e-7, 10), (5e7, 1e6, 0)])
    def test_numbers_are_shown_with_as_many_digits_as_tell_them_apart(self, tmp_path, level, spread, digits):
        values = level + spread * numpy.random.default_rng(0).normal(size=200)
        polars.DataFrame({"a": values}).write_csv(tmp_path / "a.csv")
        shown = SeriesFiles(train=str(tmp_path / "a.csv"), bptt=10).show(tmp_path).splitlines()[1].split()[0]
        assert abs(values - float(shown)).min() < spread / 1000
        assert len(shown.partition(".")[2]) == digits

    @pytest.mark.parametrize("name", [2020, None, "x=y", "Größe", "out temp", "a.b"])
    def test_columns_of_any_name(self, tmp_path, name):
        called = "null" if name is None else str(name)
        weather(100).rename({"wind": called}).write_csv(tmp_path / "a.csv")
        assert SeriesFiles(train=str(tmp_path / "a.csv"), columns=[name], bptt=10).columns == [called]

    def test_a_column_of_one_value_is_left_at_zero(self, tmp_path):
        weather(100).with_columns(wind=polars.lit(3.0)).write_csv(tmp_path / "calm.csv")
        data = SeriesFiles(train=str(tmp_path / "calm.csv"), columns=["wind", "sun"], bptt=10)
        assert not next(iter(data.train)).inputs[..., 0].any()

    def test_what_is_too_short_is_refused(self, file):
        data = SeriesFiles(**settings(file, warm_up=1000))
        with pytest.raises(UserError, match=r"training split: no series is longer than data.warm_up=1000 .* has 480"):
            data.train  # noqa: B018


def test_figures_are_those_of_the_naive_forecast_too():
    targets, outputs = torch.randn(50, 3, 2), torch.randn(50, 3)
    model = torch.nn.Identity().eval()
    loss, _, sums = ForecastError().score(model, outputs, targets)
    truth, last = targets.unbind(-1)
    assert sums["naive_loss"].item() / 50 == pytest.approx((truth - last).square().mean().item())
    assert sums["naive_mae"].item() / 50 == pytest.approx((truth - last).abs().mean().item())
    assert ForecastError().derived({"loss": 0.5, "naive_loss": 2.0}) == {"skill": 0.75}
    assert loss.item() == pytest.approx((truth - outputs).square().mean().item())


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_a_forecaster_that_has_learnt_nothing_forecasts_that_nothing_changes(cell):
    model = Forecaster(3, 2, last=[2, 0], cell=cell, num_layers=2)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    inputs = torch.randn(4, 7, 3)
    assert torch.equal(model(inputs)[0], inputs[..., [2, 0]])
    whole, _ = model.eval()(inputs)
    first, state = model(inputs[:, :3])
    torch.testing.assert_close(torch.cat([first, model(inputs[:, 3:], state)[0]], 1), whole)


@pytest.fixture
def trained(train, file):
    """A run that reads temperature and wind and forecasts both."""

    def run(*overrides):
        return train(
            "model=forecaster", f"data.train={file}", "data.series=station", "data.time=time",
            "data.columns=[temperature,wind]", "data.bptt=20", "hydra.run.dir=run", *overrides,
        )  # fmt: skip

    return run


def test_a_run_its_evaluation_its_resume_and_its_forecasts(trained, train, program, file, tmp_path):
    finished = trained("trainer.max_epochs=4")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[0].split() == [
        "epoch", "train", "loss", "valid", "loss", "naive_loss", "mae", "naive_mae", "seconds",
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["valid/skill"] == pytest.approx(1 - metrics["valid/loss"] / metrics["valid/naive_loss"], abs=1e-6)
    assert metrics["valid/skill"] > 0.2
    assert (tmp_path / "run" / "forecast.png").stat().st_size > 5000

    evaluated = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt")
    assert evaluated.returncode == 0, evaluated.stderr
    shown = dict(line.split() for line in evaluated.stdout.splitlines())
    assert float(shown["valid/loss"]) == pytest.approx(metrics["valid/loss"], abs=1e-4)
    # Other files are read by the scale of the checkpoint, the training file or not.
    later = polars.read_csv(file)[-300:].with_columns(polars.col("temperature") + 5)
    later.write_csv(tmp_path / "later.csv")
    file.rename(tmp_path / "moved.csv")
    evaluated = train("task=evaluate", "ckpt=run", f"data.valid={tmp_path / 'later.csv'}")
    assert evaluated.returncode == 0, evaluated.stderr
    (tmp_path / "moved.csv").rename(file)
    trained_on = SeriesFiles(**settings(file, columns=["temperature", "wind"]))
    given = SeriesFiles(**settings("none.csv", valid=str(tmp_path / "later.csv")))
    given.as_in(trained_on.description())
    mean, std = trained_on.statistics
    first = next(iter(given.valid)).inputs[0] * torch.tensor(std) + torch.tensor(mean)
    rows = later.filter(station="south") if later["station"][0] == "south" else later.filter(station="north")
    torch.testing.assert_close(first, torch.tensor(rows[: len(first)].select("temperature", "wind").to_numpy()).float())
    refused = train("task=evaluate", "ckpt=run", "data.columns=[wind]")
    assert "it and the data differ in their columns; choose the data it was trained on" in refused.stderr

    resumed = train("resume=run", "trainer.max_epochs=5")
    assert resumed.returncode == 0, resumed.stderr

    forecast = program("series", "run", file, "--steps", 30)
    assert forecast.returncode == 0, forecast.stderr
    rows = list(csv.DictReader(io.StringIO(forecast.stdout)))
    assert [row["station"] for row in rows] == ["north"] * 30 + ["south"] * 30
    assert rows[0]["time"] == "2026-01-26 00:00"  # an hour after the last, as the file writes it
    assert rows[29]["time"] == "2026-01-27 05:00"
    expected = by_hand(TrainedForecaster.load(tmp_path / "run" / "checkpoints" / "best.ckpt"), file, 30)
    for row, values in zip(rows, expected, strict=False):
        assert [float(row["temperature"]), float(row["wind"])] == pytest.approx(values, rel=1e-4)


def by_hand(loaded, file, steps):
    """Each forecast from the whole series, read again from its start, and the forecasts before it."""
    table = polars.read_csv(file).filter(polars.col("station") == "north").select(loaded.columns)
    mean, std = (torch.tensor([values[name] for name in loaded.columns]) for values in (loaded.mean, loaded.std))
    inputs = ((torch.from_numpy(table.to_numpy()) - mean) / std).float()
    for _ in range(steps):
        with torch.no_grad():
            following = loaded.model(inputs[None])[0][0, -1:]
        inputs = torch.cat([inputs, following])
        yield (following[0] * std + mean).tolist()


def test_what_the_model_does_not_forecast_limits_how_far_it_can_go_on(trained, program, file):
    finished = trained("trainer.max_epochs=1", "data.targets=[temperature]", "data.horizon=3", "logger=none")
    assert finished.returncode == 0, finished.stderr
    within = program("series", "run", file, "--steps", 3)
    assert within.returncode == 0, within.stderr
    assert len(within.stdout.splitlines()) == 1 + 2 * 3
    beyond = program("series", "run", file, "--steps", 4)
    assert beyond.returncode != 0
    assert beyond.stderr.startswith("error: the model reads wind but does not forecast them, so it can only forecast 3")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.targets=[heat]", "there is no column heat; choose from: station, time, temperature, wind, sun"),
        ("data.columns=[wind,wind]", "data.columns=['wind', 'wind']: must be a list of columns, each once, or null"),
        ("data.gaps=no", "data.gaps=no: must be one of: refuse, split, keep"),
        ("model.cell=tanh", "model.cell=tanh: must be one of: gru, lstm, rnn"),
        ("data.train=none.csv", "none.csv: there is no such file"),
        ("data.warm_up=10000", "no series is longer than data.warm_up=10000"),
    ],
)
def test_mistakes_are_answered_in_one_line(trained, override, words):
    finished = trained(override)
    assert finished.returncode != 0
    assert words in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
