"""What a language model is."""

from typing import Any

from torch import Tensor, nn


class NextTokenModel(nn.Module):
    """A model that predicts the next token: a score for each token of the vocabulary.

    `forward` is the head of the features. A model never stores state on itself.

    Attributes:
        head: one of `lm.language.heads`: features `[rows, predictions, hidden]` → scores `[rows, predictions, vocab]`.
            The loss is taken from the head, without the scores.
    """

    head: nn.Module

    def features(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """
        Args:
            tokens: int64 `[rows, time]`.
            state: as it was returned for the window before; None for zeros.

        Returns:
            What the head is given, float `[rows, predictions, hidden]`: predictions is `time`, or 1 for a model that
            predicts only the token after the last. And the state after the window: None (nothing is carried), a tensor,
            or a tuple of tensors, with the rows on axis 1, as in PyTorch: `[layers, rows, hidden]`.
        """
        raise NotImplementedError

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The scores, float `[rows, predictions, vocab]`, and the state after the window."""
        features, state = self.features(tokens, state)
        return self.head(features), state
