"""Time stamps as files write them, and how they go on."""

from datetime import date, datetime, timedelta

import numpy
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as some

from series.files import read_series
from series.steps import steps_of
from unroll.errors import UserError


def every(format, start, count=60, **step):
    """Stamps from a time on, so far from each other, in a format of `strftime`."""
    first = datetime.fromisoformat(start)
    return [(first + at * timedelta(**step)).strftime(format) for at in range(count)]


def monthly(format, start=0, step=1, count=60, day=1):
    """Stamps of every so many months from January 2000 on."""
    months = range(start, start + step * count, step)
    return [datetime(2000 + at // 12, at % 12 + 1, day).strftime(format) for at in months]


def month_ends(count=60):
    return [str((datetime(2000 + at // 12, at % 12 + 1, 1) - timedelta(days=1)).date()) for at in range(1, count + 1)]


def in_months(choose, step=1, count=60):
    """One day of each so many months from January 2000 on: what is chosen of all its days."""
    found = []
    for month in range(0, step * count, step):
        first = date(2000 + month // 12, month % 12 + 1, 1)
        days = [first + timedelta(days=at) for at in range(31)]
        found.append(str(choose([day for day in days if day.month == first.month])))
    return found


def working(days):
    return [day for day in days if day.weekday() < 5]


def holidays(days):
    """The last working day that is none of three holidays."""
    return [day for day in working(days) if day.strftime("%d.%m.") not in ("31.05.", "31.12.", "29.03.")][-1]


def quarters(form, count=24):
    return [form.format(year=2000 + at // 4, quarter=at % 4 + 1) for at in range(count)]


def workdays(days, count=60):
    found, day = [], datetime(2021, 1, 4)
    while len(found) < count:
        if day.strftime("%a") in days:
            found.append(str(day.date()))
        day += timedelta(days=1)
    return found


HOUR, DAY = {"hours": 1}, {"days": 1}

# The stamps in a file, and those that follow them.
GO_ON = {
    "ISO": (every("%Y-%m-%d %H:%M:%S", "2020-01-30", **HOUR), ["2020-02-01 12:00:00", "2020-02-01 13:00:00"]),
    "ISO with a T, minutes": (every("%Y-%m-%dT%H:%M", "2020-01-30", **HOUR), ["2020-02-01T12:00", "2020-02-01T13:00"]),
    "dates": (every("%Y-%m-%d", "2020-01-01", **DAY), ["2020-03-01", "2020-03-02"]),
    "slashes": (every("%Y/%m/%d", "2020-01-01", **DAY), ["2020/03/01", "2020/03/02"]),
    "milliseconds": (
        every("%Y-%m-%d %H:%M:%S.000", "2020-01-30", **HOUR), ["2020-02-01 12:00:00.000", "2020-02-01 13:00:00.000"],
    ),
    "tenths of seconds": (
        [f"2020-01-01 00:00:{at / 10:04.1f}" for at in range(60)], ["2020-01-01 00:00:06.0", "2020-01-01 00:00:06.1"],
    ),
    "German": (every("%d.%m.%Y %H:%M", "2020-01-30", **HOUR), ["01.02.2020 12:00", "01.02.2020 13:00"]),
    "German, two digits": (every("%d.%m.%y", "2020-01-01", **DAY), ["01.03.20", "02.03.20"]),
    "month first": (every("%m/%d/%Y", "2020-01-01", **DAY), ["03/01/2020", "03/02/2020"]),
    "day first": (every("%d/%m/%Y", "2020-01-01", **DAY), ["01/03/2020", "02/03/2020"]),
    "without zeros": (every("%-m/%-d/%Y %-H:%M", "2020-01-30", **HOUR), ["2/1/2020 12:00", "2/1/2020 13:00"]),
    "day without zeros, hour with": (
        every("%-d.%-m.%Y %H:%M", "2020-01-30", **HOUR), ["1.2.2020 12:00", "1.2.2020 13:00"],
    ),
    "with zeros and without": (
        [stamp if at % 2 else stamp.lstrip("0") for at, stamp in enumerate(every("%d.%m.%Y", "2020-01-01", **DAY))],
        ["01.03.2020", "02.03.2020"],
    ),
    "AM and PM": (every("%m/%d/%Y %I:%M %p", "2020-01-30", **HOUR), ["02/01/2020 12:00 PM", "02/01/2020 01:00 PM"]),
    "am and pm, no blank": (
        [stamp.lower() for stamp in every("%m/%d/%Y %-I:%M%p", "2020-01-30", **HOUR)],
        ["02/01/2020 12:00pm", "02/01/2020 1:00pm"],
    ),
    "names of months": (every("%d %b %Y", "2020-01-01", **DAY), ["01 Mar 2020", "02 Mar 2020"]),
    "names of months in capitals": (
        [stamp.upper() for stamp in every("%d-%b-%Y", "2020-01-01", **DAY)], ["01-MAR-2020", "02-MAR-2020"],
    ),
    "months in words, American": (every("%B %-d, %Y", "2020-01-01", **DAY), ["March 1, 2020", "March 2, 2020"]),
    "weekdays before": (every("%a %Y-%m-%d", "2020-01-01", **DAY), ["Sun 2020-03-01", "Mon 2020-03-02"]),
    "Z": (every("%Y-%m-%dT%H:%M:%SZ", "2020-01-30", **HOUR), ["2020-02-01T12:00:00Z", "2020-02-01T13:00:00Z"]),
    "an offset": (
        every("%Y-%m-%d %H:%M+0530", "2020-01-30", **HOUR), ["2020-02-01 12:00+0530", "2020-02-01 13:00+0530"],
    ),
    "an offset of hours": (
        every("%Y-%m-%d %H:%M-03", "2020-01-30", **HOUR), ["2020-02-01 12:00-03", "2020-02-01 13:00-03"],
    ),
    "UTC": (every("%Y-%m-%d %H:%M UTC", "2020-01-30", **HOUR), ["2020-02-01 12:00 UTC", "2020-02-01 13:00 UTC"]),
    "compact days": (every("%Y%m%d", "2020-01-02", 30, **DAY), ["20200201", "20200202"]),
    "compact hours": (every("%Y%m%d%H", "2020-01-30", **HOUR), ["2020020112", "2020020113"]),
    "compact minutes": (every("%Y%m%d%H%M", "2020-01-30", **HOUR), ["202002011200", "202002011300"]),
    "compact seconds with a T": (
        every("%Y%m%dT%H%M%SZ", "2020-01-30", **HOUR), ["20200201T120000Z", "20200201T130000Z"],
    ),
    "compact months": (monthly("%Y%m"), ["200501", "200502"]),
    "two digits of the year, compact": (every("%y%m%d", "2020-01-01", **DAY), ["200301", "200302"]),
    "months": (monthly("%Y-%m"), ["2005-01", "2005-02"]),
    "months, first the month": (monthly("%m/%Y"), ["01/2005", "02/2005"]),
    "months with a dot": (monthly("%m.%Y"), ["01.2005", "02.2005"]),
    "months with a dot, first the year": (monthly("%Y.%m"), ["2005.01", "2005.02"]),
    "months of the statisticians": (monthly("%YM%m"), ["2005M01", "2005M02"]),
    "months by name": (monthly("%b %Y"), ["Jan 2005", "Feb 2005"]),
    "months by name, two digits of the year": (monthly("%b-%y"), ["Jan-05", "Feb-05"]),
    "months by name, an apostrophe": (monthly("%b '%y"), ["Jan '05", "Feb '05"]),
    "months as days, month first": (monthly("%m/%d/%Y"), ["01/01/2005", "02/01/2005"]),
    "months, the 15th": (monthly("%Y-%m-%d", day=15), ["2005-01-15", "2005-02-15"]),
    "ends of months": (month_ends(), ["2005-01-31", "2005-02-28", "2005-03-31"]),
    "last working days": (in_months(lambda days: working(days)[-1]), ["2005-01-31", "2005-02-28"]),
    "first working days": (in_months(lambda days: working(days)[0]), ["2005-01-03", "2005-02-01", "2005-03-01"]),
    "last working days of quarters": (
        in_months(lambda days: working(days)[-1], step=3), ["2015-01-30", "2015-04-30", "2015-07-31"],
    ),
    "last working days of years": (
        in_months(lambda days: working(days)[-1], step=12, count=20), ["2020-01-31", "2021-01-29"],
    ),
    "last working days, but for holidays": (in_months(holidays), ["2005-01-31", "2005-02-28", "2005-03-31"]),
    "third Fridays": (
        in_months(lambda days: [day for day in days if day.weekday() == 4][2]), ["2005-01-21", "2005-02-18"],
    ),
    "the first and the 15th": (
        [f"2020-{month:02d}-{day}" for month in range(1, 13) for day in ("01", "15")], ["2021-01-01", "2021-01-15"],
    ),
    "the 15th and the last": (
        [day for pair in zip(monthly("%Y-%m-%d", day=15), month_ends(), strict=True) for day in pair],
        ["2005-01-15", "2005-01-31", "2005-02-15", "2005-02-28"],
    ),
    "three of a month": (
        [f"2020-{month:02d}-{day}" for month in range(1, 13) for day in ("01", "11", "21")],
        ["2021-01-01", "2021-01-11", "2021-01-21", "2021-02-01"],
    ),
    "a day or two around the 20th": (
        in_months(lambda days: days[19 + days[0].day * days[0].month % 5 % 3]), ["2005-01-21", "2005-02-21"],
    ),
    "quarters": (quarters("{year}-Q{quarter}"), ["2006-Q1", "2006-Q2"]),
    "quarters, small": (quarters("{year}q{quarter}"), ["2006q1", "2006q2"]),
    "quarters, first the quarter": (quarters("Q{quarter} {year}"), ["Q1 2006", "Q2 2006"]),
    "quarters as days": (monthly("%Y-%m-%d", step=3), ["2015-01-01", "2015-04-01"]),
    "years": ([f"{year}-01-01" for year in range(1900, 2020)], ["2020-01-01", "2021-01-01"]),
    "years, the 29th of February": ([f"{year}-02-29" for year in (2000, 2004, 2008)], ["2012-02-29"]),
    "years and the next": ([f"{year}/{year % 100 + 1:02d}" for year in range(2000, 2030)], ["2030/31", "2031/32"]),
    "years and the next, all digits": ([f"{year}-{year + 1}" for year in range(2000, 2030)], ["2030-2031"]),
    "years as numbers": ([str(year) for year in range(1900, 2020)], ["2020", "2021"]),
    "weeks": (every("%G-W%V", "2020-01-06", 51, weeks=1), ["2020-W53", "2021-W01"]),
    "weeks as days": (every("%Y-%m-%d", "2020-01-06", weeks=1), ["2021-03-01", "2021-03-08"]),
    "workdays": (workdays("Mon Tue Wed Thu Fri", 62), ["2021-03-31", "2021-04-01", "2021-04-02", "2021-04-05"]),
    "workdays from Sunday to Thursday": (
        workdays("Sun Mon Tue Wed Thu"), ["2021-03-29", "2021-03-30", "2021-03-31", "2021-04-01", "2021-04-04"],
    ),
    "Tuesdays, Thursdays and Saturdays": (
        workdays("Tue Thu Sat"), ["2021-05-25", "2021-05-27", "2021-05-29", "2021-06-01"],
    ),
    "days of the year": (every("%Y-%j", "2020-12-01", 31, **DAY), ["2021-001", "2021-002"]),
    "numbers": ([str(at) for at in range(60)], ["60", "61"]),
    "nanoseconds": ([str(1614556800000000000 + at * 3600 * 10**9) for at in range(3)], ["1614567600000000000"]),
    "seconds": ([str(1577836800 + at * 3600) for at in range(3)], ["1577847600", "1577851200"]),
    "tenths": ([f"{at / 10:.1f}" for at in range(201)], ["20.1", "20.2", "20.3"]),
    "hundredths with a comma": ([f"{at / 100:.2f}".replace(".", ",") for at in range(60)], ["0,60", "0,61"]),
    "many digits that are no date": ([str(20209990 + at) for at in range(3)], ["20209993", "20209994"]),
}  # fmt: skip

IRREGULAR = ("with zeros and without", "last working days, but for holidays", "a day or two around the 20th")


def write(path, times, header="time;load"):
    path.write_text("\n".join([header, *(f"{time};{at % 7 / 2}" for at, time in enumerate(times))]))
    return str(path)


@pytest.mark.parametrize("case", GO_ON)
def test_times_go_on_as_the_file_writes_them(tmp_path, case):
    times, expected = GO_ON[case]
    series = read_series(write(tmp_path / "a.csv", times), time="time").series[0]
    assert len(series.values) == len(times)
    assert list(series.clock.following(len(expected))) == expected


@pytest.mark.parametrize("case", [case for case in GO_ON if case not in IRREGULAR])
def test_the_end_of_a_file_is_found_from_its_beginning(tmp_path, case):
    times, _ = GO_ON[case]
    known = read_series(write(tmp_path / "a.csv", times), time="time").time_format
    half = len(times) // 2 if len(times) > 20 else len(times) - 1
    path = write(tmp_path / "half.csv", times[:half])
    series = read_series(path, time="time", known_format=known).series[0]
    assert list(series.clock.following(len(times) - half))[: 20 - half % 5] == times[half:][: 20 - half % 5]


@pytest.mark.parametrize("case", GO_ON)
def test_a_missing_stamp_is_a_gap(tmp_path, case):
    times, _ = GO_ON[case]
    if len(times) < 20 or case == "months as days, month first":
        pytest.skip("too few to tell a gap, or one by which the order of day and month is open again")
    path = write(tmp_path / "a.csv", [*times[:9], *times[12:]])
    with pytest.raises(UserError, match=r"line 11: time stamps are missing between .* 1 gaps in all"):
        read_series(path, time="time")
    assert [len(series.values) for series in read_series(path, time="time", gaps="split").series] == [
        9,
        len(times) - 12,
    ]


# Stamps, what is asked about them, and the settings that answer it with what follows then.
ASKED = {
    "day or month first": (
        monthly("%m/%d/%Y", count=12), "can be read in several ways; write data.time_format='%d/%m/%Y' or",
        {"time_format": "%m/%d/%Y"}, ["01/01/2001", "02/01/2001"],
    ),
    "the other way round": (
        monthly("%m/%d/%Y", count=12), "can be read in several ways",
        {"time_format": "%d/%m/%Y"}, ["13/01/2000", "14/01/2000"],
    ),
    "what the training file decided": (
        monthly("%m/%d/%Y", count=12), "can be read in several ways", {"known_format": "%m/%d/%Y"}, ["01/01/2001"],
    ),
    "an order of its own": (
        every("%H:%M on %d %m %Y", "2020-01-30", **HOUR), "line 2: the time stamp in the column time '00:00 on 30 01",
        {"time_format": "%H:%M on %d %m %Y"}, ["12:00 on 01 02 2020"],
    ),
    "years, or days of a year that is not there": (
        [f"Jan-{at:02d}" for at in range(1, 20)], "line 2: the time stamp in the column time 'Jan-01' can't be read as",
        {"time_format": "%b-%y"}, ["Jan-20", "Jan-21"],
    ),
    "a month, or a year and the next": (
        ["2009-10"], "can be read in several ways; write data.time_format='months' or data.time_format='two years'",
        {"time_format": "months"}, [],
    ),
    "an hour that comes twice": (
        [*every("%Y-%m-%d %H:%M", "2020-10-24", 27, **HOUR), *every("%Y-%m-%d %H:%M", "2020-10-25T02:00", 20, **HOUR)],
        "the time 2020-10-25 02:00 is not after 2020-10-25 02:00, the one before it; if clocks were changed there, "
        "data.time_zone=… says where",
        {"time_zone": "Europe/Berlin"}, ["2020-10-25 22:00", "2020-10-25 23:00"],
    ),
    "an hour that is left out": (
        [*every("%Y-%m-%d %H:%M", "2020-03-28", 26, **HOUR), *every("%Y-%m-%d %H:%M", "2020-03-29T03:00", 20, **HOUR)],
        "keep reads on; if clocks were changed there, data.time_zone=… says where",
        {"time_zone": "Europe/Berlin"}, ["2020-03-29 23:00"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_can_be_read_in_several_ways_is_asked(tmp_path, case):
    times, words, answer, expected = ASKED[case]
    path = write(tmp_path / "a.csv", times)
    with pytest.raises(UserError) as error:
        read_series(path, time="time")
    assert words in str(error.value)
    series = read_series(path, time="time", **answer).series[0]
    assert list(series.clock.following(len(expected))) == expected


# Formats of `strftime` by which stamps are written and read, how far these are apart, and the two that follow.
TYPED = {
    "%d%b%Y": (DAY, ["01Mar2020", "02Mar2020"]),
    "%d of %B %Y": (DAY, ["01 of March 2020", "02 of March 2020"]),
    "%-d/%-m/%Y": (DAY, ["1/3/2020", "2/3/2020"]),
    "%D": (DAY, ["03/01/20", "03/02/20"]),
    "%e. %b %Y": (DAY, [" 1. Mar 2020", " 2. Mar 2020"]),
    "%b %Y at %d": (DAY, ["Mar 2020 at 01", "Mar 2020 at 02"]),
    "%H h on %d %b %Y": (HOUR, ["12 h on 03 Jan 2020", "13 h on 03 Jan 2020"]),
    "%Y, %W": ({"weeks": 1}, ["2021, 09", "2021, 10"]),
    "W%V of %G": ({"weeks": 1}, ["W09 of 2021", "W10 of 2021"]),
    "%d/%b/%Y:%H:%M:%S +0000": (HOUR, ["03/Jan/2020:12:00:00 +0000", "03/Jan/2020:13:00:00 +0000"]),
}


@pytest.mark.parametrize("format", TYPED)
def test_a_format_that_is_typed_is_read_whole_and_written_back(tmp_path, format):
    step, expected = TYPED[format]
    start = "2020-01-06" if "weeks" in step else "2020-01-01"
    path = write(tmp_path / "a.csv", every(format, start, **step))
    (series,) = read_series(path, time="time", time_format=format.replace("+0000", "%z")).series
    assert list(series.clock.following(2)) == [text.strip() if format[:2] != "%e" else text for text in expected]


@pytest.mark.parametrize(
    ("format", "words"),
    [("%d-%b", "must have a year"), ("%Y-%m-%d %Z", "write the name of the zone itself, as in .* UTC")],
)
def test_a_format_that_leaves_something_open_is_refused(tmp_path, format, words):
    path = write(tmp_path / "a.csv", every(format.replace("%Z", "CET"), "2020-01-01", **DAY))
    with pytest.raises(UserError, match=f"data.time_format={format}: {words}"):
        read_series(path, time="time", time_format=format)


@pytest.mark.parametrize(
    ("step", "digits"), [(1 / 24, 6), (1 / 12, 4), (100 / 3, 0)], ids=["hours", "months", "thirds"]
)
def test_numbers_that_were_rounded_go_on_evenly(tmp_path, step, digits):
    exact = 2000 + step * numpy.arange(300)
    path = write(tmp_path / "a.csv", [f"{at:.{digits}f}" for at in exact[:200]])
    (series,) = read_series(path, time="time").series
    following = numpy.array(list(series.clock.following(100)), float)
    assert numpy.abs(following - exact[200:]).max() < 1.6 * 10**-digits  # of the last number, of the step and of these


def test_times_that_no_calendar_has_are_refused_when_they_are_written(tmp_path):
    (series,) = read_series(write(tmp_path / "a.csv", ["9999-12-30", "9999-12-31"]), time="time").series
    with pytest.raises(UserError, match="times after 9999-12-31 can't be written"):
        list(series.clock.following(1))


def test_a_change_of_clocks_is_no_reason_for_a_month_that_is_missing(tmp_path):
    path = write(tmp_path / "a.csv", ["2020-01-01", "2020-02-01", "2020-03-01", "2020-05-01", "2020-06-01"])
    with pytest.raises(UserError, match=r"a step is 1 month; .* keep reads on$"):
        read_series(path, time="time")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2021-10-30T22:00", ["2021-10-31 02:00:00+02:00", "2021-10-31 02:00:00+01:00", "2021-10-31 03:00:00+01:00"]),
        ("2021-03-27T21:00", ["2021-03-28 01:00:00+01:00", "2021-03-28 03:00:00+02:00", "2021-03-28 04:00:00+02:00"]),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_an_hour_is_an_hour_where_clocks_change(tmp_path, start, expected, kind):
    last = polars.Series([start]).str.to_datetime().dt.replace_time_zone("Europe/Berlin").item()
    times = polars.datetime_range(last - timedelta(hours=30), last, "1h", eager=True)
    assert times.dtype.time_zone == "Europe/Berlin"
    frame = polars.DataFrame({"time": times, "load": numpy.arange(len(times)) % 5})
    if kind == "parquet":
        frame.write_parquet(tmp_path / "a.parquet")
    else:
        shown = frame.with_columns(polars.col("time").dt.strftime("%Y-%m-%d %H:%M:%S%:z"))
        shown.write_csv(tmp_path / "a.csv")
    path = str(tmp_path / f"a.{kind}")
    (series,) = read_series(path, time="time", time_zone="Europe/Berlin" if kind == "csv" else None).series
    assert list(series.clock.following(6))[3:] == expected


def test_days_of_a_zone_are_days_of_the_calendar(tmp_path):
    days = polars.datetime_range(
        datetime(2021, 3, 1), datetime(2021, 3, 25), "1d", eager=True, time_zone="Europe/Berlin"
    )
    polars.DataFrame({"time": days, "load": range(len(days))}).write_parquet(tmp_path / "a.parquet")
    (series,) = read_series(str(tmp_path / "a.parquet"), time="time").series
    assert list(series.clock.following(5))[2:] == [
        "2021-03-28 00:00:00+01:00", "2021-03-29 00:00:00+02:00", "2021-03-30 00:00:00+02:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("days", "size", "kind", "lengths"),
    [
        (["2024-01-01", "2024-04-01", "2024-10-01"], 3, "months", [1, 2]),
        (["2024-01-01", "2024-04-01", "2024-10-01", "2025-01-01", "2025-07-01"], 3, "months", [1, 2, 1, 2]),
        (["2024-01-01", "2024-01-08", "2024-01-22"], 7, "days", [1, 2]),
    ],
)
def test_a_step_is_one_that_there_is(days, size, kind, lengths):
    wall = numpy.array(days, dtype="datetime64[us]")
    step, found = steps_of(wall, wall.astype("int64"))
    assert (step.size, step.kind, found.tolist()) == (size, kind, lengths)


@given(some.integers(1, 400), some.integers(2, 40), some.sampled_from(["minutes", "hours", "days", "weeks"]))
def test_steps_of_one_length_have_no_gap(size, count, unit):
    first = numpy.datetime64("2020-01-30T00:00", "us")
    wall = first + numpy.arange(count) * numpy.timedelta64(timedelta(**{unit: size}))
    step, lengths = steps_of(wall, wall.astype("int64"))
    assert (lengths == 1).all()
    if step.kind == "time":
        assert step.size == (wall[1] - wall[0]).astype("int64")
