"""Many tensors of different lengths, and how parts of them become one batch."""

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unroll.device import sent
from unroll.errors import UserError
from unroll.streams.fingerprint import PLACES, checksum
from unroll.streams.layout import type_and_shape


class Sequences:
    """Tensors `[n, …]` that differ in their length alone. Nothing is copied.

    Tensors that are parts of one tensor, as `Tensor.split` returns them, are held as this tensor and an index of 16
    bytes for each; others are held as they are.

    Args:
        parts: the tensors.

    Raises:
        UserError: there is none, one is not like the first, or one has no steps.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        if not parts:
            raise UserError("a stream needs at least one sequence; the list is empty")
        first = parts[0]
        for number, part in enumerate(parts):
            if not isinstance(part, Tensor) or part.dim() == 0:
                raise UserError(f"sequence {number} must be a tensor [n, …], not {type_and_shape(part)}")
            if len(part) == 0:
                raise UserError(f"sequence {number} is empty; leave it out")
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise UserError(
                    f"sequence {number} is {type_and_shape(part)} and the first {type_and_shape(first)}; "
                    f"sequences may differ in their length alone"
                )
        self.lengths = numpy.array([len(part) for part in parts])
        self.base, self.begins = common_base(parts)
        self.parts = parts if self.base is None else None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """The size of the data in bytes."""
        return self.base.nbytes if self.parts is None else sum(part.nbytes for part in self.parts)  # type: ignore[union-attr]

    def to(self, device: torch.device) -> "Sequences":
        """The same on a device."""
        if self.parts is not None:
            return Sequences([part.to(device) for part in self.parts])
        moved = object.__new__(Sequences)
        moved.__dict__.update(self.__dict__, base=self.base.to(device))  # type: ignore[union-attr]
        return moved

    def fingerprint(self) -> int:
        """A number that tells them from others (see `unroll.streams.fingerprint`): of many, some are looked at."""
        numbers = numpy.linspace(0, len(self) - 1, min(len(self), PLACES)).astype(int).tolist()
        chosen = (self._part(number) for number in numbers)
        return checksum([torch.from_numpy(self.lengths), *chosen], places=max(1, PLACES // len(numbers)))

    def _part(self, number: int) -> Tensor:
        if self.parts is not None:
            return self.parts[number]
        assert self.base is not None
        return self.base.narrow(0, int(self.begins[number]), int(self.lengths[number]))

    def in_one(self) -> "Sequences":
        """The same as parts of one tensor: themselves, or a copy."""
        if self.parts is None:
            return self
        return Sequences(torch.cat(list(self.parts)).split(self.lengths.tolist()))

    def gather(self, numbers: numpy.ndarray, steps: numpy.ndarray, past: numpy.ndarray) -> Tensor:
        """Single steps of sequences that are parts of one tensor.

        Args:
            numbers: of the sequences, int64 `[rows, time]`.
            steps: of each, int64 `[rows, time]`.
            past: bool `[rows, time]`: those that are to be zeros instead.

        Returns:
            `[rows, time, …]`, a copy.
        """
        assert self.base is not None
        return zeroed(self.base[sent(torch.from_numpy(self.begins[numbers] + steps), self.base.device)], past)

    def stack(self, numbers: numpy.ndarray, starts: numpy.ndarray, lengths: numpy.ndarray) -> Tensor:
        """Steps of some of the sequences side by side; what is past an end is zero.

        Args:
            numbers: of the sequences, int64 `[rows]`.
            starts: the first step of each, int64 `[rows]`.
            lengths: how many steps of each, int64 `[rows]`.

        Returns:
            `[rows, time, …]`, where time is the largest length: a view if all are equally long and evenly spaced in
            memory, else a copy.
        """
        time = int(lengths.max())
        whole = bool((lengths == time).all())
        if self.parts is not None:
            if whole and len(numbers) == 1:
                return self.parts[numbers[0]].narrow(0, int(starts[0]), time)[None]
            read = zip(numbers.tolist(), starts.tolist(), lengths.tolist(), strict=True)
            cut = [self.parts[number].narrow(0, start, length) for number, start, length in read]
            return pad_sequence(cut, batch_first=True)
        assert self.base is not None
        begins = self.begins[numbers] + starts
        if whole:
            gaps = begins[1:] - begins[:-1]
            gap = int(gaps[0]) if len(gaps) else 0
            if gap >= 0 and (gaps == gap).all():
                step, *rest = self.base.stride()
                shape = (len(numbers), time, *self.base.shape[1:])
                offset = self.base.storage_offset() + int(begins[0]) * step
                return self.base.as_strided(shape, (gap * step, step, *rest), offset)
        steps = numpy.arange(time)
        index = begins[:, None] + steps
        if whole:
            return self.base[sent(torch.from_numpy(index), self.base.device)]
        past = steps >= lengths[:, None]
        index[past] = 0
        return zeroed(self.base[sent(torch.from_numpy(index), self.base.device)], past)


def zeroed(batch: Tensor, past: numpy.ndarray) -> Tensor:
    """A batch `[rows, time, …]`, changed in place: zeros at some steps, bool `[rows, time]`."""
    if not past.any():
        return batch
    hidden = sent(torch.from_numpy(past), batch.device)
    return batch.masked_fill_(hidden.view(*hidden.shape, *[1] * (batch.dim() - 2)), 0)


def to_int64(part: Tensor) -> Tensor:
    """Part of a batch: integers as int64, other types as they are."""
    exact = part.is_floating_point() or part.is_complex() or part.dtype == torch.bool
    return part if exact else part.long()


def common_base(parts: Sequence[Tensor]) -> tuple[Tensor | None, numpy.ndarray]:
    """The one tensor that all are parts of, and the step of it that each begins at; None if there is none."""
    first = next((part for part in parts if len(part) > 1), parts[0])
    stride, storage = first.stride(), first.untyped_storage().data_ptr()
    step = stride[0]
    offsets = numpy.array([part.storage_offset() for part in parts])
    begins = offsets - offsets.min()
    if (
        step < 1
        or (begins % step).any()
        or any(part.stride() != stride or part.untyped_storage().data_ptr() != storage for part in parts)
    ):
        return None, begins
    begins //= step
    count = int((begins + numpy.array([len(part) for part in parts])).max())
    return first.as_strided((count, *first.shape[1:]), stride, int(offsets.min())), begins
