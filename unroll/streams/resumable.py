"""Batches whose order depends on seed and epoch alone: a pass over them can be resumed at any batch."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy
import torch
from torch.utils.data import IterableDataset, get_worker_info

from unroll.errors import UserError
from unroll.streams.fingerprint import fingerprint

Batches = TypeVar("Batches", bound="Resumable")


class Resumable(IterableDataset):
    """A pass is identified by its epoch, a place in it by the number of batches taken.

    The first pass is epoch 0 and each further pass the next epoch, unless `set_epoch` says otherwise. `state_dict` and
    `load_state_dict` are what Lightning asks of a loader that can be resumed: after loading, the next pass begins
    behind the batch that was taken last, and the pass after it is a whole one of the next epoch.

    It is an `IterableDataset` of whole batches, for a loader around it: `DataLoader(…, batch_size=None)`.
    """

    tensor_names: tuple[str, ...]  # names of the tensors that batches are cut from
    setting_names: tuple[str, ...] = ()  # of what else its batches depend on, plain values
    pin = False  # yield each batch in pinned memory, from which a GPU copies it while it computes
    seed: int
    draws = False  # the order of its batches, anew in each epoch
    shares = 1  # the processes that share the batches
    epoch = 0
    _epoch_is_set = True  # the next pass is of `epoch`, not of the one after it
    _taken = 0
    _first = 0

    def batches(self, first: int) -> Iterator[Any]:
        """The batches of the current epoch, from number `first` on."""
        raise NotImplementedError

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        raise NotImplementedError

    def shard(self: Batches, rank: int, processes: int) -> Batches:
        """The share of each batch that one of several processes gets.

        Raises:
            UserError: the batches can't be shared.
        """
        raise NotImplementedError

    def random(self, *purpose: int) -> torch.Generator:
        """A generator that depends on nothing but the seed, the epoch and what it is for.

        Raises:
            UserError: in a worker of a `DataLoader`: its copy of the data, made anew for each pass, can't count epochs.
        """
        if get_worker_info() is not None:
            raise UserError("num_workers=1: a worker can't tell the epoch, and would repeat its order; use 0")
        (state,) = numpy.random.SeedSequence((self.seed, self.epoch, *purpose)).generate_state(1, numpy.uint64)
        return torch.Generator().manual_seed(int(state) % 2**63)

    @property
    def fingerprints(self) -> list[int]:
        """A number for each tensor of the data, which tells it from others."""
        return [fingerprint(getattr(self, name)) for name in self.tensor_names]

    @property
    def settings(self) -> dict[str, Any]:
        """What its batches depend on, the epoch and the share of a process apart: plain values by name."""
        named = {name: getattr(self, name) for name in self.setting_names}
        drawn = {"seed": self.seed} if self.draws else {}
        return {"kind": type(self).__name__, **named, **drawn, "data": self.fingerprints}

    @property
    def nbytes(self) -> int:
        """The size of the data in bytes."""
        return sum(getattr(self, name).nbytes for name in self.tensor_names)

    def move(self, device: torch.device) -> None:
        """Moves the data to a device."""
        for name in self.tensor_names:
            setattr(self, name, getattr(self, name).to(device))

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise UserError(f"num_workers={worker.num_workers}: each would yield every batch; use 0 or 1")
        return self._pass()

    def _pass(self) -> Iterator[Any]:
        first, self._first = self._first, 0  # the place may be set until the first batch is taken
        if not self._epoch_is_set:
            self.epoch += 1
        self._epoch_is_set = False
        for taken, batch in enumerate(self.batches(first), start=first + 1):
            self._taken = taken
            yield batch

    @property
    def pass_state(self) -> dict[str, Any]:
        """How far the pass is: attributes by name."""
        return {name: getattr(self, name) for name in ("epoch", "_epoch_is_set", "_taken", "_first")}

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next pass."""
        self.epoch = epoch
        self._epoch_is_set = True
        self._taken = self._first = 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batches": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_epoch(state["epoch"])
        self._taken = self._first = state["batches"]


def refuse_shared(batches: Resumable) -> None:
    """
    Raises:
        UserError: it is a share of batches already.
    """
    if batches.shares > 1:
        raise UserError(f"this is the share of one of {batches.shares} processes already; share the whole")


def rows_per_process(batch_size: int, processes: int) -> int:
    """How many rows of a batch each process gets.

    Raises:
        UserError: the rows can't be shared evenly.
    """
    if batch_size % processes:
        raise UserError(f"data.batch_size={batch_size} can't be shared evenly by {processes} processes")
    return batch_size // processes
