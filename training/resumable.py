"""What the batches of an epoch have in common: a place one can come back to."""

from collections.abc import Iterator
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor

from training.errors import UserError

Batches = TypeVar("Batches", bound="Resumable")
Samples = TypeVar("Samples", bound="Independent")


class Resumable:
    """Batches whose order depends on the epoch alone, so that epoch and number say where a pass is.

    `state_dict` and `load_state_dict` are what Lightning asks of a loader that can be resumed: after loading, the
    next pass goes on behind the batch that was last taken; the pass after it is a whole one again.
    """

    held: tuple[str, ...]  # the tensors that batches are cut from, by name
    pin = False  # give each batch in pinned memory, from which a GPU copies it while it computes
    epoch = 0
    _taken = 0
    _first = 0

    def batches(self, first: int) -> Iterator[Any]:
        """The epoch's batches from this number on."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many batches an epoch has."""
        raise NotImplementedError

    def shard(self: Batches, rank: int, processes: int) -> Batches:
        """One of several processes' share of each batch.

        Raises:
            UserError: they can't be shared out.
        """
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.held)

    def move(self, device: torch.device) -> None:
        for name in self.held:
            setattr(self, name, getattr(self, name).to(device))

    def __iter__(self) -> Iterator[Any]:
        first, self._first = self._first, 0
        return self._count(first)

    def _count(self, first: int) -> Iterator[Any]:
        for taken, batch in enumerate(self.batches(first), start=first + 1):
            self._taken = taken
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next pass is of."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batches": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch = state["epoch"]
        self._taken = self._first = state["batches"]


class Independent(Resumable):
    """Samples that don't continue each other, batch by batch; the last batch may be smaller.

    Args:
        count: how many samples there are.
        batch_size: samples per batch.
        shuffle: take them in another order in each epoch (`set_epoch`), reproducible from `seed`.

    Raises:
        UserError: there are fewer samples than a batch holds.
    """

    samples = "samples"  # what they are called

    def __init__(self, count: int, batch_size: int, shuffle: bool, seed: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch has at least 1 row")
        if batch_size > count:
            raise UserError(f"batch_size={batch_size} is larger than the corpus: it has {count} {self.samples}")
        self.count = count
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.processes = 0, 1

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def random(self, *purpose: int) -> torch.Generator:
        """Draws that depend on the seed, the epoch and what they are for alone."""
        return torch.Generator().manual_seed(hash((self.seed, self.epoch, *purpose)) % 2**63)

    def numbers(self, first: int) -> Iterator[Tensor]:
        """The samples of each of the epoch's batches from this one on, int64 `[rows]`: this process's share."""
        order = torch.randperm(self.count, generator=self.random()) if self.shuffle else torch.arange(self.count)
        for batch in order.split(self.batch_size)[first:]:
            yield batch.tensor_split(self.processes)[self.rank]

    def shard(self: Samples, rank: int, processes: int) -> Samples:
        """One of several processes' share of each batch.

        Raises:
            UserError: a batch can't be shared out evenly, or the last has fewer samples than there are processes.
        """
        fair_share(self.batch_size, processes)
        last = (self.count - 1) % self.batch_size + 1
        if last < processes:
            raise UserError(
                f"with data.batch_size={self.batch_size} the last batch has {last} {self.samples}, "
                f"too few for {processes} processes; use another batch_size"
            )
        shard = copy(self)
        shard.rank, shard.processes = rank, processes
        return shard


def fair_share(batch_size: int, processes: int) -> int:
    """How many rows of a batch each process has.

    Raises:
        UserError: not all would have as many.
    """
    if batch_size % processes:
        raise UserError(f"data.batch_size={batch_size} can't be shared evenly by {processes} processes")
    return batch_size // processes
