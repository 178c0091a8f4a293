"""A recurrent model's state as a file of plain arrays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from unroll.errors import UserError
from unroll.files import check_plain_archive, replacing
from unroll.state import State, map_tensors, pack, unpack

STRUCTURE = "structure"  # the array with the nest as JSON, in which a tensor is the name of its array and its dtype


def save_state(state: State, path: str | Path) -> None:
    """Saves a state as a NumPy archive (`.npz`), which holds arrays and no code. The file is written whole.

    Args:
        state: a tensor, or a nest of tuples, lists, dicts and NamedTuples of tensors; None for zeros.
        path: the file.

    Raises:
        UserError: there is something else in it.
    """
    map_tensors(state, Tensor.detach)
    arrays: dict[str, numpy.ndarray] = {}

    def plain(packed: Any) -> Any:
        if isinstance(packed, Tensor):
            name, kept = str(len(arrays)), packed.detach().cpu()
            arrays[name] = (kept.view(torch.int16) if kept.dtype == torch.bfloat16 else kept).numpy()
            return {"array": name, "dtype": str(packed.dtype).removeprefix("torch.")}
        return {**packed, "parts": [plain(part) for part in packed["parts"]]} if isinstance(packed, dict) else packed

    structure = json.dumps(plain(pack(state)))
    with replacing(Path(path)) as unfinished, open(unfinished, "wb") as file:
        numpy.savez(file, allow_pickle=False, **arrays, **{STRUCTURE: numpy.array(structure)})


def load_state(path: str | Path, classes: Sequence[type] = ()) -> State:
    """The state that `save_state` was given, on the CPU.

    Args:
        path: the file.
        classes: of the NamedTuples and dataclasses in the state. A NamedTuple that is not among them comes back as one
            with the same name and fields.

    Raises:
        UserError: the file is missing, damaged, or not such a state.
    """

    def built(plain: Any) -> Any:
        if isinstance(plain, dict) and "array" in plain:
            tensor = torch.from_numpy(arrays[plain["array"]])
            return tensor.view(torch.bfloat16) if plain["dtype"] == "bfloat16" else tensor
        return {**plain, "parts": [built(part) for part in plain["parts"]]} if isinstance(plain, dict) else plain

    try:
        check_plain_archive(path)
        with numpy.load(path, allow_pickle=False) as arrays:
            return unpack(built(json.loads(str(arrays[STRUCTURE]))), {kind.__name__: kind for kind in classes})
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except UserError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for files that are not such states
        raise UserError(f"{path}: not a state saved by unroll ({type(error).__name__})") from None
