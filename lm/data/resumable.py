"""What the batches of an epoch have in common: a place one can come back to."""

from collections.abc import Iterator

from torch import Tensor

from lm.errors import UserError


class Resumable:
    """Batches whose order depends on the epoch alone, so that epoch and number say where a pass is.

    `state_dict` and `load_state_dict` are what Lightning asks of a loader that can be resumed: after loading, the
    next pass goes on behind the batch that was last taken; the pass after it is a whole one again.
    """

    tokens: Tensor
    pin = False  # give each batch in pinned memory, from which a GPU copies it while it computes
    epoch = 0
    _taken = 0
    _first = 0

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's batches from this number on."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first, self._first = self._first, 0
        return self._count(first)

    def _count(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
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


def fair_share(batch_size: int, processes: int) -> int:
    """How many rows of a batch each process has.

    Raises:
        UserError: not all would have as many.
    """
    if batch_size % processes:
        raise UserError(f"data.batch_size={batch_size} can't be shared evenly by {processes} processes")
    return batch_size // processes
