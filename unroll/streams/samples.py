"""Independent samples, in an order of their own in each epoch."""

from collections.abc import Iterator
from copy import copy
from typing import TypeVar

import torch
from torch import Tensor

from unroll.checks import Size, checked
from unroll.errors import UserError
from unroll.streams.resumable import Resumable, refuse_shared, rows_per_process

Samples = TypeVar("Samples", bound="IndependentSamples")


class IndependentSamples(Resumable):
    """Batches of samples that don't continue each other; the last batch may be smaller. A subclass cuts the batches.

    Args:
        count: the number of samples.
        batch_size: samples per batch.
        shuffle: draw another order in each epoch, reproducible from `seed`.
        seed: of the order.

    Raises:
        UserError: there are fewer samples than a batch holds.
    """

    setting_names: tuple[str, ...] = ("batch_size", "shuffle")
    samples = "samples"  # what they are called in messages

    @checked
    def __init__(self, count: int, batch_size: Size, shuffle: bool, seed: int = 0) -> None:
        if batch_size > count:
            raise UserError(f"batch_size={batch_size} is larger than the data: there are {count} {self.samples}")
        self.count = count
        self.batch_size = batch_size
        self.shuffle = self.draws = shuffle
        self.seed = seed
        self.rank, self.processes = 0, 1

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def order(self) -> Tensor:
        """The samples in the order of the current epoch, int64 `[count]`; batches are cut from it."""
        return torch.randperm(self.count, generator=self.random()) if self.shuffle else torch.arange(self.count)

    def numbers(self, first: int) -> Iterator[Tensor]:
        """The samples of each batch of the epoch from number `first` on, int64 `[rows]`: this process's share."""
        for batch in self.order().split(self.batch_size)[first:]:
            yield batch.tensor_split(self.processes)[self.rank]

    def shard(self: Samples, rank: int, processes: int) -> Samples:
        """The share of each batch that one of several processes gets.

        Raises:
            UserError: a batch can't be shared evenly, or the last has fewer samples than there are processes.
        """
        refuse_shared(self)
        rows_per_process(self.batch_size, processes)
        last = (self.count - 1) % self.batch_size + 1
        if last < processes:
            raise UserError(
                f"with data.batch_size={self.batch_size} the last batch has {last} {self.samples}, "
                f"too few for {processes} processes; use another batch_size"
            )
        shard = copy(self)
        shard.rank, shard.processes = rank, processes
        shard.shares = processes
        return shard
