"""Many sequences as queues, one for each row: a row that has come to the end of a sequence takes the next one."""

from heapq import heapify, heapreplace

import numpy
import torch


class Queues:
    """Which sequence each row reads in each window of an epoch.

    Attributes:
        order: the numbers of the sequences, int64 `[sequences]`: those of row 0, of row 1, …, each in the order of
            reading.
        bounds: int64 `[rows + 1]`; row r has the entries from `bounds[r]` to `bounds[r + 1]` of `order`.
        begins, ends: the window in which each entry begins, and the one after its last, int64 `[sequences]`.
    """

    def __init__(self, order: numpy.ndarray, rows: numpy.ndarray, counts: numpy.ndarray, row_count: int) -> None:
        """
        Args:
            order: the sequences, sorted by row.
            rows: the row of each entry of `order`.
            counts: the windows of each entry.
            row_count: the number of rows.
        """
        self.order = order
        self.bounds = numpy.searchsorted(rows, numpy.arange(row_count + 1))
        ends = counts.cumsum()
        before_row = (ends - counts)[self.bounds[:-1]]
        self.ends = ends - before_row[rows]
        self.begins = self.ends - counts

    def __len__(self) -> int:
        """The number of windows: those of the row that takes longest."""
        return int(self.ends.max())

    def row_ends(self) -> numpy.ndarray:
        """The window after the last of each row, int64 `[rows]`."""
        return self.ends[self.bounds[1:] - 1]

    def entries(self, window: int) -> numpy.ndarray:
        """The entry of `order` that each row reads in a window, `bounds[r + 1]` if row r has ended. int64 `[rows]`."""
        within = zip(self.bounds[:-1], self.bounds[1:], strict=True)
        return numpy.array([low + self.ends[low:high].searchsorted(window, side="right") for low, high in within])


def in_order(counts: numpy.ndarray, row_count: int) -> Queues:
    """Each row takes the next sequence of the list when it is free.

    Args:
        counts: the windows of each sequence, int64 `[sequences]`.
        row_count: the number of rows, at most that of sequences.
    """
    rows = next_free(counts, row_count)
    order = rows.argsort(kind="stable")
    return Queues(order, rows[order], counts[order], row_count)


class Shuffled:
    """Queues in another order in each epoch, with the same number of windows in each.

    Places for sequences are laid out once, the long ones first (Graham 1969, "Bounds on multiprocessing timing
    anomalies": rows then end within one sequence of each other). In each epoch, the sequences of as many windows change
    places among themselves, and the places of each row their order.

    Args:
        counts, row_count: as for `in_order`.
    """

    def __init__(self, counts: numpy.ndarray, row_count: int) -> None:
        self.counts = counts
        longest_first = (-counts).argsort(kind="stable")
        rows = next_free(counts[longest_first], row_count)
        loads = numpy.bincount(rows, weights=counts[longest_first], minlength=row_count)
        rank = numpy.empty(row_count, dtype=numpy.int64)
        rank[(-loads).argsort(kind="stable")] = numpy.arange(row_count)  # rows that end early are the last
        self.rows = rank[rows]
        self.row_count = row_count

    def draw(self, generator: torch.Generator) -> Queues:
        """The queues of an epoch."""
        keys = torch.rand(2, len(self.counts), generator=generator, dtype=torch.float64).numpy()
        sequences = numpy.lexsort((keys[0], -self.counts))
        place = numpy.lexsort((keys[1], self.rows))
        order = sequences[place]
        return Queues(order, self.rows[place], self.counts[order], self.row_count)


def next_free(counts: numpy.ndarray, row_count: int) -> numpy.ndarray:
    """The row of each sequence, if each in turn goes to the row that is free first (of several, the first of them)."""
    rows = numpy.arange(len(counts))
    free = [(int(count), row) for row, count in enumerate(counts[:row_count])]
    heapify(free)
    for number, count in enumerate(counts[row_count:].tolist(), start=row_count):
        at, row = free[0]
        rows[number] = row
        heapreplace(free, (at + count, row))
    return rows
