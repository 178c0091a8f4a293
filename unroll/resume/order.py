"""The order in which a `DataLoader` reads rows by their number: made anew for each epoch, and gone on with anywhere."""

import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy
import torch
from torch.utils.data import DataLoader, IterableDataset

from unroll.resume import lightning, random_state


class Order:
    """In the place of a loader's sampler: its order depends on nothing but a seed and the place in the fit, whichever
    random generator it is drawn with.

    Args:
        sampler: yields the numbers of rows, or of the rows of each batch; it is asked anew for each pass.
        seed: of all epochs.
        trainer: knows the epoch, and how many of its batches were trained on, so that loaders that begin again within
            an epoch get another order.
    """

    def __init__(self, sampler: Any, seed: int, trainer: Any) -> None:
        self.drawn_by, self.seed, self.trainer = sampler, seed, trainer
        self.first = 0  # of what the next pass yields

    def __len__(self) -> int:
        return len(self.drawn_by)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["drawn_by"], name)

    def go_on(self, batch: int, mode: str, fetched: bool) -> None:
        """The next pass goes on behind so many batches of an epoch.

        Args:
            batch: how many were trained on.
            mode: of Lightning's `CombinedLoader`; in "max_size_cycle", a loader that has come to its end begins again.
            fetched: whether the next one had been asked for, so that it had begun again.
        """
        if mode == "max_size_cycle" and batch > len(self) - fetched:
            self.first = batch % len(self) or (0 if fetched else len(self))
        else:
            self.first = min(batch, len(self))

    def __iter__(self) -> Iterator[Any]:
        first = 0
        if lightning.current_stage(self.trainer) == "train":  # a validation may read the same loader, from its start
            first, self.first = self.first, 0  # when the first is asked for: a DataLoader with workers calls it twice
        batches = lightning.batches_completed(self.trainer)
        if batches >= self.trainer.num_training_batches:  # of the epoch before
            batches = 0
        place = self.seed, self.trainer.current_epoch, batches // len(self)
        (seed,) = numpy.random.SeedSequence(place).generate_state(1)
        yield from self._drawn(int(seed))[first:]

    def _drawn(self, seed: int) -> list[Any]:
        before = random_state.get()
        try:
            random.seed(seed)
            numpy.random.seed(seed)
            torch.manual_seed(seed)
            for sampler in (self.drawn_by, getattr(self.drawn_by, "sampler", None)):
                for generator in getattr(sampler, "__dict__", {}).values():
                    seed_generator(generator, seed)
            return list(self.drawn_by)
        finally:
            random_state.restore(before)


def seed_generator(generator: Any, seed: int) -> None:
    """Seeds a random generator of torch, Python or NumPy; leaves anything else as it is."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, (random.Random, numpy.random.RandomState)):
        generator.seed(seed)
    elif isinstance(generator, numpy.random.Generator):
        kind: Any = type(generator.bit_generator)
        generator.bit_generator.state = kind(seed).state


def attribute(loader: DataLoader) -> str:
    """The name under which a loader has what yields the numbers it fetches."""
    return "sampler" if loader.batch_sampler is None else "batch_sampler"


def order_of(loader: Any) -> Order | None:
    """The order that a loader has been given."""
    found = getattr(loader, attribute(loader)) if isinstance(loader, DataLoader) else None
    return found if isinstance(found, Order) else None


def give_order(loader: Any, seed: int, trainer: Any) -> None:
    """Gives an `Order` to a loader of rows by their number that has none."""
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or order_of(loader) is not None
    ):
        return
    sampler = getattr(loader, attribute(loader))
    keeps_a_place = any(hasattr(part, "state_dict") for part in (sampler, getattr(sampler, "sampler", None)))
    if isinstance(sampler, Sized) and not keeps_a_place:
        exchange(loader, Order(sampler, seed, trainer))


def take_order(loader: Any) -> None:
    """Leaves a loader as it was before `give_order`."""
    order = order_of(loader)
    if order is not None:
        exchange(loader, order.drawn_by)


def exchange(loader: DataLoader, sampler: Any) -> None:
    """Lets a loader read in another order, when it begins next."""
    loader.__dict__[attribute(loader)] = sampler  # a DataLoader refuses to be changed
    loader._iterator = None  # of persistent workers, which would keep the order that they began with
