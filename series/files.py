"""Series of numbers from tables."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy
from typing_extensions import Unpack

from reading.tables import Form, Table, is_table, read_table
from series.numbers import INDEX, STEP, Decimal, decimal_sign, numbers, without_units
from series.steps import LONGER, Clock, Step, shown, steps_of
from series.times import Times, is_date, time_stamps
from unroll.errors import UserError

Gaps = Literal["refuse", "split", "keep", "fill"]
MOST_FILLED = 10  # steps for each row of a file
DATE_PARTS = ("year", "month", "day", "hour", "minute")
RISING = 10  # steps
NAME, SHOWN = r"-?\d+(\.\d+)?(_\d+)?", 4  # of a column, where it may be a number that comes again
ZONE = "if clocks were changed there, data.time_zone=… says where, as in Europe/Berlin"


class Series(NamedTuple):
    """Steps that follow each other.

    Attributes:
        name: what tells it from the other series of the file; "" for the only one.
        values: float64 `[steps, columns]`; nan where a number is missing.
        clock: the time of the last step, and how it goes on; None without a time column.
        wall: what clocks show at each step, datetime64[us] `[steps]`; None without a time column, and for numbers.
        static: what the series has in each static column.
        after: rows behind the last that has a target, like `values`, for what is known ahead.
    """

    name: str
    values: numpy.ndarray
    clock: Clock | None = None
    wall: numpy.ndarray | None = None
    static: tuple[str, ...] = ()
    after: numpy.ndarray = numpy.zeros((0, 0))


class Found(NamedTuple):
    """The series of a file.

    Attributes:
        columns: their names.
        series: the series.
        notes: what was left out of the file, or given a name.
        time_format: how the file writes times; None for numbers, and without a time column.
        decimal: the sign before decimals, as typed or found; None if no number has one.
    """

    columns: list[str]
    series: list[Series]
    notes: list[str]
    time_format: str | None
    decimal: Decimal | None


def read_series(
    path: str,
    columns: Sequence[str] | None = None,
    series: str | None = None,
    time: str | None = None,
    gaps: Gaps = "refuse",
    decimal: Decimal | None = None,
    time_format: str | None = None,
    time_zone: str | None = None,
    known_format: str | None = None,
    known_decimal: Decimal | None = None,
    static: Sequence[str] = (),
    wide: bool = False,
    split: str = "train",
    **form: Unpack[Form],
) -> Found:
    """The series of a file.

    Args:
        path: a table, as for `read_table`.
        columns: those to read; None for all but `series` and `time`, and those without a name.
        series: the column that tells series apart; None if the file is one series.
        time: the column of the time, numbers or dates, rising within each series; None if there is none.
        gaps: where time stamps are missing: "refuse" the file, "split" the series in two, "keep" it together, or "fill"
            it with steps whose numbers are missing.
        decimal: the sign before the decimals of numbers, "." or ","; None to find it.
        time_format: of the time, as for `strptime`; None to find it.
        time_zone: of times without an offset from UTC, such as "Europe/Berlin"; None where clocks are not put forward.
        known_format, known_decimal: how the training file writes times and decimals, which decides where two fit.
        static: columns with one value for each series.
        wide: each row is a series, one number after the other in the columns of the file; `series` is the column of its
            name, the first by default. The numbers are called "value".
        split: of a data set, as for `read_table`.
        form: as for `read_table`.

    Raises:
        UserError: the file can't be read, a column is missing, a value is no number, or time does not rise evenly.
    """
    if not is_table(path):
        raise UserError(f"{path}: must be a .csv, .tsv or .parquet file, or another table")
    if wide and time is not None:
        raise UserError("data.wide=true: is for files without a column of the time; leave data.time out")
    others = [name for name in (series, time, *static) if name is not None]
    table = read_table(path, [] if wide else [*others, *(columns or ())], split=split, **form)
    table.require(*others)
    if wide:
        series = series or table.frame.columns[0]
        if form.get("header") is None:
            require_names(table, [name for name in table.frame.columns if name not in (series, *static)])
    for name in ([series] if series is not None else []) + list(static):
        table.frame = table.frame.with_columns(without_blanks(table.frame[name]))
        table.require_one_spelling(name)
    if wide and series is not None:
        table, others = by_steps(table, series, static), [series, *static, STEP]
    nameless = [*table.unnamed, *(name for name in table.frame.columns if name in INDEX)]
    chosen = [name for name in table.frame.columns if name not in (*others, *nameless)]
    if columns is None:
        left = [name for name in nameless if name not in others]
        table.notes += [f"the column {name}, an index without a name of its own, left out" for name in left]
    else:
        table.require(*columns)
        chosen = list(columns)
    if not chosen:
        raise UserError(f"{path}: has no column of numbers")
    if not wide:
        without_units(table, chosen, time)
    if table.frame.is_empty():
        raise UserError(f"{path}: has no rows")
    sign = decimal or decimal_sign(table, chosen, known_decimal)
    values = numpy.stack([numbers(table, name, sign or ".") for name in chosen], axis=1)
    rows_of = rows_by_name(table, series)
    groups = list(rows_of.values())
    times = None
    if time is None:
        table.notes += perhaps_times(chosen, values, groups)
    if time is not None:
        times = time_stamps(table.frame[time], table, groups, time_format, time_zone, known_format)
    found: list[Series] = []
    for name, rows in rows_of.items():
        cuts, step, places = [0, len(rows)], None, numpy.arange(len(rows))
        if times is not None and time is not None:
            cuts, step, places = pieces(times, rows, name, table, time, gaps, groups)
        for start, stop in pairwise(cuts):
            last = int(rows[stop - 1])
            clock = None
            if times is not None:
                wall = None if times.wall is None else times.wall[last]
                clock = Clock(times.at[last].item(), wall, times.zone, times.write, step)
            steps = numpy.full((places[stop - 1] - places[start] + 1, len(chosen)), numpy.nan)
            steps[places[start:stop] - places[start]] = values[rows[start:stop]]
            wall = (
                None
                if times is None or times.wall is None
                else spread(times.wall[rows[start:stop]], places[start:stop])
            )
            kinds = tuple(one_value(table, column, rows, name) for column in static)
            found.append(Series(name, steps, clock, wall, kinds))
    return Found(chosen, found, [f"{path}: {note}" for note in table.notes], times and times.format, sign)


def without_blanks(column: Any) -> Any:
    """A column without blanks around its strings, null where there is nothing else."""
    import polars

    if column.dtype != polars.String:
        return column
    stripped = column.str.strip_chars()
    return stripped.set((stripped == "").fill_null(False), None)


def require_names(table: Table, names: Sequence[str]) -> None:
    """Checks that the first line of a wide file is none of values: names that are numbers are whole and rise evenly, as
    years do, or are dates.

    Raises:
        UserError: they are others.
    """
    found = [name for name in names if re.fullmatch(NAME, name)]
    whole = [int(name) for name in found if re.fullmatch(r"\d+", name)]
    evenly = len(whole) == len(found) and len(set(numpy.diff(whole))) < 2
    if table.lines is not None and found and not evenly and not all(map(is_date, found)):
        raise UserError(
            f"{table.name}: the first line has {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}; "
            f"data.header=true takes them for the names of columns, data.header=false for values"
        )


def perhaps_times(names: Sequence[str], values: numpy.ndarray, groups: Sequence[numpy.ndarray]) -> list[str]:
    """What to say of columns that may be the time, where nobody says which it is."""
    parts = [name for name in names if name.lower() in DATE_PARTS]
    if len(parts) > 1:
        together = f"a column that has the whole date can be data.time ({', '.join(parts)} are read as numbers)"
        return [together]
    differences = numpy.concatenate([numpy.diff(values[rows], axis=0) for rows in groups])
    return [
        f"the column {name} rises from row to row; if it is the time, data.time={name}"
        for name, apart in zip(names, differences.T, strict=True)
        if len(apart) >= RISING and (apart > 0).all()
    ]


def by_steps(table: Table, series: str, static: Sequence[str]) -> Table:
    """The numbers of series that are rows of a table, below each other in the column "value", each to its last.

    Raises:
        UserError: two rows have the same name.
    """
    import polars

    frame = table.frame.with_row_index("row of the file")
    twice = frame[series].is_duplicated()
    if twice.any():
        row = int(twice.arg_max())
        raise UserError(f"{table.where(row)}: several rows are called {frame[series][row]}, and each is to be a series")
    numbers = frame.unpivot(index=["row of the file", series, *static], variable_name=STEP, value_name="value")
    numbers = numbers.with_row_index("place")
    last = numbers.drop_nulls("value").group_by("row of the file").agg(polars.max("place").alias("last"))
    numbers = numbers.join(last, on="row of the file").filter(polars.col("place") <= polars.col("last"))
    numbers = numbers.sort("row of the file", "place")
    if len(last) < len(frame):
        table.notes.append(f"{len(frame) - len(last):,} rows without numbers left out")
    lines = None if table.lines is None else [table.lines[row] for row in numbers["row of the file"]]
    return Table(table.name, numbers.select(series, *static, STEP, "value"), lines, table.notes)


def ended(series: Series, targets: Sequence[int]) -> Series:
    """A series to its last step that has a target, with the rows behind it in `after`."""
    with_target = numpy.isfinite(series.values[:, list(targets)]).any(1).nonzero()[0]
    steps = 1 + int(with_target[-1]) if len(with_target) else 0
    behind = len(series.values) - steps
    if not steps or not behind:
        return series
    wall, clock = series.wall, series.clock
    if clock is not None and clock.step is not None:
        at = clock.at - behind * clock.step.size if clock.step.kind == "time" else clock.at
        clock = replace(clock, at=at, wall=None if wall is None else wall[steps - 1])
    values, after = series.values[:steps], series.values[steps:]
    return series._replace(values=values, clock=clock, wall=None if wall is None else wall[:steps], after=after)


def spread(wall: numpy.ndarray, places: numpy.ndarray) -> numpy.ndarray:
    """The times of all steps from those of some, at places that rise."""
    steps = numpy.arange(places[0], places[-1] + 1)
    return numpy.interp(steps, places, wall.astype("int64")).round().astype("datetime64[us]")


def one_value(table: Table, column: str, rows: numpy.ndarray, name: str) -> str:
    """What all rows of a series have in a column.

    Raises:
        UserError: they have several values.
    """
    values = table.frame[column][rows].drop_nulls().unique(maintain_order=True)
    if len(values) > 1:
        of_series = f" of the series {name}" if name else ""
        raise UserError(
            f"{table.name}: data.static: the rows{of_series} have {len(values):,} values in the column {column} "
            f"({values[0]!r}, {values[1]!r}, …); a static column has one for each series"
        )
    return str(values[0]).strip() if len(values) else ""


def rows_by_name(table: Table, series: str | None) -> dict[str, numpy.ndarray]:
    """The rows of each series, in the order of the file."""
    if series is None:
        return {"": numpy.arange(table.frame.height)}
    column = table.frame[series]
    if column.null_count():
        row = int(column.is_null().arg_max())
        raise UserError(f"{table.where(row)}: the column {series}, which tells series apart, is empty")
    groups = column.rename("name").to_frame().with_row_index("row").group_by("name", maintain_order=True).agg("row")
    return {str(name).strip(): numpy.array(rows) for name, rows in groups.iter_rows()}


def pieces(
    times: Times,
    rows: numpy.ndarray,
    name: str,
    table: Table,
    time: str,
    gaps: Gaps,
    groups: Sequence[numpy.ndarray],
) -> tuple[list[int], Step | None, numpy.ndarray]:
    """Where a series is cut, the usual time of a step, and which step each row is.

    Args:
        times: of all rows.
        rows: those of the series.
        name: of the series.
        table: for messages.
        time: the column of the time.
        gaps: as for `read_series`.
        groups: the rows of every series.

    Raises:
        UserError: time does not rise, or stamps are missing and gaps are refused.
    """
    if len(rows) == 1:
        return [0, 1], None, numpy.zeros(1, dtype=int)
    at = times.at[rows]
    stamps = table.frame[time]
    of_series = f" of the series {name}" if name else ""
    apart = numpy.diff(at)
    if (apart <= 0).any():
        here = int((apart <= 0).argmax()) + 1
        advice = advice_on_order(times, rows, here, table, time, len(groups))
        raise UserError(
            f"{table.where(int(rows[here]))}: the time {stamps[int(rows[here])]}{of_series} is not after "
            f"{stamps[int(rows[here - 1])]}, the one before it; {advice}"
        )
    step, lengths = steps_of(None if times.wall is None else times.wall[rows], at)
    behind_gaps = (lengths > LONGER).nonzero()[0] + 1
    if len(behind_gaps) and gaps == "refuse":
        here = int(behind_gaps[0])
        words = shown(step, times.write if times.wall is None else None)
        by_clock = step.kind == "time" and len(behind_gaps) < 3
        zone = f"; {ZONE}" if by_clock and clocks_change(times, int(rows[here - 1])) else ""
        raise UserError(
            f"{table.where(int(rows[here]))}: time stamps are missing between {stamps[int(rows[here - 1])]} and "
            f"{stamps[int(rows[here])]}{of_series} (a step is {words}; {len(behind_gaps):,} gaps in all); "
            f"data.gaps=split begins a new series there, fill makes them steps without numbers, keep reads on{zone}"
        )
    places = numpy.arange(len(rows))
    if gaps == "fill":
        places = numpy.concatenate([[0], numpy.maximum(1, lengths.round()).cumsum()]).astype(int)
        if places[-1] >= MOST_FILLED * len(rows):
            raise UserError(
                f"{table.name}: the column {time}{of_series}: data.gaps=fill would make {places[-1] + 1:,} steps of "
                f"{len(rows):,} rows; data.gaps=split begins a new series where stamps are missing"
            )
    return [0, *(behind_gaps.tolist() if gaps == "split" else []), len(rows)], step, places


def advice_on_order(times: Times, rows: numpy.ndarray, here: int, table: Table, time: str, series: int) -> str:
    """What to do about a time that is not after the one before it."""
    same = times.at[rows[here]] == times.at[rows[here - 1]]
    if series == 1:
        _, counts = numpy.unique(times.at[rows], return_counts=True)
        if (counts > 1).mean() > 0.5:
            names = [name for name in table.frame.columns if name != time and is_key(table, name, time)]
            which = f"data.series={names[0]}" if names else "data.series=…"
            return f"most times come more than once: if there are several series in the file, {which} tells them apart"
    if clocks_change(times, int(rows[here - 1])):
        return ZONE
    return "leave one of the two out" if same else "sort the file by time"


def is_key(table: Table, name: str, time: str) -> bool:
    """Whether a column tells rows of the same time apart, and has fewer values than rows."""
    frame = table.frame.select(name, time)
    return frame.is_unique().all() and 1 < frame[name].n_unique() <= frame.height // 2


def clocks_change(times: Times, row: int) -> bool:
    """Whether a time without a zone is in the night of a Sunday in spring or autumn."""
    if times.wall is None or times.zone is not None:
        return False
    time: Any = times.wall[row].astype(object)
    return time.weekday() == 6 and time.hour <= 3 and time.month in (3, 4, 9, 10, 11)
