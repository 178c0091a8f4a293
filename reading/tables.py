"""Tables: CSV, TSV, JSON lines, Parquet and Arrow files, and data sets of Hugging Face, read by one reader.

What a text file leaves open, the separator, quotes and a line of names, is found; where two readings are as good, the
one that is meant is asked for. What is left out is said in `Table.notes`.
"""

import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from reading.text import UTF_8, ending_of, read_text, refuse_device
from unroll.errors import ArgumentError, UserError, require

Quotes = Literal["double", "single", "backslash", "none"]

SEPARATED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}  # the separator that is tried first
LINES = (".jsonl", ".ndjson", ".json")
BINARY = (".parquet", ".arrow", ".feather")
SEPARATORS = (",", ";", "\t", "|")
NAMES_OF_SEPARATORS = {"tab": "\t", "\\t": "\t", "blank": " "}
ENDINGS_OF_TABLES = ".csv, .tsv, .jsonl or .parquet"
DATASET = "hf:"
PREAMBLE = 30  # lines in which a line of names that has all that are wanted is looked for
ESCAPED = "\ue000"  # stands for a quote behind a backslash
AS_THEY_ARE = "quotes are part of the values"
TOO_LONG = "a number of too many digits"
HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair
NO_NAMES = "no line of names: the columns are called 1, 2, …"
LOOKED_AT = 100  # lines that the separator is found in
NUMBER = re.compile(r"\s*[-+]?(\d[\d,.]*|\.\d+)([eE][-+]?\d+)?\s*")
DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([ T]\d.*)?\s*")


class Form(TypedDict, total=False):
    """How a text file is read, where that is not to be found: arguments of `read_table`."""

    encoding: str
    separator: str | None
    quotes: Quotes | None
    header: bool | None


@dataclass
class Table:
    """The rows of a file.

    Attributes:
        name: of the file.
        frame: a polars DataFrame; of text files its columns are strings, and null where there is nothing.
        lines: the line that each row begins in; None in files without lines.
        notes: what was left out or given a name, for the user.
        unnamed: columns without a name in the file, called by their number from 1.
    """

    name: str
    frame: Any
    lines: Sequence[int] | None = None
    notes: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    def where(self, row: int) -> str:
        """The place of a row, for messages: its line, or its number from 1 on; in data sets from 0 on, as there."""
        if self.lines is not None:
            return f"{self.name}, line {self.lines[row]}"
        return f"{self.name}, row {row if self.name.startswith(DATASET) else row + 1}"

    def require(self, *names: str) -> None:
        """Checks that there are these columns.

        Raises:
            UserError: one is missing.
        """
        for name in names:
            if name not in self.frame.columns:
                untitled = f" ({NO_NAMES})" if NO_NAMES in self.notes else ""
                choices = ", ".join(self.frame.columns)
                raise UserError(f"{self.name}: there is no column {name}; choose from: {choices}{untitled}")

    def require_one_spelling(self, name: str) -> None:
        """Checks that no class, or other name, in a column is written in two ways, such as 1, 1.0 and true, or with
        characters that are not seen. Capitals that alone tell two apart are noted.

        Raises:
            UserError: one is.
        """
        import polars

        column = self.frame[name]
        if column.dtype != polars.String:
            return
        known: dict[Any, str] = {}
        in_capitals: dict[str, list[str]] = {}
        for value in column.drop_nulls().str.strip_chars().unique(maintain_order=True):
            first = known.setdefault(number_or_text(value), value)
            if first != value:
                rows = [int((column.str.strip_chars() == one).fill_null(False).arg_max()) for one in (value, first)]
                place = self.where(rows[1]).removeprefix(f"{self.name}, ")
                one, other = (text if text.isascii() else ascii(text) for text in (value, first))
                raise UserError(
                    f"{self.where(rows[0])}: the column {name} has {one}, and {other} in {place}; write it one way"
                )
            in_capitals.setdefault(value.upper(), []).append(value)
        if alike := [" and ".join(values) for values in in_capitals.values() if len(values) > 1]:
            more = f", as are {len(alike) - 1:,} more" if len(alike) > 1 else ""
            self.notes.append(f"{alike[0]} in the column {name} are told apart{more}")


def is_table(path: str) -> bool:
    """Whether a name is that of a table, by its ending."""
    return path.startswith(DATASET) or ending_of(Path(path)) in (*SEPARATED, *LINES, *BINARY)


def read_table(
    path: str,
    wanted: Sequence[str] = (),
    *,
    split: str = "train",
    encoding: str = UTF_8,
    separator: str | None = None,
    quotes: Quotes | None = None,
    header: bool | None = None,
) -> Table:
    """The table in a file.

    Args:
        path: a file, compressed or not, or `hf:PATH` or `hf:PATH:SPLIT` of a data set of Hugging Face.
        wanted: names of columns that it is known to have: they help to find the line of names and the separator.
        split: of a data set with several splits, unless PATH names one.
        encoding: of text files, as Python names it; a byte order mark overrules it.
        separator: between the values of a line, or "tab"; None to find it.
        quotes: around values that have a separator in them: "double", doubled within a value; "backslash", double ones
            behind a backslash within a value; "single"; "none". None to find them.
        header: whether the first line has the names of columns; None to find it. Without one they are "1", "2", ….

    Raises:
        UserError: there is no such file, it is no table, or can be read in two ways.
    """
    require("a table", "app", "polars")
    file = Path(path).expanduser()
    ending = ending_of(file)
    refuse_device(file)
    if path.startswith(DATASET):
        from reading.datasets import read_dataset

        table = Table(path, without_nan(read_dataset(path, split)))
    elif not file.exists():
        raise UserError(f"{path}: there is no such file")
    elif ending in BINARY:
        table = Table(path, without_nan(read_binary(file, ending)))
    elif ending in LINES:
        table = read_objects(read_text(file, encoding), path, wanted)
    else:
        separator = NAMES_OF_SEPARATORS.get(separator or "", separator)
        if separator is not None and len(separator) != 1:
            raise ArgumentError("separator", separator, "one character, or tab, or blank")
        text, first_choice = read_text(file, encoding), SEPARATED.get(ending, ",")
        return Delimited(path, text, wanted, first_choice, separator, quotes, header).table()
    typed = {"separator": separator, "quotes": quotes, "header": header}
    if unused := [f"data.{name}" for name, value in typed.items() if value is not None]:
        table.notes.append(f"{', '.join(unused)} not used, as only .csv and .tsv files need it")
    return table


def read_binary(path: Path, ending: str) -> Any:
    import polars

    try:
        return polars.read_parquet(path) if ending == ".parquet" else polars.read_ipc(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise UserError(f"{path}: can't be read ({reason})") from None


def without_nan(frame: Any) -> Any:
    """The same with nothing where there is no number."""
    import polars

    return frame.with_columns(polars.selectors.float().fill_nan(None))


# JSON lines


def read_objects(text: str, name: str, wanted: Sequence[str]) -> Table:
    """The objects of a text: one a line, or one array of them. Only line ends end lines."""
    table = Table(name, None)
    objects: list[Any] = []
    if text.lstrip().startswith("["):
        try:
            objects = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{name}, line {error.lineno}: not JSON ({error.msg})") from None
        except RecursionError:
            raise UserError(f"{name}: not a list of objects; an object a line is") from None
        except ValueError:
            raise UserError(f"{name}: not JSON ({TOO_LONG})") from None
    else:
        table.lines = lines = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                lines.append(number)
                try:
                    objects.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    reason = getattr(error, "msg", TOO_LONG if isinstance(error, ValueError) else "nested too deeply")
                    raise UserError(f"{name}, line {number}: not JSON ({reason}); an object a line is") from None
    for row, entry in enumerate(objects):
        if not isinstance(entry, dict):
            raise UserError(f"{table.where(row)}: must be an object with {' and '.join(wanted) or 'names and values'}")
        for key in wanted:
            if isinstance(entry.get(key), (list, dict)):
                raise UserError(f"{table.where(row)}: {key} must be one value, not {type(entry[key]).__name__}")
    table.frame = frame_of(objects, table)
    return table


def frame_of(objects: Sequence[dict[str, Any]], table: Table) -> Any:
    """A column for each key: of numbers where all values are, else of strings; null where there is none.

    Raises:
        UserError: a value is no text.
    """
    import polars

    columns = []
    for key in dict.fromkeys(key for entry in objects for key in entry):
        if HALF.search(key):
            raise UserError(f"{table.name}: a name of a column has half of a surrogate pair in it, which is no text")
        values = [None if isinstance(value := entry.get(key), float) and value != value else value for entry in objects]
        kinds = {type(value) for value in values if value is not None}
        if kinds and kinds <= {int, float} and all(abs(value or 0) < 2**63 for value in values if type(value) is int):
            columns.append(polars.Series(key, values, polars.Float64 if float in kinds else polars.Int64, strict=False))
            continue
        strings = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        try:
            columns.append(polars.Series(key, strings, polars.String))
        except UnicodeEncodeError:
            row = next(row for row, value in enumerate(strings) if value and HALF.search(value))
            raise UserError(f"{table.where(row)}: {key} has half of a surrogate pair in it, which is no text") from None
    return polars.DataFrame(columns)


# Separated values


class Row(NamedTuple):
    line: int  # that it begins in
    last: int  # and ends in
    values: list[str]


class Unclear(Exception):
    """A reading does not fit the file; the message says where and why."""


class Delimited:
    """A text of values with a separator, and how it is to be read (arguments as for `read_table`)."""

    def __init__(
        self,
        name: str,
        text: str,
        wanted: Sequence[str],
        first_choice: str,
        separator: str | None,
        quotes: Quotes | None,
        header: bool | None,
    ) -> None:
        self.name = name
        self.wanted = set(wanted)
        self.quotes = quotes
        self.header = header
        self.notes: list[str] = []
        self.lines = re.split(r"\r\n|\n|\r", text)
        csv.field_size_limit(2**31 - 1)
        self.skipped = 0  # lines before the first of the table
        if hint := re.fullmatch(r"sep=(.)", self.lines[0].strip("\ufeff")):  # Excel's
            self.skipped, separator = 1, separator or hint[1]
        comments = self.skipped
        while self.skipped < len(self.lines) - 1 and self.lines[self.skipped].lstrip("\ufeff").startswith("#"):
            self.skipped += 1
        if not any(line.strip() for line in self.lines[self.skipped :]):
            raise UserError(f"{name}: the file is empty")
        self.separator = separator or self.found_separator(first_choice)
        if comments < self.skipped and self.has_names(self.lines[self.skipped - 1]):
            self.skipped -= 1
            self.lines[self.skipped] = self.lines[self.skipped].lstrip("\ufeff# ")
        if comments < self.skipped:
            self.notes.append(f"{self.skipped - comments} lines of comments left out")
        self.find_header()

    def has_names(self, comment: str) -> bool:
        """Whether a line that begins with a number sign, the last one before the table, has the names of columns."""
        names = clean(self.split(comment.lstrip("\ufeff# "), self.separator))
        following = self.split(self.lines[self.skipped], self.separator)
        if self.wanted:
            return self.wanted <= set(names)
        return len(names) == len(following) > 1 and any(map(is_number_or_date, following))

    def split(self, line: str, separator: str, quotes: str | None = None) -> list[str]:
        """The values of a line by itself."""
        return next(csv.reader([line], **dialect(separator, quotes or self.quotes or "double", strict=False)), [])

    def found_separator(self, first_choice: str) -> str:
        """The separator that the first lines have, as many times in each."""
        sample = [line for line in self.lines[self.skipped : self.skipped + LOOKED_AT] if line.strip()]
        order = (first_choice, *(one for one in SEPARATORS if one != first_choice))
        if self.wanted:
            for separator in order:
                if any(self.wanted <= set(clean(self.split(line, separator))) for line in sample[:PREAMBLE]):
                    return separator
        scores = {}
        for separator in (*order, " "):
            rows = [self.split(line, separator) for line in sample]
            width, count = Counter(map(len, rows)).most_common(1)[0]
            read = sum(is_number_or_date(value) for row in rows for value in row) / width
            scores[separator] = (count, read) if width > 1 else (0, 0.0)
        best = max(order, key=scores.__getitem__)  # the first of the best
        return " " if scores[best] == (0, 0.0) and scores[" "][0] == len(sample) else best

    def find_header(self) -> None:
        """The line of names: the first one, or the first that has all that are wanted."""
        if self.header is False or not self.wanted:
            return
        for number in range(self.skipped, min(self.skipped + PREAMBLE, len(self.lines))):
            if self.wanted <= set(clean(self.split(self.lines[number], self.separator))):
                if passed := sum(bool(line.strip()) for line in self.lines[self.skipped : number]):
                    self.notes.append(f"{passed} lines before that of the names left out")
                self.skipped = number
                return

    def table(self) -> Table:
        import polars

        names, columns, lines = self.at_once() or self.row_by_row()
        table = Table(self.name, None, lines, self.notes)
        found = []
        for number, (name, values) in enumerate(zip(names, columns, strict=True), start=1):
            column = polars.Series(name or str(number), values, polars.String)
            column = column.set(column.str.strip_chars() == "", None)
            if name == "" and column.is_null().all():
                self.notes.append(f"column {number}, which has neither name nor values, left out")
                continue
            table.unnamed += [] if name else [column.name]
            found.append(column)
        table.frame = polars.DataFrame(unique(found, self.name, self.wanted, self.notes))
        return table

    def at_once(self) -> tuple[list[str], Sequence[Any], Sequence[int]] | None:
        """What `row_by_row` makes, where each line is plainly a row: in a seventh of the time, in half the memory."""
        import polars

        lines = self.lines[self.skipped :]
        lines = lines if lines[-1] else lines[:-1]
        separator, apart = self.separator, lines[0].count(self.separator)
        plain = self.quotes in (None, "none") and separator.isascii() and separator != " " and apart
        if not plain or lines[0].startswith("\ufeff"):
            return None
        if any(
            line.count(separator) != apart or '"' in line or "\0" in line or not line.replace(separator, "").strip()
            for line in lines
        ):
            return None
        frame = polars.read_csv(
            "\n".join(lines).encode(),
            has_header=False,
            infer_schema=False,
            separator=separator,
            quote_char=None,
        ).fill_null("")
        if separator != "\t":
            frame = frame.with_columns(polars.all().str.strip_chars_start(" "))
        first = Row(self.skipped + 1, self.skipped + 1, list(frame.row(0)))
        again = polars.all_horizontal(column == value for column, value in zip(frame[1:], first.values, strict=True))
        if polars.select(again).to_series().any():
            return None  # perhaps names that come again
        names, rows = self.named([first])
        with_names = not rows
        return names, frame[int(with_names) :].get_columns(), range(first.line + with_names, first.line + len(frame))

    def row_by_row(self) -> tuple[list[str], Sequence[Any], Sequence[int]]:
        """The names, the columns, and the line that each row begins in.

        Raises:
            UserError: the rows can't be read, or in two ways.
        """
        rows = self.read()
        if not rows:
            raise UserError(f"{self.name}: no row has a value")
        names, rows = self.named(rows)
        width = len(names)
        if short := next((row for row in rows if len(row.values) != width), None):
            advice = "data.separator=… says another"
            if self.separator == "," and len(short.values) == 2 * width and "".join(short.values).isdigit():
                value = ",".join(short.values[:2])
                needed = "data.separator=tab" if width == 1 else "another separator, or in quotes,"
                advice = f"with {needed} {value} is a number with a comma before decimals"
            raise UserError(
                f"{self.name}, line {short.line}: has {len(short.values)} values, and the line of names {width} "
                f"({shown_separator(self.separator)} separates them; {advice})"
            )
        rows = self.without_empty(rows, width)
        columns = list(zip(*(row.values for row in rows), strict=True)) if rows else [()] * width
        return names, columns, [row.line for row in rows]

    def read(self) -> list[Row]:
        """The rows, the line of names included, by the one reading that fits.

        Raises:
            UserError: none does, or two do.
        """
        if self.quotes is not None:
            try:
                return list(self.rows(self.quotes))
            except Unclear as error:
                raise UserError(f"{self.name}, {error}; data.quotes=none reads quotes as they are") from None
        if not any('"' in line for line in self.lines):
            return list(self.rows("none"))
        plain = list(self.rows("none"))
        is_plain = len({len(row.values) for row in plain}) == 1
        try:
            quoted = list(self.rows("double"))
        except Unclear as error:
            if is_plain and not mostly_quoted(plain):
                self.notes.append(AS_THEY_ARE)
                return plain
            try:
                if any('\\"' in line for line in self.lines):
                    return list(self.rows("backslash"))
                raise error
            except Unclear:
                raise UserError(f"{self.name}, {error}; data.quotes=none reads quotes as they are") from None
        joined = next((row for row in quoted if row.last > row.line), None)
        if joined is None or not is_plain:
            return quoted
        if self.separator == "\t":  # where quotes are rare, and what they would join is text
            self.notes.append(AS_THEY_ARE)
            return plain
        raise UserError(
            f"{self.name}, line {joined.line}: a quote opens here and closes in line {joined.last}; data.quotes=double "
            f"reads what is between as one value, data.quotes=none each line by itself"
        )

    def rows(self, quotes: str) -> Iterator[Row]:
        """The rows by one reading, without blank lines.

        Raises:
            Unclear: it does not fit.
        """
        lines = (f"{line.strip() if self.separator == ' ' else line}\n" for line in self.lines[self.skipped :])
        if quotes == "backslash":  # Python's reader is not strict about these
            lines = (line.replace('\\"', ESCAPED) for line in lines)
        reader = csv.reader(lines, **dialect(self.separator, quotes, strict=True))
        before = 0
        while True:
            try:
                values = next(reader, None)
            except csv.Error as error:
                line = self.skipped + before + 1
                reason = (
                    "a quote opens here and does not close"
                    if "unexpected end" in str(error)
                    else (f"a quote is followed by more than a separator (line {self.skipped + reader.line_num})")
                )
                raise Unclear(f"line {line}: {reason}") from None
            if values is None:
                return
            if len(values) > 1 or any(value.strip() for value in values):
                if quotes == "backslash":
                    values = [value.replace(ESCAPED, '"') for value in values]
                yield Row(self.skipped + before + 1, self.skipped + reader.line_num, values)
            before = reader.line_num

    def named(self, rows: list[Row]) -> tuple[list[str], list[Row]]:
        """The names of the columns, and the rows without that of the names."""
        first = rows[0]
        names = clean(first.values)
        width = max(len(row.values) for row in rows)
        if len(names) < width and all(len(row.values) == width and not row.values[-1] for row in rows[1:]):
            names += [""] * (width - len(names))  # a separator at the end of each line but the first
        if self.header is not None:
            has_names = self.header
        elif self.wanted & set(names):
            has_names = True
        else:
            has_names = not all(value == "" or is_number_or_date(value) for value in names)
            if not has_names and all(name.isdigit() for name in names) and len(set(names)) == width:
                raise UserError(
                    f"{self.name}, line {first.line}: has numbers alone ({', '.join(names)}); data.header=true takes "
                    f"them for the names of columns, data.header=false for values"
                )
        if has_names:
            return names, self.without_repeated(rows[1:], first, width)
        if self.header is None:
            self.notes.append(NO_NAMES)
        return [str(number) for number in range(1, width + 1)], rows

    def without_repeated(self, rows: list[Row], first: Row, width: int) -> list[Row]:
        """The rows without comments, and without the names that come again where files were joined."""
        comments = [row for row in rows if row.values[0].startswith("#") and len(row.values) != width]
        again = [row for row in rows if row.values == first.values]
        for what, some in (("of comments", comments), ("with the names of the columns again", again)):
            if some:
                self.notes.append(f"{len(some)} lines {what} left out, from line {some[0].line} on")
        left_out = {row.line for row in (*comments, *again)}
        return [row for row in rows if row.line not in left_out] if left_out else rows

    def without_empty(self, rows: list[Row], width: int) -> list[Row]:
        """The rows with something in them; in one column, a blank line between others is a row without a value."""
        if width == 1 and rows:
            by_line = {row.line: row for row in rows}
            blank = range(rows[0].line, rows[-1].line)
            covered = {line for row in rows for line in range(row.line, row.last + 1)}
            by_line |= {line: Row(line, line, [""]) for line in blank if line not in covered}
            return [by_line[line] for line in sorted(by_line)]
        filled = [row for row in rows if any(value.strip() for value in row.values)]
        if len(filled) < len(rows):
            self.notes.append(f"{len(rows) - len(filled)} rows without values left out")
        return filled


def mostly_quoted(rows: Sequence[Row]) -> bool:
    """Whether most of the values with a quote in them have one at either end."""
    values = [value for row in rows for value in row.values if '"' in value]
    return 2 * sum(len(value) > 1 and value[0] == value[-1] == '"' for value in values) > len(values)


def dialect(separator: str, quotes: str, strict: bool) -> dict[str, Any]:
    """The arguments of `csv.reader`."""
    settings: dict[str, Any] = {"delimiter": separator, "strict": strict, "skipinitialspace": separator != "\t"}
    if quotes == "none":
        return {**settings, "quoting": csv.QUOTE_NONE}
    return {**settings, "quotechar": "'" if quotes == "single" else '"'}


def is_number_or_date(value: str) -> bool:
    return bool(NUMBER.fullmatch(value) or DATE.fullmatch(value))


def number_or_text(value: str) -> Any:
    """A number for a name that is one, true or false; else what is seen of it."""
    seen = (" " if one.isspace() else one for one in unicodedata.normalize("NFC", value))
    plain = "".join(filter(str.isprintable, seen))
    plain = {"true": "1", "false": "0"}.get(plain.lower(), plain)
    return float(plain) if re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d+)?", plain) else plain


def clean(names: Sequence[str]) -> list[str]:
    return [re.sub(r"\s*\n\s*", " ", name.strip("\ufeff\xa0 \t\n\r")) for name in names]


def shown_separator(separator: str) -> str:
    return {"\t": "a tab", " ": "a blank"}.get(separator, separator)


def unique(columns: Sequence[Any], name: str, wanted: set[str], notes: list[str]) -> list[Any]:
    """Columns with a name each: a second `load` becomes `load_2`.

    Raises:
        UserError: it is wanted.
    """
    counts: Counter[str] = Counter()
    found = []
    taken = {column.name for column in columns}
    for column in columns:
        counts[column.name] += 1
        if counts[column.name] == 1:
            found.append(column)
            continue
        if column.name in wanted:
            raise UserError(f"{name}: two columns are called {column.name}; give one of them another name")
        new = next(one for number in range(2, 10**6) if (one := f"{column.name}_{number}") not in taken)
        taken.add(new)
        notes.append(f"a second column {column.name} is called {new}")
        found.append(column.rename(new))
    return found
