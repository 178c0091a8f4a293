"""A recurrent model that forecasts numbers."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from series.dilated import Dilated
from series.distributions import LEVELS, outlook
from unroll.checks import Share, Size, checked, list_of, whole
from unroll.errors import UserError
from unroll.state import State

Places = Annotated[Sequence[int], list_of(whole(0), "[0,1]")]

Context = Annotated[int, whole(2)]
LEAST_SCALE = 1e-5  # of standardised numbers
AHEAD = 16  # units for what is known of a step ahead


class Forecaster(nn.Module):
    """Forecasts of the next `horizon` steps from each step: a linear model of the latest values, and what recurrent
    layers add to it.

    Each target is read by itself, by the same weights: as its distance from its latest value, divided by the deviation
    of its latest `context` values. So forecasts of a series that is multiplied or shifted are multiplied or shifted.
    Other columns are read beside it. In the place of a number that is missing, nan, the latest before it is read.

    Args:
        features: numbers per step.
        horizon: how many steps are forecast.
        last: where the targets are among the features.
        context: how many of the latest values are read at once.
        segment: how many steps the recurrent layers' state skips (`Dilated`); of other columns, so many steps and one
            are read.
        objective: what is forecast, as in `series.distributions.outlook`.
        quantiles: their levels, of objective "quantiles".
        missing: read beside the numbers which of them are missing.
        known: the places of features that are known ahead. Their numbers at each of the next `horizon` steps are read
            for the forecast of that step.
        decoder: how the horizon is forecast: "direct", by one linear layer, or "parallel", by segments (`Parallel`).
        cell: the kind of recurrent layer.
        hidden_size: units per layer.
        num_layers: layers.
        dropout: between the layers, and before the head.
    """

    last: Tensor
    others: Tensor

    @checked
    def __init__(
        self,
        features: Size,
        horizon: Size,
        last: Places,
        context: Context = 336,
        segment: Size = 1,
        objective: str = "huber",
        quantiles: Sequence[float] = LEVELS,
        missing: bool = False,
        known: Sequence[int] = (),
        decoder: Literal["direct", "parallel"] = "direct",
        cell: Literal["gru", "lstm", "rnn"] = "gru",
        hidden_size: Size = 64,
        num_layers: Size = 1,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        if max(last) >= features or len(set(last)) != len(last):
            raise UserError(f"last={list(last)}: must be the places of targets among {features} features, each once")
        self.outlook = outlook(objective, quantiles)
        self.horizon, self.context, self.segment = horizon, context, segment
        self.missing, self.width = missing, features
        self.known = [*known]
        others = [column for column in range(features * (1 + missing)) if column not in last]
        self.register_buffer("last", torch.tensor([*last]), persistent=False)  # a list as an index would be copied
        self.register_buffer("others", torch.tensor(others, dtype=torch.int64), persistent=False)
        self.reach = min(segment + 1, context)
        self.embed = nn.Linear(context + len(self.others) * self.reach, hidden_size)
        self.rnn = Dilated(cell, hidden_size, hidden_size, num_layers, dropout, segment)
        self.dropout = nn.Dropout(dropout)
        self.decode = Parallel(hidden_size, math.ceil(horizon / segment)) if decoder == "parallel" else None
        self.head = nn.Linear(hidden_size, (horizon if self.decode is None else segment) * self.outlook.size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # Behind the others, and filled when it is registered: a checkpoint may name sizes for which it has no weights,
        # and `unroll.resume.checkpoint` refuses it before memory is taken.
        self.register_buffer("linear", torch.empty(horizon, context))
        nn.init.zeros_(self.linear)  # type: ignore[arg-type]
        if self.known:
            self.now, self.ahead = nn.Linear(hidden_size, AHEAD), nn.Linear(len(self.known), AHEAD)
            self.known_head = nn.Linear(AHEAD, self.outlook.size)
            nn.init.zeros_(self.known_head.weight)
            nn.init.zeros_(self.known_head.bias)

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """
        Args:
            inputs: float `[rows, time, features]`; nan where a number is missing. With `known`, `[rows, time, features
                + horizon · known]`: those of the next steps behind them (`series.covariates.with_known`).
            state: of the recurrent layers `[layers, rows, …]`, the latest values `[context − 1, rows, features]` (twice
                as many with `missing`), and whether there were any `[1, rows, 1]`; None for zeros.

        Returns:
            Outputs `[rows, time, targets, horizon, 2 + size]`, as in `series.distributions`; the state after them.
        """
        rows, targets, inputs = inputs.size(0), len(self.last), inputs.to(self.embed.weight.dtype)
        inputs, ahead = inputs.tensor_split([self.width], -1)
        recurrent, read = self._with_history(inputs, state)
        windows = read[..., self.last].unfold(1, self.context, 1)  # [rows, time, targets, context]
        level, relative, scale = relative_to_last(windows)
        parts = [relative]
        if len(self.others):
            beside = read[:, self.context - self.reach :, self.others].unfold(1, self.reach, 1)
            parts.append(beside.flatten(2).unsqueeze(2).expand(-1, -1, targets, -1))
        embedded = torch.relu(self.embed(torch.cat(parts, -1)))
        hidden, recurrent = self.rnn(embedded.transpose(1, 2).flatten(0, 1), recurrent)
        hidden = hidden.unflatten(0, (rows, targets)).transpose(1, 2)
        parts = hidden.unsqueeze(-2) if self.decode is None else self.decode(hidden)
        made = self.head(self.dropout(parts)).flatten(-2).unflatten(-1, (-1, self.outlook.size))
        added = made[..., : self.horizon, :]
        if self.known:
            of_steps = self.ahead(ahead.unflatten(-1, (self.horizon, -1))).unsqueeze(2)  # the same for all targets
            added = added + self.known_head(torch.relu(self.now(hidden).unsqueeze(3) + of_steps))
        centre = level + scale * (relative @ self.linear.T)  # type: ignore[operator]
        outputs = torch.cat([centre[..., None], scale[..., None].expand_as(centre[..., None]), added], -1)
        return outputs, self._state(recurrent, read, rows)

    def _with_history(self, inputs: Tensor, state: State) -> tuple[State, Tensor]:
        """The recurrent layers' state with a row for each target, and the inputs behind the values before them: those
        before the first are like it. `[rows, context − 1 + time, features]`."""
        before = None if state is None else state[1][-1, :, : inputs.size(2)]
        known = without_missing(inputs, before)
        inputs = torch.cat([known, inputs.isnan().to(known)], 2) if self.missing else known
        first = inputs[:, :1].expand(-1, self.context - 1, -1)
        if state is None:
            return None, torch.cat([first, inputs], 1)
        recurrent, history, begun = state
        before = torch.where(begun[0][:, None] > 0, history.transpose(0, 1), first)
        flat = [part.unflatten(2, (len(self.last), -1)).flatten(1, 2) for part in recurrent]
        return tuple(flat) if self.rnn.pairs else flat[0], torch.cat([before, inputs], 1)

    def _state(self, recurrent: State, read: Tensor, rows: int) -> State:
        parts = recurrent if self.rnn.pairs else (recurrent,)
        by_row = tuple(part.unflatten(1, (rows, -1)).flatten(2) for part in parts)
        history = read[:, read.size(1) - self.context + 1 :].transpose(0, 1)
        return by_row, history, read.new_ones(1, rows, 1)


class Parallel(nn.Module):
    """SegRNN's decoding (Lin et al. 2023, arXiv 2308.11200): for each segment of the horizon, one step of a GRU cell
    from the state, with an embedding of the segment's place as its input; all at once.

    Args:
        size: units.
        segments: how many.
    """

    def __init__(self, size: int, segments: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(segments, size))
        self.cell = nn.GRUCell(size, size)

    def forward(self, state: Tensor) -> Tensor:
        """`[…, size]` to `[…, segments, size]`."""
        shape = (*state.shape[:-1], *self.places.shape)
        states, places = state.unsqueeze(-2).expand(shape), self.places.expand(shape)
        decoded: Tensor = self.cell(places.reshape(-1, shape[-1]), states.reshape(-1, shape[-1]))
        return decoded.view(shape)


def without_missing(values: Tensor, before: Tensor | None = None) -> Tensor:
    """Each number that is missing, nan, replaced by the latest before it.

    Args:
        values: float `[…, time, columns]`.
        before: what was the latest at first, `[…, columns]`; zeros by default, the mean of standardised numbers.
    """
    known = ~values.isnan()
    steps = torch.arange(values.size(-2), device=values.device).unsqueeze(1)
    latest = torch.where(known, steps, -1).cummax(-2).values
    at_first = torch.zeros_like(values[..., :1, :]) if before is None else before.unsqueeze(-2)
    return torch.where(latest < 0, at_first, values.nan_to_num(0.0).gather(-2, latest.clamp(min=0)))


def relative_to_last(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The latest value of each window `[…, context]`, the distances from it in deviations, and the deviation: `[…, 1]`,
    `[…, context]` and `[…, 1]`."""
    level = windows[..., -1:]
    distance = windows - level
    apart = distance - distance.mean(-1, keepdim=True)  # `std` takes three times as long
    scale = apart.square().mean(-1, keepdim=True).sqrt().clamp(min=LEAST_SCALE)
    return level, distance / scale, scale
