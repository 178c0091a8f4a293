"""Whole sequences of like length side by side, for models that read a sequence in both directions."""

from collections.abc import Iterator, Sequence

import numpy
import torch
from torch import Tensor

from unroll.checks import Size, checked
from unroll.device import sent
from unroll.errors import UserError
from unroll.streams.samples import IndependentSamples
from unroll.streams.sequences import Sequences, to_int64
from unroll.streams.window import Window

PLACES = 1  # the random numbers of an epoch's places; those of its order are number 0
BUCKET = 50  # batches among which sequences are sorted by length


class WholeSequences(IndependentSamples):
    """Batches of whole sequences, padded at their ends with zeros and masked there; each sequence is in one batch.

    To pad little, sequences are drawn in random order, those of every fifty batches are sorted by length and cut into
    batches, and the batches of the epoch are shuffled (as in fastai's `SortishSampler`). Without shuffling, all are
    sorted.

    Args:
        sequences: tensors `[n, …]` that differ in their length alone.
        targets: the same, aligned step by step; or a tensor `[sequences, …]`, one target for each.
        batch_size: sequences per batch; the last batch may be smaller.
        shuffle: draw another order in each epoch, reproducible from `seed`.
        seed: of the order.
        crop: of a longer sequence only so many steps, from a place that is drawn anew in each epoch.

    Yields:
        `Window`s in which every row starts; with one target for each sequence, targets are `[rows, …]`.

    Raises:
        UserError: the sequences don't go together, targets don't fit, or there are fewer than a batch holds.
    """

    tensor_names = ("sequences", "targets")
    setting_names = ("batch_size", "shuffle", "crop", "seed")
    samples = "sequences"

    @checked
    def __init__(
        self,
        sequences: Sequence[Tensor],
        targets: Sequence[Tensor] | Tensor,
        batch_size: Size,
        shuffle: bool = False,
        seed: int = 0,
        crop: Size | None = None,
    ) -> None:
        self.crop = crop
        self.sequences = Sequences(sequences)
        self.targets = targets if isinstance(targets, Tensor) else Sequences(targets)
        self.lengths = self.sequences.lengths
        if isinstance(self.targets, Tensor):
            if len(self.targets) != len(self.sequences):
                raise UserError(f"{len(self.sequences)} sequences need as many targets, not {len(self.targets)}")
        elif not numpy.array_equal(self.targets.lengths, self.lengths):
            raise UserError("each sequence needs as many targets as steps")
        super().__init__(len(self.sequences), batch_size, shuffle, seed)

    def read_lengths(self) -> numpy.ndarray:
        """The number of steps that are read of each sequence."""
        return self.lengths if self.crop is None else self.lengths.clip(max=self.crop)

    def places(self) -> numpy.ndarray:
        """The step of each sequence from which it is read in the current epoch."""
        spare = self.lengths - self.read_lengths()
        drawn = torch.rand(self.count, generator=self.random(PLACES), dtype=torch.float64).numpy()
        return (drawn * (spare + 1)).astype(int)

    def order(self) -> Tensor:
        lengths = torch.from_numpy(self.read_lengths())
        if not self.shuffle:
            return lengths.argsort(stable=True, descending=True)
        generator = self.random()
        drawn = torch.randperm(self.count, generator=generator)
        buckets = [bucket[lengths[bucket].argsort(stable=True)] for bucket in drawn.split(BUCKET * self.batch_size)]
        batches = [batch for bucket in buckets for batch in bucket.split(self.batch_size)]
        smaller = batches.pop() if len(batches[-1]) < self.batch_size else None  # it stays the last
        shuffled = [batches[number] for number in torch.randperm(len(batches), generator=generator).tolist()]
        return torch.cat([*shuffled, *([] if smaller is None else [smaller])])

    def batches(self, first: int) -> Iterator[Window]:
        all_lengths, all_starts = self.read_lengths(), self.places()
        for numbers in self.numbers(first):
            chosen = numbers.numpy()
            lengths, starts = all_lengths[chosen], all_starts[chosen]
            inputs = to_int64(self.sequences.stack(chosen, starts, lengths))
            targets = to_int64(
                self.targets[sent(numbers, self.targets.device)]
                if isinstance(self.targets, Tensor)
                else self.targets.stack(chosen, starts, lengths)
            )
            scored = numpy.arange(lengths.max()) < lengths[:, None]
            mask = None if scored.all() else torch.from_numpy(scored)
            window = Window.of(inputs, targets, torch.ones(len(chosen), dtype=torch.bool), mask)
            yield window.pin_memory() if self.pin else window
