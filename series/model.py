"""A recurrent model that forecasts numbers."""

from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from unroll.checks import Share, Size, checked, list_of, whole
from unroll.errors import UserError
from unroll.state import State

Places = Annotated[Sequence[int], list_of(whole(0), "[0,1]")]

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class Forecaster(nn.Module):
    """Recurrent layers, and a linear head that forecasts how much each target changes from its last value.

    Args:
        features: numbers per step.
        targets: how many of them are forecast.
        last: where the last value of each target is among the features; None if they don't have them, and the head
            forecasts the values themselves.
        cell: the kind of recurrent layer.
        hidden_size: units per layer.
        num_layers: layers.
        dropout: between the layers, and before the head.
    """

    @checked
    def __init__(
        self,
        features: int,
        targets: int,
        last: Places | None = None,
        cell: Literal["gru", "lstm", "rnn"] = "gru",
        hidden_size: Size = 64,
        num_layers: Size = 1,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.rnn = CELLS[cell](features, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, targets)
        self.last = None if last is None else list(last)
        if self.last is not None and (len(self.last) != targets or max(self.last) >= features):
            raise UserError(
                f"last={self.last}: must be the place of each of {targets} targets among {features} features"
            )

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """
        Args:
            inputs: float `[rows, time, features]`, standardised.
            state: of `nn.GRU`, `nn.LSTM` or `nn.RNN`; None for zeros.

        Returns:
            The forecasts, float `[rows, time, targets]`, standardised; the state after them.
        """
        outputs, state = self.rnn(inputs, state)
        forecasts = self.head(self.dropout(outputs))
        return forecasts if self.last is None else forecasts + inputs[..., self.last], state
