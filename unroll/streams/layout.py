"""How sequences are laid out as rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeVar

import torch

from unroll.errors import UserError
from unroll.streams.fingerprint import fingerprint
from unroll.streams.window import Window

Random = Callable[..., torch.Generator]  # makes the generator of a purpose in the current epoch
Kind = TypeVar("Kind", bound="Layout")


class Layout(ABC):
    """What each row reads in each window.

    Attributes:
        tensor_names: names of the tensors that windows are cut from.
        rows: how many rows there are.
        shard_rows: those of this process.
    """

    tensor_names: tuple[str, ...]
    rows: int
    shard_rows: range

    @abstractmethod
    def __len__(self) -> int:
        """The number of windows, the same in every epoch."""

    @abstractmethod
    def windows(self, first: int, random: Random) -> Iterator[Window]:
        """The windows of an epoch from number `first` on; integers are int64."""

    @abstractmethod
    def check_shard(self, processes: int, share: int) -> None:
        """
        Args:
            processes: how many share the rows.
            share: the rows of each.

        Raises:
            UserError: one of them would be left without a row.
        """

    @property
    def nbytes(self) -> int:
        """The size of the data in bytes."""
        return sum(getattr(self, name).nbytes for name in self.tensor_names)

    @property
    def fingerprints(self) -> list[int]:
        """A number for each tensor of the data, which tells it from others."""
        return [fingerprint(getattr(self, name)) for name in self.tensor_names]

    def moved(self: Kind, device: torch.device) -> Kind:
        """The same with its data on a device."""
        layout = copy(self)
        for name in self.tensor_names:
            setattr(layout, name, getattr(self, name).to(device))
        return layout

    def shard(self: Kind, rank: int, processes: int, share: int) -> Kind:
        """The rows of one of several processes: neighbours, so that each process keeps the states of its rows."""
        self.check_shard(processes, share)
        layout = copy(self)
        layout.shard_rows = range(rank * share, min((rank + 1) * share, self.rows))
        return layout


def check_scored(warm_up: int, longest: int) -> None:
    """
    Raises:
        UserError: warming up leaves no target.
    """
    if warm_up >= longest:
        raise UserError(f"warm_up={warm_up}: leaves nothing to score; the longest row has {longest} targets")


def type_and_shape(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
