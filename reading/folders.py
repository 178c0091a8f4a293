"""Folders with a folder of files for each class, without what systems and programs leave in them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from unroll.errors import UserError

OF_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "__pycache__"}
HIDDEN, FOREIGN, EMPTY = "as they are hidden", "as they are of another kind", "as they are empty"
LINKS = "as they are links to folders"
PARTS = {"training": "train", "validation": "valid", "val": "valid", "dev": "valid", "testing": "test"}  # others' names
NAMED = 5  # files in a note


class Found(NamedTuple):
    """Files and the names of their classes, one for each; and what was left out, by the reason."""

    files: list[Path]
    labels: list[str]
    left_out: dict[str, list[Path]]

    def without(self, reason: str, files: set[Path]) -> "Found":
        """The same without some files."""
        kept = [(file, label) for file, label in zip(self.files, self.labels, strict=True) if file not in files]
        gone = [file for file in self.files if file in files]
        left_out = {**self.left_out, reason: [*self.left_out.get(reason, []), *gone]} if gone else self.left_out
        return Found([file for file, _ in kept], [label for _, label in kept], left_out)

    def note(self) -> str:
        """What was left out, for the user; empty if nothing was."""
        return "; ".join(note(reason, files) for reason, files in self.left_out.items() if files)


def note(reason: str, files: Sequence[Path]) -> str:
    """How many files were left out and why, with the names of some."""
    named = ", ".join(map(str, files[:NAMED])) + (", …" if len(files) > NAMED else "")
    return f"files left out, {reason}: {len(files):,} ({named})"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's or a program's own."""
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in OF_SYSTEMS


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, in order."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders of classes for training, validation and test in a folder, by "train", "valid" and "test".

    Raises:
        UserError: there are two for one of them, or the folder can't be read.
    """
    found: dict[str, Path] = {}
    try:
        for entry in folders_in(folder):
            part = PARTS.get(entry.name.lower(), entry.name.lower())
            if part not in PARTS.values() or not folders_in(entry):
                continue
            if part in found:
                raise UserError(f"{folder}: has {found[part].name} and {entry.name}; leave one of them")
            found[part] = entry
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from None
    return found


def files_by_class(folder: Path, belongs: Callable[[Path], bool] = lambda file: True) -> Found:
    """The files in the folder of each class, and in folders within it, in order.

    Left out are hidden files and folders, empty files, and those that do not belong.

    Args:
        folder: has a folder for each class.
        belongs: whether a file is of the kind that is looked for.

    Raises:
        UserError: the folder can't be read, or the name of a class can't be shown.
    """
    hidden: list[Path] = []
    foreign: list[Path] = []
    empty: list[Path] = []
    links: list[Path] = []
    found = Found([], [], {HIDDEN: hidden, FOREIGN: foreign, EMPTY: empty, LINKS: links})

    def refuse(error: OSError) -> None:
        if not isinstance(error, NotADirectoryError):  # a file beside the folders
            raise error

    def visible(parent: Path, names: Sequence[str]) -> list[str]:
        hidden.extend(parent / name for name in sorted(names) if is_hidden(name))
        return sorted(name for name in names if not is_hidden(name))

    try:
        entries = [entry.name for entry in folder.iterdir()]
        for of_class in visible(folder, entries):
            if not of_class.isprintable():
                raise UserError(f"{folder}: the folder {of_class!r} can't be shown as the name of a class; rename it")
            for parent, folders, names in os.walk(folder / of_class, onerror=refuse):
                folders[:] = visible(Path(parent), folders)
                links += (Path(parent, name) for name in folders if Path(parent, name).is_symlink())
                for file in (Path(parent, name) for name in visible(Path(parent), names)):
                    if not belongs(file):
                        foreign.append(file)
                    elif file.stat().st_size == 0:
                        empty.append(file)
                    else:
                        found.files.append(file)
                        found.labels.append(of_class)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from None
    return found
