"""Series of numbers from CSV and Parquet files."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy

from unroll.errors import UserError, require

Gaps = Literal["refuse", "split", "keep"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
LONGER = 1.5  # a step that takes so many times the usual one has a gap in it


class Series(NamedTuple):
    """Steps that follow each other.

    Attributes:
        name: what tells it from the other series of the file; "" for the only one.
        values: float64 `[steps, columns]`.
        last_time: the time of the last step, a number or a datetime; None without a time column.
        step: the usual time from one step to the next.
    """

    name: str
    values: numpy.ndarray
    last_time: Any = None
    step: Any = None


def read_series(
    path: str | Path, columns: Sequence[str] | None, series: str | None, time: str | None, gaps: Gaps
) -> tuple[list[str], list[Series]]:
    """The series of a file, and their columns.

    Args:
        path: a `.csv` or `.tsv` file with a line of names, compressed or not, or a `.parquet` file.
        columns: those to read; None for all but `series` and `time`.
        series: the column that tells series apart; None if the file is one series.
        time: the column of the time, numbers or dates, rising within each series; None if there is none.
        gaps: where time stamps are missing: "refuse" the file, "split" the series in two, or "keep" it together.

    Raises:
        UserError: the file can't be read, a column is missing, a value is no number, or time does not rise evenly.
    """
    table, first_line = read_table(Path(path))
    others = [name for name in (series, time) if name is not None]
    chosen = [name for name in table.columns if name not in others] if columns is None else list(columns)
    for name in (*chosen, *others):
        if name not in table.columns:
            raise UserError(f"{path}: there is no column {name}; choose from: {', '.join(table.columns)}")
    if not chosen:
        raise UserError(f"{path}: has no column of numbers")
    if table.is_empty():
        raise UserError(f"{path}: has no rows")
    where = Lines(str(path), first_line)
    values = numpy.stack([numbers(table[name], where) for name in chosen], axis=1)
    times = None if time is None else time_stamps(table[time], where)
    found: list[Series] = []
    for name, rows in rows_by_name(None if series is None else table[series], table.height, where).items():
        cuts, step = [0, len(rows)], None
        if times is not None:
            cuts, step = pieces(times.gather(rows), rows, name, where, gaps)
        for start, stop in pairwise(cuts):
            part = rows[start:stop]
            found.append(Series(name, values[part], None if times is None else times[int(part[-1])], step))
    return chosen, found


class Lines(NamedTuple):
    """Names a row of a file in messages."""

    path: str
    first: int | None  # the line of the first row; None in files without lines

    def __call__(self, row: int) -> str:
        return f"{self.path}, row {row + 1}" if self.first is None else f"{self.path}, line {row + self.first}"


def read_table(path: Path) -> tuple[Any, int | None]:
    """The file as a polars DataFrame, text files as strings, and the line of its first row, if it has lines."""
    require("a file of numbers", "app", "polars")
    import polars

    kinds = [suffix for suffix in path.suffixes[-2:] if suffix in (*SEPARATORS, ".parquet")]
    if not kinds:
        raise UserError(f"{path}: must be a .csv, .tsv or .parquet file")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        if kinds[-1] == ".parquet":
            return polars.read_parquet(path), None
        return polars.read_csv(path, separator=SEPARATORS[kinds[-1]], infer_schema=False), 2
    except (polars.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise UserError(f"{path}: can't be read ({reason})") from None


def numbers(column: Any, where: Lines) -> numpy.ndarray:
    """A column's values, float64 `[rows]`.

    Raises:
        UserError: one is not a finite number.
    """
    import polars

    stripped = column.str.strip_chars() if column.dtype == polars.String else column
    try:
        values = stripped.cast(polars.Float64, strict=False).to_numpy()
    except polars.exceptions.PolarsError:
        raise UserError(f"{where.path}: the column {column.name} holds {column.dtype}, not numbers") from None
    wrong = ~numpy.isfinite(values)
    if wrong.any():
        row = int(wrong.argmax())
        found = "no number" if column[row] in (None, "") else f"{column[row]!r}, not a number"
        raise UserError(
            f"{where(row)}: the column {column.name} has {found} ({wrong.sum():,} in all); fill them or leave them out"
        )
    return values


def time_stamps(column: Any, where: Lines) -> Any:
    """The times of all rows, as a polars Series of numbers or datetimes.

    Raises:
        UserError: one is missing or can't be read.
    """
    import polars

    times = column
    if column.dtype == polars.String:
        times = column.str.strip_chars().cast(polars.Float64, strict=False)
        if times.is_null().all():
            try:
                times = column.str.to_datetime(strict=False)
            except polars.exceptions.PolarsError:  # it knows no format that fits
                times = column.cast(polars.Null, strict=False)
    if times.null_count():
        row = int(times.is_null().arg_max())
        found = "is missing" if column[row] in (None, "") else f"{column[row]!r} can't be read"
        raise UserError(f"{where(row)}: the time stamp in the column {column.name} {found}")
    return times


def rows_by_name(column: Any, count: int, where: Lines) -> dict[str, numpy.ndarray]:
    """The rows of each series, in the order of the file."""
    if column is None:
        return {"": numpy.arange(count)}
    if column.null_count():
        row = int(column.is_null().arg_max())
        raise UserError(f"{where(row)}: the column {column.name}, which tells series apart, is empty")
    groups = column.rename("name").to_frame().with_row_index("row").group_by("name", maintain_order=True).agg("row")
    return {str(name): numpy.array(rows) for name, rows in groups.iter_rows()}


def pieces(times: Any, rows: numpy.ndarray, name: str, where: Lines, gaps: Gaps) -> tuple[list[int], Any]:
    """Where a series is cut, and the usual time of a step.

    Args:
        times: of the series' steps.
        rows: their rows in the file, for messages.

    Raises:
        UserError: time does not rise, or stamps are missing and gaps are refused.
    """
    steps = times.to_physical().to_numpy()[1:] - times.to_physical().to_numpy()[:-1]
    if len(steps) == 0:
        return [0, 1], None
    of_series = f" of the series {name}" if name else ""
    if (steps <= 0).any():
        at = int((steps <= 0).argmax()) + 1
        raise UserError(
            f"{where(rows[at])}: the time {times[at]}{of_series} is not after {times[at - 1]}, the one before it; "
            f"{'leave one of the two out' if steps[at - 1] == 0 else 'sort the file by time'}"
        )
    usual = numpy.median(steps)
    at_usual = int(numpy.abs(steps - usual).argmin())
    step = times[at_usual + 1] - times[at_usual]
    behind_gaps = (steps > LONGER * usual).nonzero()[0] + 1
    if len(behind_gaps) and gaps == "refuse":
        at = int(behind_gaps[0])
        raise UserError(
            f"{where(rows[at])}: time stamps are missing between {times[at - 1]} and {times[at]}{of_series} (a step is "
            f"{step}; {len(behind_gaps):,} gaps in all); data.gaps=split begins a new series there, "
            f"data.gaps=keep reads on"
        )
    cuts = [*behind_gaps.tolist()] if gaps == "split" else []
    return [0, *cuts, len(rows)], step
