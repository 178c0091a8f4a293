"""Time stamps: how files write them."""

import calendar
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import product
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy

from reading.tables import Table
from series.steps import LONGER, steps_of, to_datetime
from unroll.errors import ArgumentError, UserError

YEARS = (1800, 2200)  # of digits that are dates
FIRST_OF_1900 = 69  # of two digits, as for `strptime`
MONTHS = list(calendar.month_name)[1:]

CLOCK = re.compile(r"(?P<hour>\d{1,2}):\d{2}(?P<second>:\d{2})?(?P<fraction>[.,]\d+)?(?P<half>\s?[AaPp][Mm])?")
OFFSET = re.compile(r"(\s?(Z|UTC|GMT)|\s?[+-]\d{2}(:?\d{2})?)$")
WEEKDAY = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ")

# The shapes of dates, with the formats that each may stand for; {s} is the separator.
DATES = [
    (r"\d{4}(?P<s>[-/.])\d{1,2}(?P=s)\d{1,2}", ["%Y{s}%m{s}%d"]),
    (r"\d{1,2}(?P<s>\.)\d{1,2}\.\d{4}", ["%d{s}%m{s}%Y"]),
    (r"\d{1,2}(?P<s>[-/])\d{1,2}(?P=s)\d{4}", ["%d{s}%m{s}%Y", "%m{s}%d{s}%Y"]),
    (r"\d{1,2}(?P<s>\.)\d{1,2}\.\d{2}", ["%d{s}%m{s}%y"]),
    (r"\d{1,2}(?P<s>[-/])\d{1,2}(?P=s)\d{2}", ["%d{s}%m{s}%y", "%m{s}%d{s}%y", "%y{s}%m{s}%d"]),
    (r"\d{1,2}(?P<s>[- /])[A-Za-z]{3,9}(?P=s)\d{4}", ["%d{s}%B{s}%Y"]),
    (r"\d{1,2}(?P<s>[- /])[A-Za-z]{3,9}(?P=s)\d{2}", ["%d{s}%B{s}%y"]),
    (r"[A-Za-z]{3,9} \d{1,2}, \d{4}", ["%B %d, %Y"]),
    (r"\d{4}-\d{3}", ["%Y-%j"]),
    (r"\d{8}", ["%Y%m%d"]),
    (r"\d{6}", ["%y%m%d"]),
]  # fmt: skip

# Periods of a year: a year and a number, and how many months each is; they are written back by the same shape.
PERIODS = [
    (r"(?P<year>\d{4})(?P<before>[- ]?[Qq])(?P<number>[1-4])", 3),
    (r"(?P<before>[Qq])(?P<number>[1-4])(?P<between>[-/ ]?)(?P<year>\d{4})", 3),
    (r"(?P<year>\d{4})(?P<before>[- ]?[HhSs])(?P<number>[12])", 6),
    (r"(?P<year>\d{4})(?P<before>[-/.]|[- ]?[Mm])(?P<number>\d{1,2})", 1),
    (r"(?P<before>)(?P<number>\d{1,2})(?P<between>[-/.])(?P<year>\d{4})", 1),
    (r"(?P<year>\d{4})(?P<before>)(?P<number>\d{2})", 1),
    (r"(?P<before>)(?P<number>[A-Za-z]{3,9})(?P<between>[- ])(?P<year>\d{4})", 1),
    (r"(?P<before>)(?P<number>[A-Za-z]{3,9})(?P<between>[- ']+)(?P<year>\d{2})", 1),
]
MONTHLY = "months"
TWO_YEARS, SEASONS = r"(\d{4})([-/])(\d{2}|\d{4})", "two years"  # 2023/24
WEEK = r"(?P<year>\d{4})(?P<before>-?W)(?P<number>\d{2})(?P<day>-?\d)?"


class Times(NamedTuple):
    """The times of all rows.

    Attributes:
        at: int64 `[rows]`, microseconds since 1970 in UTC, or numbers in units of the last digit; float64 of numbers
            that are no decimals.
        wall: datetime64[us] `[rows]`, what clocks show; None for numbers.
        zone: where they do; None if that is not known, or for numbers.
        write: writes a datetime, or a number in the units of `at`, as the file does.
        format: what the file writes, as `data.time_format` says it; None for numbers.
    """

    at: numpy.ndarray
    wall: numpy.ndarray | None
    zone: tzinfo | None
    write: Callable[[Any], str]
    format: str | None


class Reading(NamedTuple):
    """A way to read time stamps.

    Attributes:
        format: as `data.time_format` says it.
        parse: from a polars Series of strings to one of datetimes, null where that fails.
        writers: ways to write a datetime, of which one is the file's.
    """

    format: str
    parse: Callable[[Any], Any]
    writers: Sequence[Callable[[datetime], str]]


# From strings and numbers to times


def time_stamps(
    column: Any, table: Table, groups: Sequence[numpy.ndarray], format: str | None, zone: str | None, known: str | None
) -> Times:
    """The times in a column.

    Args:
        column: a polars Series of strings, numbers or dates.
        table: that it is of, for messages.
        groups: the rows of each series, which help where the order of day and month is open.
        format: as for `strptime`; None to find it.
        zone: the time zone of stamps without an offset, such as "Europe/Berlin".
        known: the format of the training file, which decides where two fit.

    Raises:
        UserError: a stamp is missing or can't be read, or they can be read in two ways.
    """
    import polars

    place = known_zone(zone)
    if column.null_count():
        row = int(column.is_null().arg_max())
        raise UserError(f"{table.where(row)}: the time stamp in the column {column.name} is missing")
    if column.dtype in (polars.Date, polars.Datetime):
        return of_datetimes(column, place)
    if not (column.dtype == polars.String or column.dtype.is_numeric()):
        raise UserError(f"{table.name}: the column {column.name} holds {column.dtype}, not times")
    strings = column.cast(polars.String).str.strip_chars()
    is_number = column.dtype.is_float() or not is_date(strings[0])
    if format is None and is_number and not are_months(strings, groups, known):
        return of_numbers(column, strings, table)
    choices = readings(strings[0])
    if format is not None:
        choices = [one for one in choices if one.format == format] or [as_typed(format)]
    found = [(reading, *read_with(reading, strings)) for reading in choices]
    whole = [one for one in found if not one[1].null_count()]
    if not whole and format is None and strings.str.contains(r"^\d+$").all():
        return of_numbers(column, strings, table)
    if not whole:
        best = min(found, key=lambda one: one[1].null_count(), default=None)
        row = 0 if best is None else int(best[1].is_null().arg_max())
        as_what = "" if best is None else f" as {best[0].format}"
        raise UserError(
            f"{table.where(row)}: the time stamp in the column {column.name} {strings[row]!r} can't be read{as_what}; "
            f"data.time_format=… says how times are written, as in data.time_format='%d.%m.%Y %H:%M'"
        )
    reading, instants, wall = chosen(whole, groups, known, table, column.name)
    return of_readings(reading, strings, instants, wall, place, groups, table)


def known_zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ArgumentError("time_zone", name, "a time zone, such as Europe/Berlin or UTC") from None


def is_date(text: str) -> bool:
    """Whether a string may be a date: no number, one of as many digits as a date, or a month such as 01.2020."""
    if not re.fullmatch(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?", text) or re.fullmatch(r"0\d[.]\d{4}", text):
        return True
    return text.isdigit() and len(text) in (6, 8, 10, 12, 14) and YEARS[0] <= int(text[:4]) < YEARS[1]


def are_months(strings: Any, groups: Sequence[numpy.ndarray], known: str | None) -> bool:
    """Whether numbers are months such as 2020.01: their decimals are those of months, in several years or evenly.

    Args:
        strings, groups, known: as for `time_stamps`.
    """
    if not strings.str.contains(r"^\d{4}[.](0[1-9]|1[0-2])$").all():
        return False
    _, wall = read_with(readings(strings[0])[0], strings)
    parts = [wall.to_numpy()[rows] for rows in groups if len(rows) > 1]
    even = all((numpy.diff(part) > numpy.timedelta64(0)).all() and not has_gaps(part) for part in parts)
    return known == MONTHLY or wall.dt.year().n_unique() > 1 or (bool(parts) and even)


def readings(text: str) -> list[Reading]:
    """The ways in which a time stamp may be meant."""
    found = [period(shape, months, text) for shape, months in PERIODS if re.fullmatch(shape, text)]
    if years := re.fullmatch(TWO_YEARS, text):
        found.append(two_years(years))
    if week := re.fullmatch(WEEK, text):
        found.append(week_of(week))
    if digits := re.fullmatch(r"(\d{8})([T ]?)(\d{2}|\d{4}|\d{6})(Z|[+-]\d{2}:?\d{2})?", text):
        found.append(compact(digits[2], len(digits[3]), bool(digits[4])))
    offset = OFFSET.search(text) if CLOCK.search(text) else None
    rest = text[: offset.start()] if offset else text
    clock = CLOCK.search(rest)
    date = rest[: clock.start()].rstrip("T ,") if clock else rest
    between = rest[len(date) : clock.start()] if clock else ""
    weekday = WEEKDAY.match(date)
    if weekday:
        date = date[weekday.end() :]
    if clock and clock.end() != len(rest):
        return found
    for shape, formats in DATES:
        if match := re.fullmatch(shape, date):
            separator = match.groupdict().get("s") or ""
            times = between + (clock_format(clock) if clock else "")
            found += [
                dated(format.format(s=separator) + times, clock, bool(offset), bool(weekday)) for format in formats
            ]
    return found


def clock_format(clock: re.Match[str]) -> str:
    half = clock["half"]
    hours = "%I:%M" if half else "%H:%M"
    seconds = ("%S%.f" if clock["fraction"] else "%S") if clock["second"] else ""
    return hours + (f":{seconds}" if seconds else "") + (" %p" if half and half[0].isspace() else "%p" if half else "")


def dated(format: str, clock: re.Match[str] | None, offset: bool, weekday: bool) -> Reading:
    """Stamps with a date as `strptime` knows it, and perhaps the time of a day and an offset from UTC."""
    import polars

    has_clock, digits = clock is not None, len(clock["fraction"]) - 1 if clock and clock["fraction"] else 0

    def parse(strings: Any) -> Any:
        texts = strings.str.replace(WEEKDAY.pattern, "") if weekday else strings
        texts = texts.str.replace(",(\\d+)", ".${1}") if digits and "%d, " not in format else texts
        if not offset:
            return texts.str.strptime(polars.Datetime("us") if has_clock else polars.Date, format, strict=False).cast(
                polars.Datetime("us")
            )
        texts = texts.str.replace(r"\s?(Z|UTC|GMT)$", "+00:00").str.replace(r"\s?([+-]\d{2})$", "${1}:00")
        texts = texts.str.replace(r"\s([+-]\d{2}:?\d{2})$", "${1}")
        return texts.str.strptime(polars.Datetime("us", "UTC"), f"{format}%z", strict=False)

    def writer(names: str, day: str, hour: str, case: Any) -> Callable[[datetime], str]:
        layout = format.replace("%B", names)
        for part in "dm":
            layout = layout.replace(f"%{part}", f"%{day}{part}")
        for part in "HI":
            layout = layout.replace(f"%{part}", f"%{hour}{part}")

        def write(time: datetime) -> str:
            fraction = f".{time.microsecond:06d}".ljust(digits + 1, "0")[: digits + 1]
            return case(time.strftime(("%a " if weekday else "") + layout.replace("%.f", fraction)))

        return write

    names = ("%B", "%b") if "%B" in format else ("",)
    writers = [writer(*parts) for parts in product(names, ("", "-"), ("", "-"), (str, str.upper, str.lower))]
    return Reading(format + ("%z" if offset else ""), parse, writers)


def compact(between: str, digits: int, offset: bool) -> Reading:
    """Stamps of digits alone: a date, and hours, minutes and seconds as many as there are."""
    import polars

    clock = {2: "%H", 4: "%H%M", 6: "%H%M%S"}[digits]
    format = f"%Y%m%d{between}{clock}"

    def parse(strings: Any) -> Any:
        texts = strings.str.replace(r"Z$", "+00:00")
        valid = texts.str.slice(0, 4).cast(polars.Int32, strict=False).is_between(YEARS[0], YEARS[1] - 1)
        texts = texts.set(~valid.fill_null(False), None)
        if digits == 2:  # polars reads no hours without minutes
            texts = texts.str.replace(r"^(\d{8}[T ]?\d{2})", "${1}00")
        whole = f"%Y%m%d{between}{'%H%M' if digits == 2 else clock}"
        kind = polars.Datetime("us", "UTC") if offset else polars.Datetime("us")
        return texts.str.strptime(kind, whole + ("%z" if offset else ""), strict=False)

    return Reading(format + ("%z" if offset else ""), parse, [lambda time: time.strftime(format)])


def period(shape: str, months: int, text: str) -> Reading:
    """Stamps that are months, quarters or halves of a year: each stands for its first day."""
    import polars

    match = re.fullmatch(shape, text)
    assert match is not None
    parts = match.groupdict()
    by_name, short = parts["number"].isalpha(), len(parts["year"]) == 2

    def parse(strings: Any) -> Any:
        groups = strings.rename("text").to_frame().select(polars.col("text").str.extract_groups(f"^(?:{shape})$"))
        year, number = (groups.unnest("text")[name] for name in ("year", "number"))
        if by_name:
            names = {name[:length]: at for at, name in enumerate(MONTHS, 1) for length in (3, len(name))}
            number = number.str.to_titlecase().replace_strict(names, default=None, return_dtype=polars.Int32)
        month = (number.cast(polars.Int32, strict=False) - 1) * months + 1
        year = year.cast(polars.Int32, strict=False)
        if short:
            if ((month == month.shift()) & (year == year.shift() + 1)).any():  # Jan-30, Jan-31: days, perhaps
                year = year.clear(len(year))
            year += 1900 + 100 * (year < FIRST_OF_1900).cast(polars.Int32)
        year = year.set(~(year.is_between(*YEARS) & month.is_between(1, 12)).fill_null(False), None)
        first = polars.datetime(year, month.clip(1, 12), 1)
        return polars.select(time=first)["time"].cast(polars.Datetime("us"))

    def writer(shown: Callable[[int], str]) -> Callable[[datetime], str]:
        def write(time: datetime) -> str:
            number, year = shown((time.month - 1) // months + 1), f"{time.year}"[-2 if short else 0 :]
            if match.start("year") < match.start("number"):
                return f"{year}{parts['before']}{number}"
            return f"{parts['before']}{number}{parts['between']}{year}"

        return write

    of_names: list[Callable[[int], str]] = [
        lambda at: MONTHS[at - 1][:3],
        lambda at: MONTHS[at - 1],
        lambda at: MONTHS[at - 1][:3].upper(),
    ]
    of_numbers: list[Callable[[int], str]] = [lambda at: f"{at:0{len(parts['number'])}d}", str]
    writers = [writer(shown) for shown in (of_names if by_name else of_numbers)]
    return Reading({1: MONTHLY, 3: "quarters", 6: "halves of years"}[months], parse, writers)


def two_years(match: re.Match[str]) -> Reading:
    """Stamps that are a year and the next, such as 2023/24: each stands for the first of January of the one."""
    import polars

    _, between, second = match.groups()

    def parse(strings: Any) -> Any:
        parts = strings.rename("text").to_frame().select(polars.col("text").str.extract_groups(f"^{TWO_YEARS}$"))
        year, following = (parts["text"].struct.field(name).cast(polars.Int32) for name in ("1", "3"))
        year = year.set(~((year + 1) % 10 ** len(second) == following).fill_null(False), None)
        return polars.select(time=polars.datetime(year, 1, 1))["time"].cast(polars.Datetime("us"))

    def write(time: datetime) -> str:
        return f"{time.year}{between}{str(time.year + 1)[-len(second) :]}"

    return Reading(SEASONS, parse, [write])


def week_of(match: re.Match[str]) -> Reading:
    """Stamps that are weeks of ISO 8601: each stands for its Monday."""
    import polars

    before, day = match["before"], match["day"]

    def parse(strings: Any) -> Any:
        texts = strings if day else strings + "-1"
        format = f"%G{before}%V{'-' if not day or day[0] == '-' else ''}%u"
        return texts.str.strptime(polars.Date, format, strict=False).cast(polars.Datetime("us"))

    def write(time: datetime) -> str:
        return time.strftime(f"%G{before}%V" + (f"{day[:-1]}%u" if day else ""))

    return Reading("weeks", parse, [write])


def as_typed(format: str) -> Reading:
    """The format that the user gives, as Python's `strptime` knows it.

    Raises:
        UserError: it has no year.
    """
    import polars

    if not re.search("%[-_0]?[YyGDFcxsv+]", format):
        raise UserError(f"data.time_format={format}: must have a year, such as %Y or %y")
    if "%Z" in format:
        raise UserError(f"data.time_format={format}: write the name of the zone itself, as in '%Y-%m-%d %H:%M UTC'")
    zoned = "%z" in format
    whole = re.sub(r"[.,]?%f", "%.f", format)

    def parse(strings: Any) -> Any:
        only_hours = "%H" in whole and "%M" not in whole
        texts, layout = (strings + " 00", f"{whole} %M") if only_hours else (strings, whole)
        clock = re.search("%[-_0]?[HIkTRXrcs+]", whole)
        day = re.search("%[-_0]?[dejDFxcvsuwaA+]", whole)
        in_week = re.search("%[-_0]?[UWV]", whole)
        if not day:  # the first of a week, month or year
            texts, layout = texts + (" 1" if in_week else " 01"), layout + (" %u" if in_week else " %d")
        stamps = polars.Datetime("us", "UTC" if zoned else None)
        try:
            return texts.str.strptime(stamps if clock else polars.Date, layout, strict=False).cast(stamps)
        except polars.exceptions.PolarsError as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"data.time_format={format}: {reason}") from None

    return Reading(format, parse, [lambda time: time.strftime(format.replace("%z", "").rstrip())])


def read_with(reading: Reading, strings: Any) -> tuple[Any, Any]:
    """The instants, and what clocks showed, of strings; null where they can't be read."""
    import polars

    try:
        instants = reading.parse(strings)
    except polars.exceptions.PolarsError:
        empty = polars.Series([None] * len(strings), dtype=polars.Datetime("us"))
        return empty, empty
    if getattr(instants.dtype, "time_zone", None) is None:
        return instants, instants
    offsets = strings.str.extract(r"([+-]\d{2}:?(?:\d{2})?)$").fill_null("+00:00").str.replace(":", "")
    hours = offsets.str.slice(1, 2).cast(polars.Int64)
    minutes = offsets.str.slice(3, 2).replace("", "0").cast(polars.Int64, strict=False).fill_null(0)
    sign = (offsets.str.slice(0, 1) == "-").cast(polars.Int64) * -2 + 1
    shift = (sign * (hours * 60 + minutes) * 60_000_000).cast(polars.Duration("us"))
    naive = instants.dt.replace_time_zone(None)
    return naive, naive + shift


def chosen(
    whole: Sequence[tuple[Reading, Any, Any]],
    groups: Sequence[numpy.ndarray],
    known: str | None,
    table: Table,
    name: str,
) -> tuple[Reading, Any, Any]:
    """The reading that makes of a file's stamps a series that rises evenly, where several can read them.

    Raises:
        UserError: more than one does.
    """
    if len(whole) == 1:
        return whole[0]
    seasons = [one for one in whole if one[0].format == SEASONS and one[2].n_unique() > 1]
    if seasons:  # as months, they would be 13 from each other
        return seasons[0]
    best: list[tuple[Reading, Any, Any]] = []
    for even in (True, False):
        for one in whole:
            wall = one[2].to_numpy()
            parts = [wall[rows] for rows in groups if len(rows) > 1]
            rises = all((numpy.diff(part) > numpy.timedelta64(0)).all() for part in parts)
            if rises and not (even and any(has_gaps(part) for part in parts)):
                best.append(one)
        if best:
            break
    best = best or list(whole)
    if len(best) == 1:
        return best[0]
    if kept := [one for one in best if one[0].format == known]:
        return kept[0]
    formats = " or ".join(f"data.time_format='{one[0].format}'" for one in best)
    raise UserError(f"{table.where(0)}: the times in the column {name} can be read in several ways; write {formats}")


def has_gaps(wall: numpy.ndarray) -> bool:
    _, lengths = steps_of(wall, wall.astype("int64"))
    return bool((lengths > LONGER).any())


def of_readings(
    reading: Reading, strings: Any, instants: Any, wall: Any, zone: tzinfo | None, groups: Sequence[Any], table: Table
) -> Times:
    at, shown = instants.to_numpy().astype("datetime64[us]"), wall.to_numpy().astype("datetime64[us]")
    zoned = "%z" in reading.format
    if zone is not None:
        at, shown = in_zone(strings, at, zone, zoned, groups, table)
    elif zoned:
        zone = offset_of(shown[-1] - at[-1])
    rows = sample(len(strings))
    for writer in reading.writers:
        write = with_offset(writer, OFFSET.search(strings[0]) if zoned else None)
        if all(
            write(to_datetime(shown[row], offset_of(shown[row] - at[row]) if zoned else zone)) == strings[row]
            for row in rows
        ):
            break
    else:  # they are written in several ways
        write = with_offset(reading.writers[0], OFFSET.search(strings[0]) if zoned else None)
    return Times(at.astype("int64"), shown, zone, write, reading.format)


def with_offset(write: Callable[[datetime], str], mark: re.Match[str] | None) -> Callable[[datetime], str]:
    """Writes the offset from UTC behind a time, in the way of this one: Z, +01:00, +0100 or +01."""
    if mark is None:
        return write
    blank = " " if mark[0][0].isspace() else ""

    def with_mark(time: datetime) -> str:
        offset = time.strftime("%z")
        if mark[2]:
            shown = mark[2] if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
        else:
            shown = offset[:3] + (":" if ":" in mark[0] else "") + (offset[3:] if mark[3] else "")
        return write(time) + blank + shown

    return with_mark


def offset_of(difference: numpy.timedelta64) -> tzinfo:
    return timezone(timedelta(microseconds=int(difference.astype("int64"))))


def sample(count: int) -> list[int]:
    """Some rows, the first and the last among them."""
    return sorted({int(row) for row in numpy.linspace(0, count - 1, 24)})


def in_zone(
    strings: Any, at: numpy.ndarray, zone: tzinfo, zoned: bool, groups: Sequence[numpy.ndarray], table: Table
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Instants, and what clocks show, in a time zone. Of an hour that comes twice, the first in the file is the first.

    Raises:
        UserError: a time does not exist there.
    """
    import polars

    name = str(zone)
    series = polars.Series(at)
    if not zoned:
        again = numpy.zeros(len(at), bool)
        for rows in groups:
            seen: set[Any] = set()
            for row in rows:
                again[row] = at[row] in seen
                seen.add(at[row])
        frame = polars.DataFrame({"at": series, "which": numpy.where(again, "latest", "earliest")})
        placed = frame.select(
            polars.col("at").dt.replace_time_zone(name, ambiguous=polars.col("which"), non_existent="null")
        )["at"]
        if placed.null_count():
            row = placed.is_null().to_list().index(True)
            raise UserError(f"{table.where(row)}: {strings[row]} does not exist in {name}, where clocks go forward")
    else:
        placed = series.dt.replace_time_zone("UTC").dt.convert_time_zone(name)
    instants = placed.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()
    return instants.astype("datetime64[us]"), placed.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")


def of_datetimes(column: Any, zone: tzinfo | None) -> Times:
    """Of dates and datetimes in a Parquet file, perhaps with their zone."""
    import polars

    days = column.dtype == polars.Date
    stamps = column.cast(polars.Datetime("us", getattr(column.dtype, "time_zone", None)))
    if stamps.dtype.time_zone is None and zone is not None:
        stamps = stamps.dt.replace_time_zone(str(zone), ambiguous="earliest")
    elif stamps.dtype.time_zone is not None:
        zone = zone or ZoneInfo(stamps.dtype.time_zone)
        stamps = stamps.dt.convert_time_zone(str(zone))
    wall = stamps.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
    instants = stamps.to_physical().to_numpy()

    def write(time: datetime) -> str:
        return str(time.date()) if days else str(time)

    return Times(instants, wall, zone, write, None)


def of_numbers(column: Any, strings: Any, table: Table) -> Times:
    """Numbers, exact where they are decimals.

    Raises:
        UserError: one is not a number.
    """
    import polars

    decimals = strings.str.extract(r"^[-+]?\d*[.,](\d*)$").str.len_chars().max() or 0
    whole = strings.str.contains(r"^[-+]?\d+$").all() and strings.cast(polars.Int64, strict=False).null_count() == 0
    if whole:
        return Times(strings.cast(polars.Int64).to_numpy(), None, None, lambda value: str(round(value)), None)
    values = strings.str.replace(",", ".").cast(polars.Float64, strict=False)
    if values.null_count() or not values.is_finite().all():
        row = int((values.is_null() | ~values.is_finite()).arg_max())
        raise UserError(
            f"{table.where(row)}: the time stamp in the column {column.name} {strings[row]!r} can't be read; "
            f"data.time_format=… says how times are written, as in data.time_format='%d.%m.%Y %H:%M'"
        )
    numbers, unit = values.to_numpy(), 10**decimals
    comma = "," if strings.str.contains(",").any() else "."
    plain = strings.str.contains(r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)$").all()
    if plain and decimals <= 9 and numpy.abs(numbers).max() * unit < 2**53:
        at = numpy.rint(numbers * unit).astype("int64")
        return Times(at, None, None, lambda value: f"{value / unit:.{decimals}f}".replace(".", comma), None)
    return Times(numbers, None, None, lambda value: f"{value:.12g}", None)
