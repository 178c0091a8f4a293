"""Columns of numbers as files write them: with a point or a comma, thousands apart, units below the names."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy

from reading.tables import Table
from series.times import readings
from unroll.errors import UserError

Decimal = Literal[".", ","]

STEP = "column of the file"  # in a table of series that were rows: where each number was
INDEX = ("Unnamed: 0", "__index_level_0__")  # of a data frame
BELOW = 3  # lines of units and the like below the names
MISSING = ("na", "n/a", "nan", "nil", "null", "none", "-", "--", "?", "#n/a")
NUMBER = re.compile(r"\s*[-+−]?(\d[\d.,]*|[.,]\d+)([eE][-+]?\d+)?\s*")
NUMBER_IN_SIGNS = re.compile(r"(?P<before>[^\w\s.,+-]*)\s*[-+]?[\d.,]*\d\s*(?P<behind>[^\d]*)")  # $5.00, 5 %, 5 kWh
NEGATIVE = re.compile(r"\(([\d.,]+)\)|([\d.,]+)-|[\u2010-\u2014]\s?([\d.,]+)")  # of accounts; with a dash
DATE = re.compile(r"\w*\d[-/.:, T]+\w+[-/.:, T]+\d.*")
BLANKS = " \xa0\u202f'’"  # some have these between thousands
MINUS = "−"
LARGEST = 1e150  # whose square is a number too


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
        if any(text.lower() in MISSING or re.match(r"\W*\d", text) for text in texts):
            return
        if time and any(map(str.isdigit, row[time] or "")):
            return
        table.notes.append(f"line {table.lines[0]} left out, as it has no numbers ({', '.join(texts)})")
        table.frame, table.lines, numeric = table.frame[1:], table.lines[1:], numeric[1:]


def spelling(decimal: Decimal) -> str:
    """The pattern of numbers with this sign before decimals. Between thousands is the other sign, or a blank; in India,
    commas are between hundreds too (1,23,456)."""
    point, other = re.escape(decimal), re.escape(between_thousands(decimal))
    groups = [rf"[1-9]\d{{0,2}}({sign}\d{{3}})+" for sign in (other, *BLANKS)]
    groups += [r"[1-9]\d?(,\d{2})+,\d{3}"] if decimal == "." else []
    plain = rf"(\d+({point}\d*)?|{point}\d+)([eE][-+]?\d+)?"
    return rf"^[-+]?({plain}|({'|'.join(groups)})({point}\d*)?)$"


def between_thousands(decimal: Decimal) -> Decimal:
    return "," if decimal == "." else "."


def stripped(column: Any) -> Any:
    return column.str.strip_chars().str.replace(MINUS, "-", literal=True)


def decimal_sign(table: Table, chosen: Sequence[str], known: Decimal | None = None) -> Decimal | None:
    """The sign before decimals: the one by which all numbers of the file can be read; None if no number has either.

    Args:
        table: the file.
        chosen: its columns of numbers.
        known: the sign in the training file, which decides where it can be either.

    Raises:
        UserError: none is, or it can be either.
    """
    import polars

    columns = [table.frame[name] for name in chosen if table.frame[name].dtype == polars.String]
    alone: dict[Decimal, list[tuple[str, int]]] = {".": [], ",": []}  # where numbers are that can be read by one alone
    either: list[tuple[str, int]] = []  # and where by both, as different ones
    perhaps: list[tuple[str, int]] = []  # of these: 1.200 beside 850
    for column in columns:
        text = stripped(column)
        by_point, by_comma = (text.str.contains(spelling(one)).fill_null(False) for one in alone)
        places = {".": by_point & ~by_comma, ",": by_comma & ~by_point}
        for one, where in alone.items():
            where += [(column.name, int(places[one].arg_max()))] if places[one].any() else []
        open_ones = by_point & by_comma & text.str.contains("[.,]").fill_null(False)
        if open_ones.any() and not (places["."] | places[","]).any():
            either.append((column.name, int(open_ones.arg_max())))
            if text.str.contains(r"^\d+$").any() and text.filter(open_ones).str.contains("[.].*0$").any():
                perhaps.append(either[-1])

    def value(place: tuple[str, int]) -> str:
        return repr(table.frame[place[0]][place[1]])

    def has(place: tuple[str, int]) -> str:
        return f"the column {in_file(table, *place)} has {value(place)}"

    if alone["."] and alone[","]:
        first, second = alone["."][0], alone[","][0]
        raise UserError(
            f"{table.where(first[1])}: {has(first)}, with a point before decimals, and {has(second)} with a comma "
            f"({where_in(table, second[1])}); write all one way, or leave columns of one way out: data.columns=[…]"
        )
    if not alone["."] and not alone[","]:
        asked = next((place for place in either if place in perhaps or "," in value(place)), None)
        if asked and not known:
            name, signs = ("comma", ("','", ".")) if "," in value(asked) else ("point", (".", "','"))
            raise UserError(
                f"{table.where(asked[1])}: {has(asked)}; data.decimal={signs[0]} reads the {name} as the sign before "
                f"decimals, data.decimal={signs[1]} as one between thousands"
            )
        return known or ("." if either else None)
    sign: Decimal = "," if alone[","] else "."
    between = between_thousands(sign)
    for place in either:
        if between in value(place):
            table.notes.append(f"{has(place)}, in which {between!r} is between thousands, as {has(alone[sign][0])}")
    return sign


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
    absent = column.is_null()
    if kind == polars.String:
        absent |= column.str.strip_chars().str.to_lowercase().is_in(MISSING).fill_null(False)
    missing = absent.to_numpy()
    wrong = ~numpy.isfinite(values) & ~missing
    if wrong.any():
        row = int(wrong.argmax())
        name = in_file(table, name, row)
        if STEP in table.frame.columns:
            wrong = wrong[(table.frame[STEP] == name).to_numpy()]
        found = f"{column[row]!r}, not a number ({wrong.sum():,} in all)"
        advice = advice_on(column[row], name, table, decimal, most=wrong.mean() > 0.5)
        raise UserError(f"{table.where(row)}: the column {name} has {found}; {advice}")
    large = numpy.abs(values) > LARGEST
    if large.any():
        row = int(large.argmax())
        name = in_file(table, name, row)
        raise UserError(
            f"{table.where(row)}: the column {name} has {values[row]:g}; the squares of such numbers are beyond "
            f"what a computer has: divide the column, or leave it out by data.columns=[…]"
        )
    if missing.all():
        raise UserError(f"{table.name}: the column {name} has no number; leave it out by data.columns=[…]")
    if missing.any():
        values[missing] = numpy.nan
        row = int(missing.argmax())
        table.notes.append(f"the column {name} has no number in {missing.sum():,} rows, from {where_in(table, row)} on")
    return values


def in_file(table: Table, name: str, row: int) -> str:
    """What the column of a number is called in the file."""
    return table.frame[STEP][row] if STEP in table.frame.columns else name


def where_in(table: Table, row: int) -> str:
    """A row within its file."""
    return table.where(row).removeprefix(f"{table.name}, ")


def with_points(column: Any, decimal: Decimal) -> Any:
    """Strings with a point before decimals, and nothing between thousands; null where they are no numbers."""
    text = stripped(column)
    text = text.set(~text.str.contains(spelling(decimal)).fill_null(False), None)
    for sign in (*BLANKS, between_thousands(decimal)):
        text = text.str.replace_all(sign, "", literal=True)
    return text.str.replace(",", ".", literal=True)


def advice_on(value: Any, name: str, table: Table, decimal: Decimal, most: bool) -> str:
    """What to do about a value that is no number.

    Args:
        value: what it is.
        name: of its column.
        table: for the names of other columns.
        decimal: the sign before decimals.
        most: whether most values of the column are no numbers.
    """
    if isinstance(value, str) and value.lower() not in MISSING:
        other = between_thousands(decimal)
        if negative := NEGATIVE.fullmatch(value.strip()):
            return f"write -{next(filter(None, negative.groups()))}"
        if re.search(spelling(other), value) and not re.search(spelling(decimal), value):
            return f"data.decimal={other!r} reads it, as {decimal!r} is between thousands then"
        if (found := NUMBER_IN_SIGNS.fullmatch(value)) and (around := found["before"] or found["behind"]):
            return f"write numbers alone, without {around.strip()!r}"
        if most and STEP in table.frame.columns:
            return f"data.static=[{name}] takes that column for what each series is"
        if most and (readings(value) or DATE.fullmatch(value)):
            return f"if it is the time, write data.time={name}"
        if most:
            others = [other for other, found in table.frame.row(0, named=True).items() if NUMBER.fullmatch(str(found))]
            return f"name the columns of numbers, as in data.columns=[{','.join(others) or '…'}]"
    return "fill them or leave them out" if most else "fill them, or leave the fields empty"
