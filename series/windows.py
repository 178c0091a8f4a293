"""Windows of series, with all that lies within the horizon of each step as targets."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from series.model import without_missing
from series.scale import Scale, curve
from unroll.device import sent
from unroll.streams import Stream, Window

NOT_SCORED = -1


class Span(NamedTuple):
    """The steps of a series that a split forecasts from.

    Attributes:
        name: of the series.
        values: of the series from its beginning, standardised, float32 `[steps, columns]`; nan where one is missing.
        start, stop: the first step that forecasts are scored from, and the one after the last; the steps before it are
            read. `horizon` steps after each are there.
        scale: how its numbers are read.
        unit: what losses are in, for each column: `series.simple.usual_error`.
    """

    name: str
    values: Tensor
    start: int
    stop: int
    scale: Scale
    unit: list[float]


class ForecastWindows(Stream):
    """Windows of spans. A target is gathered when its window is read, so memory is that of the values.

    A window's `inputs` are `[rows, time, columns]`; its `targets` `[rows, time, targets, horizon, 2]` are the values of
    the next `horizon` steps, and the unit that losses are in. With a `season`, two simple forecasts stand beside: that
    nothing changes, and that the last season comes again; then `series.scale.curve`, and how many independent forecasts
    one counts for, `[…, 7]`: those of a series that are less than a horizon apart count as one.

    Args:
        spans: of the split.
        at: where the targets are among the columns.
        horizon: how many steps ahead.
        parts: how many parts each span is cut into, which are rows of their own.
        before: steps that a part reads before the first that is scored.
        season: steps of a season; None for no simple forecasts.
        known: the places of columns that are known ahead, which stand behind the inputs of each step (`with_known`).
        batch_size, bptt, shuffle, seed: as for `Stream`.
    """

    def __init__(
        self,
        spans: Sequence[Span],
        at: Sequence[int],
        horizon: int,
        batch_size: int,
        bptt: int,
        parts: int = 1,
        before: int = 0,
        season: int | None = None,
        known: Sequence[int] = (),
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        inputs, places, first = [], [], 0
        for span in spans:
            for start, stop in cuts(span, parts, max(bptt, before // 2)):
                begin = 0 if parts == 1 else max(0, start - before)
                place = torch.arange(first + begin, first + stop)
                place[: start - begin] = NOT_SCORED
                inputs.append(span.values[begin:stop])
                places.append(place)
            first += len(span.values)
        lengths = [len(place) for place in places]
        self.values = torch.cat([span.values[:, list(at)] for span in spans])
        self.latest = self.values  # and, in its place where a number is missing, the latest before it
        if season and self.values.isnan().any():
            self.latest = torch.cat([without_missing(span.values[:, list(at)]) for span in spans])
        self.known = torch.cat([without_missing(span.values)[:, list(known)] for span in spans]) if known else None
        sizes = torch.tensor([len(span.values) for span in spans])
        self.units = torch.tensor([[span.unit[place] for place in at] for span in spans])
        self.curves = torch.tensor([curve(span.scale, at) for span in spans])  # [spans, targets, 2]
        self.independent = torch.tensor([1 / min(horizon, max(1, span.stop - span.start)) for span in spans])
        self.span = torch.arange(len(spans)).repeat_interleave(sizes)  # of each value
        self.begins = sizes.cumsum(0) - sizes
        self.horizon, self.season = horizon, season
        super().__init__(
            torch.cat(inputs).split(lengths),
            batch_size,
            bptt,
            torch.cat(places).split(lengths),
            shuffle=shuffle,
            seed=seed,
        )

    def batches(self, first: int) -> Iterator[Window]:
        windows = map(self._with_targets, self.layout.windows(first, self.random))
        return (window.pin_memory() for window in windows) if self.pin else windows

    def _with_targets(self, window: Window) -> Window:
        places, mask = window.targets, window.on_host[1]  # on the CPU, like the mask
        scored = places != NOT_SCORED if mask is None else (places != NOT_SCORED) & mask
        places = sent(places.clamp(min=0)[..., None], self.values.device)
        ahead = torch.arange(1, self.horizon + 1, device=places.device)
        span = self.span[places]
        found = [self.values[(places + ahead).clamp(max=len(self.values) - 1)]]  # [rows, time, horizon, targets]
        found.append(self.units[span].expand_as(found[0]))
        if self.season is not None:
            now = self.latest[places].expand_as(found[0])
            earlier = places + ahead - self.season * (-(-ahead // self.season))
            known = earlier >= self.begins[span]
            found += [now, torch.where(known[..., None], self.latest[earlier.clamp(min=0)], now)]
            found += [part.expand_as(found[0]) for part in self.curves[span].unbind(-1)]
            found.append(self.independent[span][..., None].expand_as(found[0]))
        targets = torch.stack(found, -1).transpose(2, 3)
        inputs = window.inputs
        if self.known is not None:  # of steps that are not scored it is of no matter: no state depends on it
            inputs = torch.cat([inputs, self.known[(places + ahead).clamp(max=len(self.known) - 1)].flatten(2)], -1)
        return Window.of(inputs, targets, window.on_host[0], None if scored.all() else scored)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.values.nbytes

    def move(self, device: torch.device) -> None:
        places = self.layout.targets  # type: ignore[attr-defined]
        super().move(device)
        self.layout.targets = places  # type: ignore[attr-defined]
        self.values, self.latest = self.values.to(device), self.latest.to(device)
        self.known = None if self.known is None else self.known.to(device)
        self.units, self.curves = self.units.to(device), self.curves.to(device)
        self.independent = self.independent.to(device)
        self.span, self.begins = self.span.to(device), self.begins.to(device)

    @property
    def origins(self) -> int:
        """The number of steps that forecasts are scored from."""
        places = self.layout.targets  # type: ignore[attr-defined]
        return int((places.base != NOT_SCORED).sum())


def cuts(span: Span, parts: int, shortest: int) -> list[tuple[int, int]]:
    """The steps of each part that are scored."""
    count = max(1, min(parts, (span.stop - span.start) // shortest))
    bounds = torch.linspace(span.start, span.stop, count + 1).round().long().tolist()
    return list(pairwise(bounds))
