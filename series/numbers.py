"""Columns of numbers as files write them: with a point or a comma, thousands apart, units below the names."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy

from reading.tables import Table
from series.times import is_date
from unroll.errors import UserError

Decimal = Literal[".", ","]

INDEX = ("Unnamed: 0", "__index_level_0__")  # of a data frame
BELOW = 3  # lines of units and the like below the names
MISSING = ("na", "n/a", "nan", "nil", "null", "none", "-", "--", "?", "#n/a")
NUMBER = re.compile(r"\s*[-+]?(\d[\d.,]*|[.,]\d+)([eE][-+]?\d+)?\s*")

BLANKS = " \xa0\u202f'’"  # some have these between thousands

# A comma before decimals: 1,5  1234,567  0,123  1.234,5
BEFORE_DECIMALS = r"^[-+]?(\d*,(\d{1,2}|\d{4,})|\d{4,},\d+|0*,\d+|\d{1,3}(\.\d{3})+,\d+)([eE][-+]?\d+)?$"
# One between thousands: 1,234,567  1,234.5; and a point before decimals: 1.5
BETWEEN_THOUSANDS = r"^[-+]?(\d{1,3}(,\d{3})+(\.\d*|,\d{3})|\d*\.\d+([eE][-+]?\d+)?)$"


def without_units(table: Table, chosen: Sequence[str], time: str | None) -> None:
    """Leaves out rows below the names that have no number, such as one of units, where those below them have some."""
    import polars

    if table.lines is None or any(table.frame[name].dtype != polars.String for name in chosen):
        return
    first = [row for row in table.frame.select(chosen)[: BELOW + 1].rows() if any(value is not None for value in row)]
    numeric = [any(NUMBER.fullmatch(value) for value in row if value is not None) for row in first]
    for _ in range(BELOW):
        if len(numeric) < 2 or numeric[0] or not any(numeric):
            return
        row = table.frame.row(0, named=True)
        texts = [row[name] for name in [*chosen, *([time] if time else [])] if row[name] is not None]
        if any(text.lower() in MISSING for text in texts) or (time and any(map(str.isdigit, row[time] or ""))):
            return
        table.notes.append(f"line {table.lines[0]} left out, as it has no numbers ({', '.join(texts)})")
        table.frame, table.lines, numeric = table.frame[1:], table.lines[1:], numeric[1:]


def decimal_sign(table: Table, chosen: Sequence[str]) -> Decimal:
    """The sign before decimals: a comma where numbers have one that can't stand for thousands.

    Raises:
        UserError: it can be either.
    """
    import polars

    columns = [table.frame[name] for name in chosen if table.frame[name].dtype == polars.String]
    texts = {column.name: column.str.replace_all(f"[{BLANKS}]", "") for column in columns}
    with_comma = {name: text.str.contains(r"\d,\d").fill_null(False) for name, text in texts.items()}
    if not any(column.any() for column in with_comma.values()):
        return "."
    if any(text.str.contains(BEFORE_DECIMALS).any() for text in texts.values()):
        return ","
    if any(text.str.contains(BETWEEN_THOUSANDS).any() for text in texts.values()):
        return "."
    name, column = next((name, column) for name, column in with_comma.items() if column.any())
    row = int(column.arg_max())
    raise UserError(
        f"{table.where(row)}: the column {name} has {table.frame[name][row]!r}; data.decimal=',' reads the comma as "
        f"the sign before decimals, data.decimal=. as one between thousands"
    )


def numbers(table: Table, name: str, decimal: Decimal) -> numpy.ndarray:
    """A column's values, float64 `[rows]`; nan where one is missing, which is noted.

    Raises:
        UserError: one is something else than a number, or all are missing.
    """
    import polars

    column = table.frame[name]
    kind = column.dtype
    if not (kind == polars.String or kind.is_numeric() or kind in (polars.Boolean, polars.Null)):
        advice = f"; if it is the time, write data.time={name}" if kind in (polars.Date, polars.Datetime) else ""
        raise UserError(f"{table.name}: the column {name} holds {kind}, not numbers{advice}")
    plain = with_points(column, decimal) if kind == polars.String else column
    values: numpy.ndarray = plain.cast(polars.Float64, strict=False).to_numpy().copy()
    absent = column.is_null() | (
        column.str.strip_chars().str.to_lowercase().is_in(MISSING).fill_null(False)
        if kind == polars.String
        else column.is_nan()
        if kind.is_float()
        else False
    )
    missing = absent.to_numpy()
    wrong = ~numpy.isfinite(values) & ~missing
    if wrong.any():
        row = int(wrong.argmax())
        found = f"{column[row]!r}, not a number ({wrong.sum():,} in all)"
        advice = advice_on(column[row], name, table) if wrong.mean() > 0.5 else "fill them, or leave the fields empty"
        raise UserError(f"{table.where(row)}: the column {name} has {found}; {advice}")
    if missing.all():
        raise UserError(f"{table.name}: the column {name} has no number; leave it out by data.columns=[…]")
    if missing.any():
        values[missing] = numpy.nan
        row = int(missing.argmax())
        table.notes.append(f"the column {name} has no number in {missing.sum():,} rows, from {where_in(table, row)} on")
    return values


def where_in(table: Table, row: int) -> str:
    """A row within its file."""
    return table.where(row).removeprefix(f"{table.name}, ")


def with_points(column: Any, decimal: Decimal) -> Any:
    """Strings with a point before decimals, and nothing between thousands."""
    between = "," if decimal == "." else "."
    text = column.str.strip_chars()
    for sign in (*BLANKS, between):
        thousands = rf"^[-+]?\d{{1,3}}({re.escape(sign)}\d{{3}})+({re.escape(decimal)}\d*)?$"
        apart = text.str.contains(thousands).fill_null(False)
        if apart.any():
            text = text.zip_with(~apart, text.str.replace_all(sign, "", literal=True))
    return text.str.replace(",", ".", literal=True) if decimal == "," else text


def advice_on(value: Any, name: str, table: Table) -> str:
    """What to do about a column of something else than numbers."""
    if isinstance(value, str) and value.lower() not in MISSING:
        if is_date(value) and any(map(str.isdigit, value)):
            return f"if it is the time, write data.time={name}"
        others = [other for other, found in table.frame.row(0, named=True).items() if NUMBER.fullmatch(str(found))]
        return f"name the columns of numbers, as in data.columns=[{','.join(others) or '…'}]"
    return "fill them or leave them out"
