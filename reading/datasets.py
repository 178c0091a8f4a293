"""Data sets of Hugging Face that are on this machine: saved ones, and folders of Parquet, Arrow, CSV or JSON files."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unroll.errors import UserError, require

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = {"train": ("train",), "valid": ("validation", "valid", "dev", "val"), "test": ("test",)}


def whole(path: str) -> tuple[Any, str | None]:
    """What a path names, a `datasets.Dataset` or `DatasetDict`, and the split that it chooses. Nothing is downloaded.

    Args:
        path: as for `load`.

    Raises:
        UserError: there is none, or it can't be read.
    """
    require(path, "datasets", "datasets")
    import datasets

    name = path.removeprefix("hf:")
    folder, chosen = Path(name).expanduser(), None
    if not folder.exists() and (named := re.fullmatch(r"(.+):([\w.]+)", name)):
        folder, chosen = Path(named[1]).expanduser(), named[2]
    if not folder.is_dir():
        raise UserError(
            f"{path}: there is no folder {folder}; one on the Hub comes onto this machine by "
            f"datasets.load_dataset(…).save_to_disk(FOLDER)"
        )
    refuse_addresses(folder, path)
    saved = any((folder / file).exists() for file in ("dataset_dict.json", "state.json"))
    try:
        found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(str(folder))
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split("\n")[0].split())
        raise UserError(f"{path}: not a data set that can be read ({type(error).__name__}: {reason})") from None
    if isinstance(found, datasets.Dataset) and chosen is not None:
        raise UserError(f"{path}: the data set has no splits; leave :{chosen} out")
    return found, chosen


def refuse_addresses(folder: Path, path: str) -> None:
    """Checks that the settings in a folder name files of the folder alone; the library would download others.

    Raises:
        UserError: they don't, or can't be read.
    """
    import yaml
    from huggingface_hub import DatasetCard

    found = []
    try:
        if (card := folder / "README.md").is_file():
            found.append(DatasetCard.load(card).data.to_dict())
        if (settings := folder / ".huggingface.yaml").is_file():
            found.append(yaml.safe_load(settings.read_text(encoding="utf-8")))
    except Exception as error:  # of many kinds
        raise UserError(f"{path}: its README.md or .huggingface.yaml can't be read ({type(error).__name__})") from None
    if re.search(r"://|::", repr([part.get("configs") for part in found if isinstance(part, dict)])):
        raise UserError(
            f"{path}: its settings name files elsewhere; nothing is downloaded, so put them into the folder"
        )


def has_split(path: str, split: str) -> bool:
    """Whether there is "train", "valid" or "test", beside others, in a data set of which no split is chosen."""
    found, chosen = whole(path)
    return chosen is None and isinstance(found, dict) and any(name in found for name in SPLITS[split])


def load(path: str, split: str) -> Any:
    """A `datasets.Dataset`. Nothing is downloaded.

    Args:
        path: `hf:FOLDER`, or `hf:FOLDER:SPLIT`; what `save_to_disk` wrote, or what `load_dataset` reads.
        split: "train", "valid" or "test", where there are several splits and the path names none.

    Raises:
        UserError: there is none, or there are other splits.
    """
    found, chosen = whole(path)
    if not isinstance(found, dict):
        return found
    names = [chosen] if chosen is not None else SPLITS[split]
    match = next((one for one in names if one in found), None)
    if match is None:
        folder = path.removesuffix(f":{chosen}")
        raise UserError(f"{path}: choose a split, as in {folder}:{next(iter(found))}; there are: {', '.join(found)}")
    return found[match]


def token_column(dataset: Any, column: str) -> "list[Tensor]":
    """The sequences of a column of lists of numbers, such as `input_ids`, for `unroll.Stream`. Nothing is copied: the
    tensors are parts of the data set's own memory, or of its mapped files, and must not be changed.

    Args:
        dataset: a `datasets.Dataset`; empty lists are left out.
        column: its name.

    Raises:
        UserError: there is no such column, or it holds something else; or the order of the data set is an index (after
            `shuffle`, `select` or `filter`).
    """
    import torch

    if column not in dataset.column_names:
        raise UserError(f"there is no column {column}; choose from: {', '.join(dataset.column_names)}")
    if dataset._indices is not None:
        raise UserError("the data set's order is an index, so its tokens are not in one piece: flatten_indices() first")
    found: list[Tensor] = []
    for chunk in dataset.data.column(column).chunks:
        try:
            if chunk.null_count or chunk.flatten().null_count:
                raise ValueError
            tokens = torch.from_dlpack(chunk.flatten())
        except (AttributeError, TypeError, ValueError, BufferError):
            raise UserError(f"the column {column} holds {chunk.type}, not lists of numbers without gaps") from None
        found += [part for part in tokens.split(chunk.value_lengths().to_pylist()) if len(part)]
    return found


def read_dataset(path: str, split: str) -> Any:
    """A data set as a polars DataFrame, numbers of classes as their names, in lists too (arguments as for `load`)."""
    import polars

    found = load(path, split)
    frame: Any = polars.from_arrow(found.with_format("arrow")[:])

    def named(column: Any, names: list[str]) -> Any:
        return column.replace_strict(list(range(len(names))), names, default=None, return_dtype=polars.String)

    of_rows = {name: feature.names for name, feature in found.features.items() if hasattr(feature, "int2str")}
    inner: dict[str, Any] = {name: getattr(feature, "feature", None) for name, feature in found.features.items()}
    of_lists = {name: feature.names for name, feature in inner.items() if hasattr(feature, "int2str")}
    return frame.with_columns(
        *(named(polars.col(column), names) for column, names in of_rows.items()),
        *(polars.col(column).list.eval(named(polars.element(), names)) for column, names in of_lists.items()),
    )
