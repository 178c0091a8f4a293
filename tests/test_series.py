"""Forecasts of numbers: files, what is read and scored, metrics beside the naive forecast, and the commands."""

import csv
import gzip
import io
import json
import math

import hypothesis
import numpy
import polars
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import strategies

from series.checkpoint import TrainedForecaster
from series.covariates import with_known
from series.data import SeriesFiles
from series.dilated import Dilated
from series.distributions import outlook
from series.files import Series, read_series
from series.forecast import forecast
from series.learner import ForecastError, ForecastLearner, sums_of_steps, surely_gained
from series.model import Forecaster
from series.scale import Scale
from series.simple import find_season, fit_linear
from series.windows import Span
from unroll.errors import UserError
from unroll.training.learner import Sums

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
        (tmp_path / "weather.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
        columns, expected, *_ = read_series(str(file), None, "station", "time", "refuse")
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
            for gaps in ("split", "keep", "fill")
        }
        assert lengths == {"split": [100, 147, 340], "keep": [587], "fill": [600]}
        filled = read_series(path, ["wind"], None, "time", "fill").series[0].values[:, 0]
        assert numpy.isnan(filled).nonzero()[0].tolist() == [100, 101, 102, *range(250, 260)]
        assert numpy.array_equal(filled[260:], table["wind"].to_numpy()[260:])
        polars.concat([table[:10], weather(10, first=2_000)]).write_csv(path)
        with pytest.raises(UserError, match=r"data.gaps=fill would make 2,010 steps of 20 rows"):
            read_series(path, ["wind"], None, "time", "fill")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("1000.5", "inf"), r"line 4: the column temperature has 'inf', not a number"),
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
    "points that may be either": (
        "a;b\n850;1\n1.200;2\n", "line 3: the column a has '1.200'; data.decimal=. reads the point as the sign before "
        "decimals, data.decimal=',' as one between thousands", {"decimal": ","}, {"a": [850, 1200], "b": [1, 2]},
    ),
    "points that are before decimals": ("a;b\n850;1\n1.234;2\n", {"a": [850, 1.234], "b": [1, 2]}),
    "a minus behind": ("a,b\n5-,1\n6,2\n", "the column a has '5-', not a number (1 in all); write -5", {}, None),
    "a minus of accounts": ("a,b\n(5.5),1\n6,2\n", "not a number (1 in all); write -5.5", {}, None),
    "a dash for a minus": ("a,b\n\u20135,1\n6,2\n", "not a number (1 in all); write -5", {}, None),
    "more than a number can be": ("a,b\n1e400,1\n6,2\n", "not a number (1 in all); fill them, or leave", {}, None),
    "points that are between thousands": ("a;b\n1,5;1.234\n2,5;2.345\n", {"a": [1.5, 2.5], "b": [1234, 2345]}),
    "points alone, twice": ("a\n1.234.567\n1.234\n", {"a": [1234567, 1234]}),
    "hundreds of thousands of India": ('a,b\n"1,23,456.5",2\n"12,345",1\n', {"a": [123456.5, 12345], "b": [2, 1]}),
    "minus signs": ("a,b\n\u22121.5,\u22122\n2,1\n", {"a": [-1.5, 2], "b": [-2, 1]}),
    "two signs before decimals": (
        "a;b\n1;12.5\n1,5;2.345\n", "line 2: the column b has '12.5', with a point before decimals, and the column a "
        "has '1,5' with a comma (line 3); write all one way, or leave columns of one way out: data.columns=[…]",
        {"columns": ["a"]}, {"a": [1, 1.5]},
    ),
    "two signs, zeros before": (
        "a;b\n1,5;1.234\n1,5;0.234\n", "line 3: the column b has '0.234', with a point before decimals, and the column",
        {"columns": ["b"]}, {"b": [1.234, 0.234]},
    ),
    "one column with decimal commas": (
        "a\n1,5\n2,25\n", "line 2: has 2 values, and the line of names 1 (, separates them; with data.separator=tab "
        "1,5 is a number with a comma before decimals)", {"separator": "tab"}, {"a": [1.5, 2.25]},
    ),
    "per cent": ("a,b\n5%,1\n6 %,2\n", "line 2: the column a has '5%', not a number (2 in all); write numbers alone, "
                 "without '%'", {"columns": ["b"]}, {"b": [1, 2]}),
    "money": ("a,b\n$5.00,1\n6,2\n", "line 2: the column a has '$5.00', not a number (1 in all); write numbers alone, "
              "without '$'", {"columns": ["b"]}, {"b": [1, 2]}),
    "other numerals in the first line": ("a,b\n0x10,0x11\n1,2\n3,4\n", "line 2: the column a has '0x10', not a number",
                                         {}, None),
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
    "nothing in the first line": ("a,b\nNA,NA\n1,2\n", {"a": [math.nan, 1], "b": [math.nan, 2]}),
    "missing": ("a,b\n1,nil\n,2\n-,3\n4, n/a \n", {"a": [1, math.nan, math.nan, 4], "b": [math.nan, 2, 3, math.nan]}),
    "an empty column": (
        "a,b\n1,\n2,\n", "a.csv: the column b has no number; leave it out by data.columns=[…]",
        {"columns": ["a"]}, {"a": [1, 2]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NUMBERS)
def test_the_numbers_of_a_file(tmp_path, case):
    content, *asked, expected = NUMBERS[case]
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    answer = {}
    if asked:
        words, answer = asked
        with pytest.raises(UserError) as error:
            read_series(str(tmp_path / "a.csv"))
        assert words in str(error.value)
    if expected is not None:
        found = read_series(str(tmp_path / "a.csv"), **answer)
        read = {name: found.series[0].values[:, at].tolist() for at, name in enumerate(found.columns)}
        numpy.testing.assert_equal(read, expected)


@pytest.mark.parametrize(
    ("content", "decimal", "words"),
    [
        ("a\n1.5\n", ",", "line 2: the column a has '1.5', not a number (1 in all); data.decimal='.' reads it"),
        ("a;b\n1;1,5\n", ".", "line 2: the column b has '1,5', not a number (1 in all); data.decimal=',' reads it"),
    ],
)
def test_a_sign_that_is_typed_is_the_only_one(tmp_path, content, decimal, words):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError) as error:
        read_series(str(tmp_path / "a.csv"), decimal=decimal)
    assert words in str(error.value)


def test_the_training_file_decides_how_others_are_read(tmp_path):
    for name, content in (("a.csv", "a\n1.234,5\n2,5\n" * 20), ("b.csv", "a\n1.234\n2.345\n" * 20)):
        (tmp_path / name).write_text(content.replace("\na\n", "\n"))
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    data = SeriesFiles(train=files[0], valid=files[1], separator="tab")
    assert data.in_validation.series[0].values[:2, 0].tolist() == [1234, 2345]
    later = SeriesFiles(train=files[1], separator="tab")
    later.as_in(data.description())
    assert later.in_training.series[0].values[:2, 0].tolist() == [1234, 2345]
    assert SeriesFiles(train=files[1], separator="tab").in_training.series[0].values[0, 0] == 1.234


def test_what_is_left_out_of_a_file_is_said(tmp_path):
    (tmp_path / "a.csv").write_text(",a,b\n,MW,m/s\n0,1,2\n1,3,4\n")
    notes = read_series(str(tmp_path / "a.csv")).notes
    assert [note.partition("a.csv: ")[2] for note in notes] == [
        "the column 1, an index without a name of its own, left out", "line 2 left out, as it has no numbers (MW, m/s)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("step,a", ["the column step rises from row to row; if it is the time, data.time=step"]),
        ("Year,month,a", ["a column that has the whole date can be data.time (Year, month are read as numbers)"]),
    ],
)
def test_a_column_that_may_be_the_time_is_said(tmp_path, header, said):
    rows = [f"{at}," * header.count(",") + str(at % 3) for at in range(20)]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]))
    assert [note.partition("a.csv: ")[2] for note in read_series(str(tmp_path / "a.csv")).notes] == said
    assert read_series(str(tmp_path / "a.csv"), time=header.split(",")[0]).notes == []


def test_points_that_are_taken_for_those_between_thousands_are_said(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1,5;1.234\n2,5;2.345\n")
    (note,) = read_series(str(tmp_path / "a.csv")).notes
    assert note.endswith("the column b has '1.234', in which '.' is between thousands, as the column a has '1,5'")


def test_each_row_is_a_series_in_wide_files(tmp_path):
    (tmp_path / "a.csv").write_text('"V1","V2","V3","V4","V5"\n"H1",1,2.5,,\n"H2",3,,4,5\n"H3",,,,\n"H4",6,,,\n')
    found = read_series(str(tmp_path / "a.csv"), wide=True)
    assert found.columns == ["value"]
    assert found.notes[0] == f"{tmp_path / 'a.csv'}: 1 rows without numbers left out"
    read = {series.name: series.values[:, 0].tolist() for series in found.series}
    numpy.testing.assert_equal(read, {"H1": [1, 2.5], "H2": [3, math.nan, 4, 5], "H4": [6]})
    (tmp_path / "b.csv").write_text("region,name,1,2\nnorth,a,1,2\nsouth,b,3,much\nsouth,b,3,4\n")
    with pytest.raises(UserError, match=r"b.csv, line 3: several rows are called b, and each is to be a series"):
        read_series(str(tmp_path / "b.csv"), series="name", static=["region"], wide=True)
    (tmp_path / "b.csv").write_text("region,name,1,2\nnorth,a,1,2\nsouth,b,3,much\n")
    with pytest.raises(UserError, match=r"b.csv, line 3: the column 2 has 'much', not a number \(1 in all\)"):
        read_series(str(tmp_path / "b.csv"), series="name", static=["region"], wide=True)
    with pytest.raises(UserError, match=r"line 2: the column region has 'north', .* data.static=\[region\] takes that"):
        read_series(str(tmp_path / "b.csv"), series="name", wide=True)
    with pytest.raises(UserError, match=r"data.wide=true: is for files without a column of the time"):
        read_series(str(tmp_path / "b.csv"), time="1", wide=True)


def test_several_series_that_are_read_as_one_are_told_apart(tmp_path):
    rows = [f"2020-01-0{day},{shop},{day}" for day in range(1, 6) for shop in "AB"]
    (tmp_path / "a.csv").write_text("\n".join(["day,shop,sold", *rows]))
    with pytest.raises(UserError, match=r"line 3: .* several series in the file, data\.series=shop tells them apart"):
        read_series(str(tmp_path / "a.csv"), ["sold"], None, "day")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,1.5,2.5\nb,2,3\n", "the first line has 1.5, 2.5"),
        ("a,7,7,9\nb,2,3,4\n", "the first line has 7, 7_2, 9"),
        ("a,7,3,9\nb,2,3,4\n", "the first line has 7, 3, 9"),
        ("who,2020,2021,2022\na,2,3,4\n", None),
        ("who,202011,202012,202101\na,2,3,4\n", None),
    ],
    ids=["decimals", "twice", "in turn", "years", "months"],
)
def test_a_first_line_of_numbers_in_wide_files_is_asked_about(tmp_path, content, words):
    (tmp_path / "a.csv").write_text(content)
    if words is None:
        assert [series.name for series in read_series(str(tmp_path / "a.csv"), wide=True).series] == ["a"]
        return
    with pytest.raises(UserError, match=f"{words}; data.header=true takes them for the names of columns, data.header="):
        read_series(str(tmp_path / "a.csv"), wide=True)
    names = [series.name for series in read_series(str(tmp_path / "a.csv"), wide=True, header=False).series]
    assert names == ["a", "b"]


def test_numbers_of_json_have_points_whatever_is_typed(tmp_path):
    """They are never written otherwise, and whole ones may stand beside decimals."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": "0,5"}\n{"a": 1.234, "b": "2"}\n{"a": null, "b": "3,5"}\n')
    for decimal in (None, ","):
        found = read_series(str(path), decimal=decimal)
        numpy.testing.assert_equal(found.series[0].values.T, [[1, 1.234, math.nan], [0.5, 2, 3.5]])


def test_blanks_around_the_name_of_a_series_are_no_part_of_it(tmp_path):
    (tmp_path / "a.csv").write_text("shop,sold\na,1\na,2\nb,3\na ,4\n")
    found = read_series(str(tmp_path / "a.csv"), series="shop").series
    assert {one.name: one.values[:, 0].tolist() for one in found} == {"a": [1, 2, 4], "b": [3]}
    (tmp_path / "b.csv").write_text("shop,x,y\na,1,2\na ,3,4\n")
    with pytest.raises(UserError, match="several rows are called a"):
        read_series(str(tmp_path / "b.csv"), wide=True)


def test_a_series_without_a_name_is_refused_in_a_binary_file_too(tmp_path):
    polars.DataFrame({"shop": [1.0, math.nan], "sold": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="row 2: the column shop, which tells series apart, is empty"):
        read_series(str(tmp_path / "a.parquet"), series="shop")


def test_a_series_has_one_name(tmp_path):
    (tmp_path / "a.csv").write_text("shop,sold\n1,2\n1,3\n1.0,4\n1.0,5\n")
    with pytest.raises(UserError, match=r"line 4: the column shop has 1.0, and 1 in line 2; write it one way"):
        read_series(str(tmp_path / "a.csv"), series="shop")


def targets_of(stream):
    """The first number of each target that counts, by the place of its origin: how often each origin comes."""
    found = {}
    for window in stream:
        mask = window.full_mask
        for inputs, target in zip(window.inputs[mask], window.targets[mask], strict=True):
            found.setdefault(round(inputs[0].item()), []).append(target[..., 0])
    return found


def counting(tmp_path, steps=STEPS, **settings):
    """Data of a series that counts, left as it is: the value tells the step."""
    path = tmp_path / "count.csv"
    path.write_text("\n".join(["n", *map(str, range(steps))]))
    data = SeriesFiles(train=str(path), **settings)
    data.scales = {"": Scale.unscaled(1)}
    return data


class TestWindows:
    @pytest.mark.parametrize(("batch_size", "bptt"), [(1, 7), (3, 20), (64, 50)])
    @pytest.mark.parametrize("horizon", [1, 6])
    def test_every_origin_once_with_all_steps_up_to_the_horizon(self, tmp_path, batch_size, bptt, horizon):
        data = counting(tmp_path, batch_size=batch_size, bptt=bptt, horizon=horizon, warm_up=0)
        cut = STEPS - math.ceil(STEPS * 0.2)
        for stream, origins in ((data.train, range(cut - horizon)), (data.valid, range(cut - 1, STEPS - horizon))):
            found = targets_of(stream)
            assert sorted(found) == list(origins)
            for origin, targets in found.items():
                (target,) = targets
                assert target[0].tolist() == list(range(origin + 1, origin + 1 + horizon))

    def test_training_forecasts_from_full_contexts_and_a_validation_from_its_first_step(self, tmp_path):
        data = counting(tmp_path, horizon=6, context=10)
        cut = STEPS - math.ceil(STEPS * 0.2)
        assert (min(targets_of(data.train)), min(targets_of(data.valid))) == (10, cut - 1)
        assert min(targets_of(counting(tmp_path, horizon=6, context=400).train)) == (cut - 6) // 2

    def test_losses_are_in_the_usual_error_of_each_series(self, file):
        data = SeriesFiles(**settings(file, columns=["temperature"], season=24))
        units = {span.name: span.unit[0] for span in data.train_spans}
        for series in data.in_training.series:
            values = series.values[: data._cut(series), 0] / data.scales[series.name].std[0]
            assert units[series.name] == pytest.approx(numpy.abs(values[24:] - values[:-24]).mean())
        found = torch.cat([window.targets[window.full_mask][..., 1].flatten() for window in data.train])
        assert found.unique().tolist() == pytest.approx(sorted(units.values()))

    def test_naive_forecasts_stand_beside_the_targets_of_a_validation(self, tmp_path):
        data = counting(tmp_path, horizon=5, season=3)
        for window in data.valid:
            mask = window.full_mask
            now = window.inputs[mask][..., None]
            assert torch.equal(window.targets[mask][..., 2], now.expand(-1, 1, 5))
            seasonal = now + torch.tensor([-2, -1, 0, -2, -1])
            assert torch.equal(window.targets[mask][..., 3], seasonal)

    def test_each_series_has_its_own_scale(self, file):
        data = SeriesFiles(**settings(file, columns=["temperature"]))
        for series in data.in_training.series:
            assert data.scales[series.name] == Scale.of(series.values[: data._cut(series)])

    def test_what_is_too_short_is_refused(self, file):
        data = SeriesFiles(**settings(file, warm_up=1000))
        with pytest.raises(UserError, match=r"training split: no series is longer than data.warm_up=1000"):
            data.train  # noqa: B018


class TestData:
    @pytest.mark.parametrize("value", [0.1, 0.0, -7.3e9])
    def test_a_column_of_one_value_is_named_and_scaled_by_1(self, tmp_path, value):
        at = numpy.arange(100)
        frame = polars.DataFrame({"rain": numpy.where(at < 80, value, value + 2), "sun": at % 5})
        frame.write_csv(tmp_path / "dry.csv")
        data = SeriesFiles(train=str(tmp_path / "dry.csv"), bptt=10)
        assert "rain has one value throughout training, and is scaled by 1" in data.summary()
        assert data.scales[""].std[0] == 1
        assert data.valid_spans[0].values[-1, 0] == 2

    def test_series_that_are_too_short_are_named(self, tmp_path):
        polars.concat([weather(100), weather(4, "east")]).write_csv(tmp_path / "a.csv")
        data = SeriesFiles(**settings(tmp_path / "a.csv", columns=["wind"], horizon=6))
        assert "too short for the training split: east" in data.summary()

    @pytest.mark.parametrize(("level", "spread", "digits"), [(1234567890, 200.0, 1), (0, 2e-7, 10), (5e7, 1e6, 0)])
    def test_numbers_are_shown_with_as_many_digits_as_tell_them_apart(self, tmp_path, level, spread, digits):
        values = level + spread * numpy.random.default_rng(0).normal(size=200)
        polars.DataFrame({"a": values}).write_csv(tmp_path / "a.csv")
        shown = SeriesFiles(train=str(tmp_path / "a.csv"), bptt=10).show(tmp_path).splitlines()[1].split()[1]
        assert abs(values - float(shown)).min() < spread / 1000
        assert len(shown.partition(".")[2]) == digits

    @pytest.mark.parametrize("name", [2020, None, "x=y", "Größe", "out temp", "a.b"])
    def test_columns_of_any_name(self, tmp_path, name):
        called = "null" if name is None else str(name)
        weather(100).rename({"wind": called}).write_csv(tmp_path / "a.csv")
        assert SeriesFiles(train=str(tmp_path / "a.csv"), columns=[name], bptt=10).columns == [called]


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("dilation", [1, 3])
def test_a_dilated_layer_is_each_phase_read_by_itself_in_windows_of_any_length(cell, dilation):
    torch.manual_seed(0)
    layer, inputs = Dilated(cell, 2, 4, 2, dilation=dilation).double(), torch.randn(3, 20, 2).double()
    whole, _ = layer(inputs)
    for phase in range(dilation):
        torch.testing.assert_close(layer.rnn(inputs[:, phase::dilation])[0], whole[:, phase::dilation])
    state, parts = None, []
    for part in inputs.split([1, 2, 7, 10], 1):
        outputs, state = layer(part, state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


OBJECTIVES = ("huber", "mse", "mae", "quantiles", "normal", "student_t", "negative_binomial")


def forecaster(**settings):
    """Two targets and a number beside them; nothing is zero."""
    torch.manual_seed(0)
    model = Forecaster(3, 4, [2, 0], **{"context": 6, "segment": 2, "hidden_size": 8, **settings})
    torch.nn.init.normal_(model.head.weight)
    model.linear.normal_(std=0.1)
    return model.eval()


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("cell", "decoder"), [("gru", "direct"), ("lstm", "direct"), ("rnn", "parallel")])
def test_window_by_window_is_the_same_as_whole_and_rows_start_anew(cell, decoder, missing):
    model = forecaster(cell=cell, decoder=decoder, missing=missing).double()
    inputs = torch.randn(2, 30, 3).double()
    inputs[:, [0, 3, 4, 5, 6, 17]] = math.nan  # at the start, through a whole window and at a seam
    inputs[1, 23:27, 1] = math.nan
    whole, _ = model(inputs)
    state, parts = None, []
    for part in inputs.split([1, 3, 20, 6], 1):
        outputs, state = model(part, state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert whole.isfinite().all()
    anew = torch.utils._pytree.tree_map(lambda part: part.index_fill(1, torch.tensor([1]), 0), state)
    outputs, _ = model(inputs, anew)
    torch.testing.assert_close(outputs[1], whole[1])
    assert not torch.allclose(outputs[0], whole[0])


def test_the_parallel_decoder_makes_a_step_of_a_cell_for_each_segment_up_to_the_horizon():
    model = Forecaster(1, 5, [0], context=6, segment=2, hidden_size=8, decoder="parallel", objective="normal").eval()
    torch.nn.init.normal_(model.head.weight)
    hidden = []
    model.dropout.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0]))
    state = torch.randn(1, 8)
    segments = [model.decode.cell(place[None], state) for place in model.decode.places]
    torch.testing.assert_close(model.decode(state), torch.stack(segments, 1))
    found = model(torch.randn(2, 7, 1))[0][..., 2:]  # [rows, time, targets, horizon, size]
    expected = torch.cat([model.head(hidden[0][..., place, :]).unflatten(-1, (2, 2)) for place in range(3)], -2)
    torch.testing.assert_close(found, expected[..., :5, :])


def test_what_is_known_of_a_step_ahead_is_read_for_its_forecast_alone():
    model = forecaster(known=[1])
    torch.nn.init.normal_(model.known_head.weight)
    values = torch.randn(12, 3)
    found = model(with_known(values, [1], 4)[None])[0][0, 5]  # [targets, horizon, …]
    for step in range(6, 12):
        changed = values.clone()
        changed[step, 1] += 1
        differs = (model(with_known(changed, [1], 4)[None])[0][0, 5] != found).any(-1)
        assert differs.tolist() == [[step == 6 + ahead for ahead in range(4)]] * 2
    state, parts = None, []
    for part in with_known(values, [1], 4).split([5, 1, 6]):
        outputs, state = model(part[None], state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1), model(with_known(values, [1], 4)[None])[0])


@pytest.mark.parametrize(("batch_size", "bptt"), [(1, 7), (3, 20)])
def test_windows_have_what_is_known_ahead(tmp_path, batch_size, bptt):
    path = tmp_path / "a.csv"
    rows = [f"{step % 7},{100 + step}" for step in range(200)] + [f",{300 + step}" for step in range(5)]
    path.write_text("\n".join(["sold,price", *rows]))
    data = SeriesFiles(train=str(path), known=["price"], horizon=4, batch_size=batch_size, bptt=bptt)
    data.scales = {"": Scale.unscaled(2)}
    assert (data.targets, data.known_at, data.model_arguments()["features"]) == (["sold"], [1], 2)
    assert len(data.in_training.series[0].values) == 200
    assert data.in_training.series[0].after[:, 1].tolist() == [*range(300, 305)]
    for stream in (data.train, data.valid):
        for window in stream:
            inputs = window.inputs[window.full_mask]
            assert torch.equal(inputs[:, 2:], inputs[:, 1:2] + torch.arange(1, 5))


def test_the_calendar_goes_on_after_the_end_and_each_series_is_told(tmp_path):
    path = tmp_path / "a.csv"
    polars.concat([weather(60), weather(50, "south", 7)]).write_csv(path)
    columns = {"columns": ["wind"], "series": "station", "time": "time", "calendar": True, "static": ["sun", "station"]}
    with pytest.raises(UserError, match=r"data.static: the rows of the series north have 2 values in the column sun"):
        SeriesFiles(train=str(path), **columns).in_training  # noqa: B018
    data = SeriesFiles(train=str(path), horizon=6, **columns | {"static": ["station"]})
    north, south = data.in_training.series
    assert data.covariates.calendar == ["day", "week", "year"]
    found = data.covariates.of(north)
    hours = 2 * numpy.pi * numpy.arange(60) / 24
    numpy.testing.assert_allclose(found[:, :2], numpy.stack([numpy.sin(hours), numpy.cos(hours)], 1), atol=1e-12)
    assert found[:, 6:].tolist() == [[1.0, 0.0]] * 60
    assert data.covariates.of(south)[0, 6:].tolist() == [0.0, 1.0]
    after = data.covariates.after(north, data.columns, 6, data.scales["north"])
    hours = 2 * numpy.pi * numpy.arange(60, 66) / 24
    numpy.testing.assert_allclose(after[:, 0], numpy.sin(hours), atol=1e-6)
    unseen = data.covariates.of(north._replace(static=("west",)))
    assert unseen[:, 6:].tolist() == [[0.0, 0.0]] * 60


def test_a_forecaster_that_has_learnt_nothing_forecasts_that_nothing_changes():
    model, inputs = Forecaster(3, 4, [2, 0], context=6), torch.randn(2, 9, 3)
    assert torch.equal(model.outlook.point(model(inputs)[0]), inputs[..., [2, 0], None].expand(-1, -1, -1, 4))


def loaded(model, horizon=4, columns=("a", "b", "c"), targets=("c", "a", "b")):
    return TrainedForecaster(model, list(columns), list(targets), horizon, False, {})


@pytest.mark.parametrize("objective", OBJECTIVES[:-1])
@hypothesis.settings(max_examples=8)
@hypothesis.given(
    factor=strategies.floats(1e-6, 1e6),
    shift=strategies.floats(-1e3, 1e3),
    steps=strategies.sampled_from([3, 11]),
    missing=strategies.lists(strategies.integers(1, 39), max_size=20),
)
def test_forecasts_of_a_series_multiplied_or_shifted_are_multiplied_or_shifted(
    objective, factor, shift, steps, missing
):
    torch.manual_seed(1)
    model = Forecaster(3, 4, [2, 0, 1], context=6, segment=2, hidden_size=8, objective=objective).eval()
    torch.nn.init.normal_(model.head.weight, std=0.3)
    values = numpy.random.default_rng(0).normal(size=(40, 3)).cumsum(0)
    values[missing, :2] = numpy.nan
    levels = [] if objective in ("huber", "mse", "mae") else [0.1, 0.9]
    found = []
    for changed in (values, (values + shift) * factor):
        torch.manual_seed(2)
        found.append(forecast(loaded(model), Series("", changed), steps, levels).numpy())
    spread = numpy.nanstd(values) * factor
    numpy.testing.assert_allclose(found[1] / spread, (found[0] + shift) * factor / spread, atol=2e-3)


def test_a_forecast_knows_the_file_to_its_end_and_goes_on_from_what_it_said():
    model = Forecaster(1, 4, [0], context=6, segment=2, hidden_size=8).eval()
    torch.nn.init.normal_(model.head.weight)
    one = loaded(model, columns=["a"], targets=["a"])
    values = numpy.random.default_rng(0).normal(size=(40, 1))
    first = forecast(one, Series("", values), 10)[:, 0, 0]
    scale = Scale.of(values)
    inputs, expected = torch.from_numpy(scale.standardised(values)).float(), []
    for _ in range(3):
        ahead = model.outlook.point(model(inputs[None])[0])[0, -1].T
        inputs = torch.cat([inputs, ahead])
        expected.append(ahead)
    torch.testing.assert_close(first, scale.in_units(torch.cat(expected)[:10])[:, 0], rtol=1e-4, atol=1e-4)
    for place in range(1, 6):
        changed = values.copy()
        changed[-place] += 1
        assert (forecast(one, Series("", changed), 4)[:, 0, 0] - first[:4]).abs().max() > 1e-3


class TestOutlooks:
    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_the_loss_is_least_where_the_truth_is_and_quantiles_rise(self, objective):
        """Fitted to draws from one distribution, each finds its mean or median, and its deciles."""
        torch.manual_seed(0)
        kind = outlook(objective)
        counts = objective == "negative_binomial"
        truth = torch.poisson(torch.full((4000,), 20.0)) if counts else 3 + 2 * torch.randn(4000)
        raw = torch.zeros(kind.size, requires_grad=True)
        optimizer = torch.optim.Adam([raw], 0.1)

        def outputs():
            return torch.cat([truth.new_tensor([truth[0], 2.0]), raw]).expand(len(truth), -1)

        for _ in range(300):
            optimizer.zero_grad()
            kind.loss(outputs(), truth).mean().backward()
            optimizer.step()
        assert kind.point(outputs())[0].item() == pytest.approx(20 if counts else 3, abs=0.3)
        if kind.spread:
            share = [
                (truth <= kind.quantile(outputs(), torch.tensor(q))).float().mean().item() for q in (0.1, 0.5, 0.9)
            ]
            assert share == pytest.approx([0.1, 0.5, 0.9], abs=0.07 if counts else 0.03)

    @pytest.mark.parametrize(
        ("objective", "of_half", "of_three"), [("huber", 0.125, 2.5), ("mse", 0.25, 9), ("mae", 0.5, 3)]
    )
    def test_the_loss_of_a_point_is_that_of_its_error_in_units(self, objective, of_half, of_three):
        outputs = torch.tensor([[10.0, 4.0, 0.5]])  # 10 + 4 · 0.5
        losses = outlook(objective).loss(outputs, torch.tensor([13.0, 12.0 - 18.0]), torch.tensor([2.0, 6.0]))
        assert losses.tolist() == [of_half, of_three]

    def test_the_loss_of_distributions_is_the_negative_log_likelihood(self):
        outputs, truth = torch.randn(50, 5).abs(), torch.arange(50.0) % 7
        normal, binomial = outlook("normal"), outlook("negative_binomial")
        mean, spread = normal.parts(outputs[:, :4])
        expected = -torch.distributions.Normal(mean, spread).log_prob(truth)
        torch.testing.assert_close(normal.loss(outputs[:, :4], truth), expected)
        mean, alpha = binomial.parts(outputs[:, :4])
        expected = -torch.distributions.NegativeBinomial(1 / alpha, alpha * mean / (1 + alpha * mean)).log_prob(truth)
        torch.testing.assert_close(binomial.loss(outputs[:, :4], truth), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", ["normal", "student_t"])
def test_no_forecast_from_a_window_of_one_value_is_certain(objective):
    model, inputs = forecaster(objective=objective), torch.randn(2, 30, 3)
    inputs[1, :20] = 0.3  # and each row begins with a window of its first value
    losses = model.outlook.loss(model(inputs)[0], torch.randn(2, 30, 2, 4))
    assert losses[0, 0].max() < 50
    assert losses[1, :20].max() < 50


def test_counts_are_read_as_they_are_and_nothing_else_is_read_as_counts(tmp_path):
    counts = numpy.random.default_rng(0).poisson(4, 200)
    for name, values in (("counts", counts), ("numbers", counts - 0.5)):
        polars.DataFrame({"a": values}).write_csv(tmp_path / f"{name}.csv")
    data = SeriesFiles(train=str(tmp_path / "counts.csv"), objective="negative_binomial", bptt=20)
    assert torch.equal(data.train_spans[0].values[:, 0], torch.from_numpy(counts[:160]).float())
    model = Forecaster(**data.model_arguments(), objective="negative_binomial")
    learner = ForecastLearner(model)
    learner.start("train")
    assert all(learner.step("train", window).loss.isfinite() for window in data.train)
    with pytest.raises(UserError, match=r"objective=negative_binomial: is for counts \(0, 1, 2, …\); there is"):
        SeriesFiles(train=str(tmp_path / "numbers.csv"), objective="negative_binomial").train  # noqa: B018


class TestSimple:
    def test_the_linear_model_finds_a_recurrence(self):
        values = torch.zeros(300, 1)
        values[:2] = torch.tensor([[1.0], [0.3]])
        for step in range(2, 300):
            values[step] = 1.8 * values[step - 1] - values[step - 2]
        weights = fit_linear([Span("", values, 0, 298, Scale.unscaled(1), [1.0])], [0], 2, 4)
        model = Forecaster(1, 2, [0], context=4)
        model.linear.copy_(weights)
        ahead = model.outlook.point(model(values[None])[0])[0, 100, 0]
        torch.testing.assert_close(ahead, values[101:103, 0], atol=0.02, rtol=0)

    @pytest.mark.parametrize("season", [7, 24])
    def test_a_season_is_found_in_noise_and_with_a_trend(self, season):
        at = numpy.arange(400)
        noise = numpy.random.default_rng(0).normal(size=400)
        wave = 3 * numpy.sin(2 * numpy.pi * at / season) + numpy.cos(4 * numpy.pi * at / season)
        assert find_season([(wave + 0.3 * noise + 0.1 * at)[:, None]]) == season
        assert find_season([noise.cumsum()[:, None]]) == 1


@pytest.mark.parametrize(
    ("every", "years", "season"),
    [("15m", 1, 96), ("1h", 1, 24), ("1d", 1, 7), ("1mo", 9, 12), ("1q", 30, 4), ("1y", 99, 1)],
)
def test_the_season_is_that_of_the_time_stamps(tmp_path, every, years, season):
    start = polars.datetime(2020, 1, 1)
    times = polars.select(time=polars.datetime_range(start, polars.datetime(2020 + years, 1, 1), every))
    noise = numpy.random.default_rng(0).normal(size=len(times))
    times.with_columns(a=polars.Series(noise)).write_csv(tmp_path / "a.csv")
    data = SeriesFiles(train=str(tmp_path / "a.csv"), time="time")
    assert data.season == season
    assert ("no season" in data.summary()) == (season == 1)


@pytest.mark.parametrize("missing", [0, 0.2])
def test_no_metric_of_a_validation_depends_on_how_it_is_read(tmp_path, file, missing):
    found = []
    if missing:
        lost = polars.Series(numpy.random.default_rng(0).random(STEPS + 400) < missing)
        lines = polars.read_csv(file).with_columns(temperature=polars.when(~lost).then("temperature"))
        lines.write_csv(file)
    for batch_size, bptt in ((1, 7), (2, 50), (16, 333)):
        data = SeriesFiles(**settings(file, horizon=3, season=8, context=20) | {"batch_size": batch_size, "bptt": bptt})
        torch.manual_seed(0)
        model = Forecaster(**data.model_arguments(), objective="normal", hidden_size=8)
        torch.nn.init.normal_(model.head.weight, std=0.1)
        learner = ForecastLearner(model)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        pl.Trainer(**quiet).validate(learner, datamodule=data, verbose=False)
        found.append(learner.total("valid"))
    assert set(found[0]) == {
        "loss", "mse", "mae", "rmse", "skill", "gain", "naive_mse", "seasonal_mse", "linear_mse", "pinball", "coverage",
    }  # fmt: skip
    assert all(map(math.isfinite, found[0].values()))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_the_gain_is_what_the_layers_take_from_the_loss_for_sure():
    """Steps less than a horizon apart are no independent evidence."""
    steps, horizon = 40, 4
    draw = numpy.random.default_rng(0)
    shift, truth = draw.normal(size=(steps, 1, horizon)), draw.normal(size=(steps, 1, horizon))
    truth[3, 0, 1:] = truth[7] = math.nan
    outputs = numpy.stack([0 * shift, 0 * shift + 2, shift], -1)  # around 0, in units of 2
    others = [numpy.full_like(shift, value) for value in (1, 0, 0, 0, 0, 1 / horizon)]
    targets = torch.from_numpy(numpy.stack([truth, *others], -1))
    objective = ForecastError(outlook("mae"))
    sums = Sums()
    for some in (slice(0, 15), slice(15, steps)):  # in two windows
        scored = objective.score(torch.nn.Identity().eval(), torch.from_numpy(outputs)[some], targets[some])
        sums.add(scored.loss, scored.sums)
    gained = numpy.delete(numpy.abs(truth) - numpy.abs(truth - 2 * shift), 7, 0)
    gained = numpy.nanmean(gained, (1, 2))
    sure = gained.mean() - gained.std() / math.sqrt(len(gained) / horizon - 1)
    assert objective.derived({**sums.means(), "targets": sums.targets})["gain"] == pytest.approx(sure)


@pytest.mark.parametrize("origins", [1, 5, 30, 120])
@pytest.mark.parametrize("horizon", [1, 24])
def test_what_one_forecast_gains_is_not_sure(origins, horizon):
    """Of layers that add noise, as many gain as a normal variable is above its standard deviation: a sixth."""
    draw, targets = numpy.random.default_rng(0), origins * horizon
    independent = torch.full((origins,), 1 / min(horizon, origins))
    chosen = 0
    for _ in range(1000):
        gained = numpy.convolve(draw.normal(size=origins + horizon - 1), numpy.ones(horizon) / horizon, "valid")
        sums = sums_of_steps(torch.from_numpy(gained), independent, torch.arange(origins), origins)
        chosen += (
            surely_gained({name: value.item() / targets for name, value in sums.items()} | {"targets": targets}) > 0
        )
    assert chosen < 220


@pytest.mark.parametrize("learnable", [False, True])
def test_the_linear_model_is_kept_where_the_layers_add_nothing(train, tmp_path, learnable):
    """A random walk, and the logistic map, in which each number follows from the one before it, by a parabola."""
    values = [0.3]
    for noise in numpy.random.default_rng(0).normal(size=1500):
        values.append(4 * values[-1] * (1 - values[-1]) if learnable else values[-1] + noise)
    polars.DataFrame({"value": values}).write_csv(tmp_path / "values.csv")
    finished = train(
        "model=forecaster", "data.train=values.csv", "data.context=8", "model.hidden_size=32", "trainer.max_epochs=4",
        "optimizer.lr=0.02", "hydra.run.dir=run",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    kept = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert (kept["global_step"] > 0) is learnable
    assert finished.stderr.splitlines()[-1].startswith("better than" if learnable else "no better than")


@pytest.mark.slow
@pytest.mark.parametrize("typed", ["monitor=valid/loss", "trainer.num_sanity_val_steps=2"])
def test_the_last_line_is_of_the_best_checkpoint(train, tmp_path, typed):
    draw = numpy.random.default_rng(0)
    rows = [(f"s{series}", value + step % 7) for series in range(12) for step, value in enumerate(draw.normal(size=40))]
    polars.DataFrame(rows, schema=["name", "value"], orient="row").write_csv(tmp_path / "values.csv")
    finished = train(
        "model=forecaster", "data.train=values.csv", "data.series=name", "data.horizon=6", "data.batch_size=2",
        "trainer.max_epochs=4", "optimizer.lr=0.02", "hydra.run.dir=run", typed,
    )  # fmt: skip
    read = train("task=evaluate", "ckpt=run")
    metrics = dict(line.split() for line in read.stdout.splitlines())
    assert f"mse {metrics['valid/mse']};" in finished.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_sweep_is_ranked_by_the_loss(train, tmp_path):
    """Not by the gain on linear models that differ: one of a short context is easily gained on."""
    seasonal = numpy.sin(numpy.arange(600) / 4) + numpy.random.default_rng(0).normal(scale=0.1, size=600)
    polars.DataFrame({"value": seasonal}).write_csv(tmp_path / "values.csv")
    finished = train(
        "-m", "model=forecaster", "data.train=values.csv", "data.horizon=12", "data.context=2,48", "optimizer.lr=0.02",
        "trainer.max_epochs=3", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    with (tmp_path / "sweep" / "report.csv").open() as report:
        runs = {row["data.context"]: row for row in csv.DictReader(report)}
    gain, loss = ({context: float(run[f"valid/{name}"]) for context, run in runs.items()} for name in ("gain", "loss"))
    assert gain["2"] > gain["48"]
    assert loss["2"] > loss["48"]
    report = (tmp_path / "sweep" / "report.md").read_text()
    assert report.index("| 48 ") < report.index("| 2 ")


@pytest.fixture
def trained(train, file):
    """A run that reads temperature and wind and forecasts both."""

    def run(*overrides):
        return train(
            "model=forecaster", f"data.train={file}", "data.series=station", "data.time=time",
            "data.columns=[temperature,wind]", "data.bptt=20", "hydra.run.dir=run", "callbacks.curves=null", *overrides,
        )  # fmt: skip

    return run


def test_a_run_its_evaluation_its_resume_and_its_forecasts(trained, train, program, file, tmp_path):
    finished = trained("trainer.max_epochs=2", "data.horizon=8", "objective=quantiles")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[0].split() == [
        "epoch", "train", "loss", "valid", "loss", "mse", "mae", "skill", "gain", "seconds",
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    best = min(metrics[f"valid/{name}_mse"] for name in ("naive", "seasonal", "linear"))
    assert metrics["valid/skill"] == pytest.approx(1 - metrics["valid/mse"] / best, abs=1e-5)
    assert metrics["valid/mse"] < 0.9 * metrics["valid/naive_mse"]
    assert (tmp_path / "run" / "forecast.png").stat().st_size > 5000
    assert "a simple forecast" in finished.stderr.splitlines()[-1] or "simple forecasts" in finished.stderr

    evaluated = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", "data.batch_size=1", "data.bptt=33")
    assert evaluated.returncode == 0, evaluated.stderr
    shown = dict(line.split() for line in evaluated.stdout.splitlines())
    assert float(shown["valid/mse"]) == pytest.approx(metrics["valid/mse"], abs=1e-4)
    # Other files are read by the scale of the checkpoint, the training file or not; so is one that has grown.
    later = polars.read_csv(file)[-300:].with_columns(polars.col("temperature") + 5)
    later.write_csv(tmp_path / "later.csv")
    file.rename(tmp_path / "moved.csv")
    evaluated = train("task=evaluate", "ckpt=run", f"data.valid={tmp_path / 'later.csv'}")
    assert evaluated.returncode == 0, evaluated.stderr
    (tmp_path / "moved.csv").rename(file)
    polars.concat([weather(STEPS + 50), weather(450, "south", 7)]).write_csv(tmp_path / "grown.csv")
    evaluated = train("task=evaluate", "ckpt=run", f"data.train={tmp_path / 'grown.csv'}")
    assert evaluated.returncode == 0, evaluated.stderr
    refused = train("task=evaluate", "ckpt=run", "data.columns=[wind]")
    assert "it and the data differ in their columns; choose the data it was trained on" in refused.stderr

    tested = train("task=evaluate", "ckpt=run/checkpoints/last.ckpt", "evaluate=backtest")
    assert tested.returncode == 0, tested.stderr
    shown = dict(line.split() for line in tested.stdout.splitlines())
    assert shown["backtest/mse"] == shown["valid/mse"]
    assert shown["backtest/mae"] == shown["valid/mae"]
    by = list(csv.DictReader((tmp_path / "run" / "backtest.csv").read_text().splitlines()))
    assert [(row["by"], row["which"]) for row in by[1:]] == [
        *(("step", str(step)) for step in range(1, 9)), ("series", "north"), ("series", "south"),
    ]  # fmt: skip
    assert float(by[0]["mse"]) == pytest.approx(numpy.mean([float(row["mse"]) for row in by[1:9]]), rel=1e-4)
    assert (tmp_path / "run" / "backtest.png").stat().st_size > 5000

    resumed = train("resume=run", "trainer.max_epochs=3")
    assert resumed.returncode == 0, resumed.stderr

    made = program("series", "run", file, "--steps", 30, "--quantiles", "0.1,0.9")
    assert made.returncode == 0, made.stderr
    rows = list(csv.DictReader(io.StringIO(made.stdout)))
    assert list(rows[0]) == [
        "station", "time", "temperature", "temperature_q0.1", "temperature_q0.9", "wind", "wind_q0.1", "wind_q0.9",
    ]  # fmt: skip
    assert [row["station"] for row in rows] == ["north"] * 30 + ["south"] * 30
    assert rows[0]["time"] == "2026-01-26 00:00"  # an hour after the last, as the file writes it
    assert rows[29]["time"] == "2026-01-27 05:00"
    assert all(float(row["wind_q0.1"]) <= float(row["wind_q0.9"]) for row in rows)
    refused = program("series", "run", file, "--quantiles", "1.5")
    assert refused.stderr.startswith("error: --quantiles 1.5: must be numbers between 0 and 1")


@pytest.mark.slow
def test_windows_in_which_nothing_is_forecast_have_no_loss(trained):
    finished = trained("trainer.limit_train_batches=1", "trainer.max_epochs=1", "data.context=60")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[1].split()[:2] == ["1", "–"]


@pytest.mark.slow
def test_a_run_that_knows_some_numbers_ahead(train, program, tmp_path):
    draw = numpy.random.default_rng(0)
    price = draw.normal(size=420).round(3)
    sold = polars.Series(50 - 10 * price + draw.normal(size=420))
    start = polars.datetime(2026, 1, 1) + polars.duration(hours=polars.Series(range(420)))
    table = polars.select(time=start.dt.strftime("%Y-%m-%d %H:%M"), sold=sold, price=polars.Series(price))
    table[:400].write_csv(tmp_path / "a.csv")
    table.with_columns(sold=polars.when(polars.int_range(420) < 400).then("sold")).write_csv(tmp_path / "rows.csv")
    table[400:].drop("sold").write_csv(tmp_path / "future.csv")
    typed = ["model=forecaster", "data.train=a.csv", "data.time=time", "data.known=[price]", "data.calendar=true"]
    typed += ["data.horizon=8", "data.bptt=20", "optimizer.lr=3e-2", "trainer.max_epochs=6", "hydra.run.dir=run"]
    finished = train(*typed, "threads=1", "callbacks.curves=null")
    assert finished.returncode == 0, finished.stderr
    assert "knows price ahead" in finished.stderr
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["valid/skill"] > 0.6
    tested = train("task=evaluate", "ckpt=run", "evaluate=backtest")
    shown = dict(line.split() for line in tested.stdout.splitlines())
    assert float(shown["backtest/mse"]) == pytest.approx(float(shown["valid/mse"]), rel=1e-3)
    made = program("series", "run", "rows.csv", "--steps", 8)
    assert made.returncode == 0, made.stderr
    assert program("series", "run", "a.csv", "--steps", 8, "--future", "future.csv").stdout == made.stdout
    rows = list(csv.DictReader(io.StringIO(made.stdout)))
    assert list(rows[0]) == ["time", "sold"]
    assert rows[0]["time"] == "2026-01-17 16:00"
    errors = numpy.array([float(row["sold"]) for row in rows]) - sold.to_numpy()[400:408]
    assert numpy.abs(errors).mean() < 6  # without the price 8
    for arguments, words in (
        ([], "8 steps of price must be known after the end, and 0 are: add rows that have no targets to the file"),
        (
            ["--future", "rows.csv"],
            "rows.csv: begins at 2026-01-01T00:00:00.000000, and the series goes on at 2026-01-17",
        ),
    ):
        refused = program("series", "run", "a.csv", "--steps", 8, *arguments)
        assert refused.returncode == 1
        assert words in refused.stderr


def test_what_the_model_does_not_forecast_limits_how_far_it_can_go_on():
    one = TrainedForecaster(Forecaster(2, 3, [0], context=4).eval(), ["a", "b"], ["a"], 3, False, {})
    series = Series("", numpy.random.default_rng(0).normal(size=(20, 2)))
    assert forecast(one, series, 3).shape == (3, 1, 1)
    with pytest.raises(UserError, match="the model reads b but does not forecast them, so it can only forecast 3"):
        forecast(one, series, 4)
    with pytest.raises(UserError, match="quantiles need a model that says how sure it is"):
        forecast(one, series, 3, [0.5])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.targets=[heat]", "there is no column heat; choose from: station, time, temperature, wind, sun"),
        ("data.columns=[wind,wind]", "data.columns=['wind', 'wind']: must be a list of columns, each once, or null"),
        ("data.known=[heat]", "there is no column heat; choose from:"),
        ("data.known=[temperature,wind]", "data.known: nothing is left to be forecast; data.targets=[…] names what is"),
        ("data.gaps=no", "data.gaps=no: must be one of: refuse, split, keep, fill"),
        ("data.context=1", "data.context=1: must be a whole number, 2 or more, or null"),
        ("model.cell=tanh", "model.cell=tanh: must be one of: gru, lstm, rnn"),
        ("model.decoder=segments", "model.decoder=segments: must be one of: direct, parallel"),
        (
            "objective=best",
            "objective=best: must be one of: huber, mse, mae, quantiles, normal, student_t, negative_binomial",
        ),
        ("monitor=valid/f1", "monitor=valid/f1: must be one of: train/loss, valid/loss, valid/mse"),
        ("data.train=none.csv", "none.csv: there is no such file"),
        ("data.warm_up=10000", "no series is longer than data.warm_up=10000"),
    ],
)
@pytest.mark.few(4)
def test_mistakes_are_answered_in_one_line(trained, override, words):
    finished = trained(override)
    assert finished.returncode != 0
    assert words in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
