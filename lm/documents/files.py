"""Documents with a class from tables and folders."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from typing_extensions import Unpack

from reading.folders import EMPTY, FOREIGN, Found, files_by_class, folders_in, parts_of
from reading.tables import ENDINGS_OF_TABLES, Form, Table, is_table, read_table
from reading.text import UTF_8, ending_of, read_text
from unroll.errors import UserError

Missing = Literal["refuse", "leave_out"]

NAMES = ("text", "label")  # of columns, by default
FEW = 0.1  # of the files in a folder: so many of another ending do not belong


class Document(NamedTuple):
    text: str
    label: str


class Documents(NamedTuple):
    """What is in a file or folder, and what of it was left out."""

    documents: list[Document]
    notes: list[str]


def read_documents(
    path: str, text: str, label: str, missing: Missing = "refuse", split: str = "train", **form: Unpack[Form]
) -> Documents:
    """The documents of a file, folder or data set.

    Args:
        path: a table, as for `read_table`, or a folder with a folder of text files for each class.
        text, label: the names of the columns.
        missing: where a row has no text or no class: "refuse" the file, or "leave_out" the row.
        split: of a data set, as for `read_table`.
        form: as for `read_table`.

    Raises:
        UserError: it can't be read, a column is missing, or a row has no text or no class.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        refuse_parts(folder)
        documents, notes = in_folder(folder, form.get("encoding", UTF_8))
        if (text, label) != NAMES:
            notes = [*notes, f"data.text={text} and data.label={label} not used: the names of folders are the classes"]
    elif is_table(path):
        table = read_table(path, (text, label), split=split, **form)
        documents, notes = in_table(table, text, label, missing)
    else:
        raise UserError(f"{path}: must be a {ENDINGS_OF_TABLES} file, or a folder with a folder per class")
    if not documents:
        needed = "; it must have a folder of text files for each class" if folder.is_dir() else ""
        raise UserError(f"{path}: has no documents{needed}")
    return Documents(documents, [f"{path}: {note}" for note in notes])


def in_table(table: Table, text: str, label: str, missing: Missing) -> Documents:
    table.require(text, label)
    table.require_one_spelling(label)
    texts, labels = (strings(table, name) for name in (text, label))
    documents, incomplete = [], []
    for row, (content, name) in enumerate(zip(texts, labels, strict=True)):
        if content and content.strip() and name and name.strip():
            documents.append(Document(content, name.strip()))
        else:
            incomplete.append(row)
    if incomplete and missing == "refuse":
        row = incomplete[0]
        column = text if not (texts[row] or "").strip() else label
        what = "the document is empty" if column == text else f"has no class in the column {label}"
        raise UserError(
            f"{table.where(row)}: {what}; leave it out (data.missing=leave_out leaves out all {len(incomplete):,} rows "
            f"without a text or a class)"
        )
    notes = list(table.notes)
    if incomplete:
        notes.append(f"rows left out, as they have no text or no class: {len(incomplete):,}")
    return Documents(documents, notes)


def strings(table: Table, name: str) -> list[str | None]:
    """The values of a column of strings, whole numbers, or yes and no, as strings.

    Raises:
        UserError: it is of another kind.
    """
    import polars

    column: Any = table.frame[name]
    kind = column.dtype
    if kind in (polars.String, polars.Categorical, polars.Enum, polars.Boolean, polars.Null) or kind.is_numeric():
        return column.cast(polars.String).to_list()
    raise UserError(f"{table.name}: the column {name} holds {kind}, not text")


def refuse_parts(folder: Path) -> None:
    """Checks that the folders in a folder are those of classes, not of training and validation."""
    parts = parts_of(folder)
    if len(parts) > 1 and folders_in(folder) == sorted(parts.values()):
        settings = " ".join(f"data.{part}={path}" for part, path in parts.items())
        raise UserError(f"{folder}: has a folder for each part, not for each class: {settings}")


def in_folder(folder: Path, encoding: str) -> Documents:
    found = of_one_kind(files_by_class(folder))
    contents = [read_text(file, encoding) for file in found.files]
    blank = {file for file, content in zip(found.files, contents, strict=True) if not content.strip()}
    kept = zip(contents, found.labels, strict=True)
    documents = [Document(content, label) for content, label in kept if content.strip()]
    note = found.without(EMPTY, blank).note()
    return Documents(documents, [note] if note else [])


def of_one_kind(found: Found) -> Found:
    """Files without the few whose ending is another than that of nearly all."""
    endings = [ending if re.fullmatch(r"\.[a-z]\w*", ending) else "" for ending in map(ending_of, found.files)]
    if not endings:
        return found
    common, count = Counter(endings).most_common(1)[0]
    if count < (1 - FEW) * len(endings):
        return found
    other = {file for file, ending in zip(found.files, endings, strict=True) if ending != common}
    return found.without(FOREIGN, other)
