"""Checkpoint files: what makes one enough by itself, and how it is read and written safely."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from training.errors import UserError
from training.files import replacing

FORMAT_VERSION = 1
KEY = "unroll"
TARGETS = ("vocabulary", "classes")
SAME = ("vocabulary", "tokenizer", "classes", "mean", "deviation")  # of the data: what a run that goes on depends on


def describe(model: nn.Module, settings: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a checkpoint: plain names, numbers and strings, no code.

    Args:
        model: the model whose weights the checkpoint holds.
        settings: the arguments it was built with, those apart that the data decide (`vocab_size`, `classes`).
        data: what belongs to the model of the data that it was trained on (`Data.description`).
    """
    return {
        "format_version": FORMAT_VERSION,
        "model": {"name": type(model).__name__, "settings": settings},
        **data,
    }


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes the file whole or not at all: one that was there before stays until the new one is on the disk.

    Raises:
        UserError: the disk is full, or the folder can't be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished, open(unfinished, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch wraps some of the system's errors
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        before = "; the one before it is whole" if path.exists() else ""
        raise UserError(f"{path}: the checkpoint can't be written ({cause.strerror}){before}") from error


def read(path: Path) -> dict[str, Any]:
    """What the file holds, on the CPU. Nothing in it is run: it is read with `weights_only=True`.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()  # torch itself does not look at the sums
        if damaged is None:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # both raise many kinds for files that are not checkpoints
        raise UserError(f"{path}: not a checkpoint that can be read safely ({type(error).__name__})") from None
    if damaged is not None:
        raise UserError(f"{path}: the file is damaged (a checksum is wrong in {damaged})")
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint of this project")
    return checkpoint


def rebuild(
    path: Path, models: ModuleType, arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained model, in eval mode on the CPU, and the checkpoint's metadata.

    Nothing in the file is run (see `read`), and the model is built only if it is one of `models`.

    Args:
        path: the file.
        models: the package that has the model.
        arguments: the model's arguments that the data decide, from the metadata.

    Raises:
        UserError: the file is missing, or not a checkpoint of this project.
    """
    checkpoint = read(path)
    try:
        metadata = checkpoint[KEY]
        version = metadata["format_version"]
        if version != FORMAT_VERSION:
            raise UserError(f"{path}: format version {version}; this version of the project reads {FORMAT_VERSION}")
        name, settings = metadata["model"]["name"], metadata["model"]["settings"]
        weights = {
            key.removeprefix("model."): tensor
            for key, tensor in checkpoint["state_dict"].items()
            if key.startswith("model.")
        }
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a checkpoint of this project") from None
    if name not in models.__all__:
        raise UserError(f"{path}: model {name!r} is not one of {models.__name__}: {', '.join(models.__all__)}")
    try:
        model = getattr(models, name)(**arguments(metadata), **settings)
        model.load_state_dict(weights)
    except KeyError:
        raise UserError(f"{path}: not a checkpoint of this project") from None
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: its weights do not fit the model {name} ({reason})") from None
    return model.eval(), metadata


def refuse_unless_same(found: Any, wanted: Mapping[str, Any]) -> None:
    """Compares the metadata of a checkpoint with that of the run that is to go on from it.

    Raises:
        UserError: they differ in something that the run depends on.
    """
    parts = [part for part in SAME if part in wanted]
    if not isinstance(found, dict) or not {"format_version", "model", *parts} <= set(found):
        raise UserError("the checkpoint is not one of this project")
    if found["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"the checkpoint has format version {found['format_version']}; "
            f"this version of the project reads {FORMAT_VERSION}"
        )
    if found["model"] != wanted["model"]:
        raise UserError(f"the checkpoint is of another model: {found['model']}; here: {wanted['model']}")
    for part in parts:
        if found[part] != wanted[part]:
            raise UserError(f"the checkpoint and the data differ in their {part}; use the data that the run began with")


def refuse_other_targets(path: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares what a checkpoint's model names with what the data have to be named.

    Raises:
        UserError: they differ.
    """
    for part in TARGETS:
        if part in wanted and found[part] != wanted[part]:
            raise UserError(f"{path}: it and the data differ in their {part}; choose the data it was trained on")
