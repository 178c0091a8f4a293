"""Checkpoint files: what makes one enough by itself, and how it is read and written safely."""

import contextlib
import json
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from typing_extensions import Self

from unroll.checks import is_of
from unroll.errors import UserError, require
from unroll.files import check_plain_archive, replacing

FORMAT_VERSION = 3  # goes up when a model's weights, or what a run continues with, get other names or meanings
KEY = "unroll"  # of the metadata
HUB_WEIGHTS, HUB_METADATA = "model.safetensors", "unroll.json"  # in a folder for a model hub, in a checkpoint's place
PLAIN = {str, int, float, bool, type(None)}
MOST_LISTS, MOST, DEEPEST = 10**6, 10**7, 50  # lists and dicts, and parts of them, in the metadata
LARGEST = 10**7  # number among a model's arguments
WEIGHTS_PER_BYTE = 4  # that are registered: of bfloat16 there is one in two bytes, and tied ones are registered twice


def describe(model: nn.Module, arguments: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Makes the metadata of a checkpoint: plain names, numbers and strings, no code.

    Args:
        model: the model whose weights the checkpoint holds.
        arguments: what it was built with, the arguments that the data determine included.
        data: what the model needs of the data it was trained on (`Data.description`).
    """
    return {
        "format_version": FORMAT_VERSION,
        "model": {"name": type(model).__name__, "arguments": arguments},
        "data": data,
    }


def metadata_of(checkpoint: Mapping[str, Any], name: str | Path = "the checkpoint") -> dict[str, Any]:
    """The metadata of a checkpoint, as `describe` made them.

    Args:
        checkpoint: its content.
        name: what to call it in a message.

    Raises:
        UserError: it has none, or was written by a version of this project whose checkpoints this one does not read.
    """
    found = checkpoint.get(KEY)
    if not (
        isinstance(found, dict)
        and {"format_version", "model", "data"} <= set(found)
        and isinstance(found["format_version"], int)
        and is_plain(found)
    ):
        raise UserError(f"{name}: not a checkpoint of this project")
    if found["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{name}: written by another version of this project (format version {found['format_version']}; this one "
            f"reads {FORMAT_VERSION}): use that version, or train again"
        )
    return found


def is_plain(value: Any) -> bool:
    """Whether a value is made of dicts by names, lists, strings, numbers, booleans and None, and of nothing else.

    In a pickle a part may stand in itself, or a list ten times in another, that one ten times in the next, …: only so
    many parts are looked at, and none that lies deeper than ours.
    """
    waiting, lists, parts = [(value, 0)], 0, 0
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, dict):
            if not all(isinstance(key, str) for key in part):
                return False
            part = list(part.values())
        elif not isinstance(part, (list, tuple)):
            if type(part) not in PLAIN:
                return False
            continue
        lists, parts = lists + 1, parts + len(part)
        if depth == DEEPEST or lists > MOST_LISTS or parts > MOST:
            return False
        if not set(map(type, part)) <= PLAIN:
            waiting += ((inner, depth + 1) for inner in part)
    return True


def glance(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, without its weights being read; empty if anything is wrong: `read` will say what."""
    try:
        check_plain_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # of many kinds, as in `read`
        return {}
    return checkpoint if isinstance(checkpoint, dict) else {}


def check_version(path: Path) -> None:
    """Refuses a checkpoint of another version of this project, before anything is built.

    Raises:
        UserError: it is one.
    """
    checkpoint = glance(path)
    if KEY in checkpoint:
        metadata_of(checkpoint, path)


def checkpoint_file(path: Path) -> Path:
    """The file that a path stands for: of a run directory, its `best.ckpt`, or `last.ckpt` if there is no best; of a
    folder for a model hub, its weights."""
    if not path.is_dir():
        return path
    found = [*(path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")), path / HUB_WEIGHTS]
    for file in found:
        if file.exists():
            return file
    raise UserError(
        f"{path}: neither a checkpoint nor a run directory (there is no {found[0].relative_to(path)} in it)"
    )


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
    """The content of the file, on the CPU. It is read with `weights_only=True`, so nothing in it is run.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    if path.name == HUB_WEIGHTS:
        return read_of_hub(path)
    try:
        check_plain_archive(path)
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()  # torch itself does not check the checksums
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


def read_of_hub(path: Path) -> dict[str, Any]:
    """A folder for a model hub, given by its weights, as the content of a checkpoint.

    Raises:
        UserError: a file is missing or damaged.
    """
    require(str(path), "export", "safetensors")
    from safetensors.torch import load_file

    file = path.with_name(HUB_METADATA)
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
        file = path
        weights = load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file") from None
    except Exception as error:  # of many kinds, as in `read`
        raise UserError(f"{file}: not of a model of this project ({type(error).__name__})") from None
    return {"state_dict": {f"model.{key}": tensor for key, tensor in weights.items()}, KEY: metadata}


def rebuild(path: Path, models: Mapping[str, type[nn.Module]] | type[nn.Module]) -> tuple[nn.Module, dict[str, Any]]:
    """The trained model, in eval mode on the CPU, and the checkpoint's metadata.

    Nothing in the file is run (see `read`), and nothing but these classes is built.

    Args:
        path: the file.
        models: the model's class, or the classes to choose from by the name that the file gives.

    Raises:
        UserError: the file is missing or not a checkpoint of this project, its model is none of these, or a weight is
            not finite.
    """
    checkpoint = read(path)
    metadata = metadata_of(checkpoint, path)
    try:
        name, arguments = metadata["model"]["name"], dict(metadata["model"]["arguments"])
        if not isinstance(metadata["data"], dict):
            raise TypeError
        weights = {
            key.removeprefix("model."): tensor
            for key, tensor in checkpoint["state_dict"].items()
            if key.startswith("model.")
        }
        if not isinstance(name, str):
            raise TypeError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: not a checkpoint of this project") from None
    mistakes: tuple[type[Exception], ...] = (TypeError, ValueError, RuntimeError)
    most: int | None = None
    if isinstance(models, Mapping):
        if name not in models:
            raise UserError(
                f"{path}: model {name!r} is not one of {', '.join(models)}; for a model of your own, give its class: "
                f"load(path, model={name}), or on the command line --model MODULE.{name}"
            )
        models, mistakes = models[name], (Exception,)  # the file is wrong, whatever our own classes raise
        most = WEIGHTS_PER_BYTE * path.stat().st_size
    try:
        with contextlib.nullcontext() if most is None else no_larger_than(most):
            check_numbers(arguments)
            model = models(**arguments)
        model.load_state_dict(weights)
    except mistakes as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: its weights do not fit the model {models.__name__} ({reason})") from None
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        wrong = ~tensor.isfinite() if tensor.requires_grad else tensor.isnan()  # -inf may be in a mask
        if wrong.any():
            raise UserError(
                f"{path}: the weights {name!r} are not finite (nan or inf), as of a training that diverged; "
                f"choose an earlier checkpoint, or train with a lower learning rate"
            )
    return model.eval(), metadata


def check_numbers(arguments: Any) -> None:
    """Refuses whole numbers among the arguments that no model has: some are counted to before there are any weights.

    Raises:
        ValueError: there is one.
    """
    waiting = [arguments]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, (list, tuple)):
            waiting += part
        elif isinstance(part, int) and part > LARGEST:
            raise ValueError(f"{part} is larger than any of a model")


@contextlib.contextmanager
def no_larger_than(most: int) -> Iterator[None]:
    """Ends the building of a model that gets more weights, before they take memory: a small file can name any sizes.

    Raises:
        ValueError: it has more.
    """
    registered = 0

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal registered
        registered += 0 if tensor is None else tensor.numel()
        if registered > most:
            raise ValueError("it would be larger than the file")

    with contextlib.ExitStack() as stack:
        for register in (register_module_parameter_registration_hook, register_module_buffer_registration_hook):
            stack.callback(register(count).remove)
        yield


class TrainedModel(ABC):
    """A trained model and what belongs to it. A kind of task brings a subclass, with attributes of its own.

    Attributes:
        model: in eval mode, on the CPU.
        what: the kind of model, for messages.
    """

    model: nn.Module
    what: ClassVar[str]

    @classmethod
    @abstractmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        """The classes of models that a checkpoint may name."""

    @classmethod
    @abstractmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> Self:
        """The model with what a checkpoint's metadata say of it; a KeyError, TypeError or ValueError if they don't."""

    @classmethod
    def load(cls, path: str | Path, model: type[nn.Module] | None = None) -> Self:
        """From a checkpoint. Nothing in the file is run, and no class is built but `model`, or one of `models`.

        Args:
            path: the file, a run directory, or a folder of a model hub.
            model: the class, for a model of your own.

        Raises:
            UserError: the file is missing, or not a checkpoint of such a model.
        """
        path = checkpoint_file(Path(path))
        loaded, metadata = rebuild(path, model or cls.models())
        try:
            trained = cls.of(loaded, metadata)
            parts: Any = fields(trained) if is_dataclass(trained) else ()
            of_another_type = [part.name for part in parts if not is_of(getattr(trained, part.name), part.type)]
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}: not a checkpoint of {cls.what} of this project") from None
        if of_another_type:
            raise UserError(
                f"{path}: not a checkpoint of {cls.what} of this project: its {of_another_type[0]} can't be read"
            )
        return trained


def check_sizes(metadata: Mapping[str, Any], **sizes: Any) -> None:
    """Checks that what a checkpoint says of its data has the sizes that its model was built with.

    Args:
        metadata: of the checkpoint.
        sizes: what the data determine of the model's arguments (`Data.model_arguments`), by name.

    Raises:
        UserError: it has others.
    """
    arguments = metadata["model"]["arguments"]
    for name, size in sizes.items():
        if arguments.get(name, size) != size:
            raise UserError(f"its data have {name}={size}, which do not fit its model's {name}={arguments[name]}")


def class_named(name: str | None) -> type[nn.Module] | None:
    """The class of models that the user names as `module.Class`; None for None.

    Raises:
        UserError: there is no such class.
    """
    if name is None:
        return None
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{name}: {error}; a module of your own is found in the folders of PYTHONPATH") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{name}: not a class of models (torch.nn.Module)")
    return found


def refuse_unless_same(checkpoint: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares the metadata of a checkpoint with those of the run that is to be resumed from it.

    Raises:
        UserError: they differ in their version, model or data.
    """
    found = metadata_of(checkpoint)
    if found["model"] != wanted["model"]:
        raise UserError(f"the checkpoint is of another model: {found['model']}; here: {wanted['model']}")
    if part := difference(found["data"], wanted["data"], wanted["data"]):
        raise UserError(f"the checkpoint and the data differ in their {part}; use the data that the run began with")


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any], parts: Iterable[str]) -> str | None:
    """The first of these parts of two data descriptions that is not the same in both."""
    return next((part for part in parts if found.get(part) != wanted.get(part)), None)
