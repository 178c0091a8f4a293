"""A class for a whole document, read in windows: memory does not grow with its length."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lm.models.layers import BatchNorm
from lm.models.stacks import AWDGRU, AWDLSTM, QRNN, MinGRU, MinLSTM, Mogrifier, Stack
from unroll.checks import Share, Size, checked
from unroll.state import State, detach, start_rows

BodyName = Literal["awd_lstm", "awd_gru", "qrnn", "min_gru", "min_lstm", "mogrifier"]
BODIES: dict[str, type[Stack]] = {
    "awd_lstm": AWDLSTM,
    "awd_gru": AWDGRU,
    "qrnn": QRNN,
    "min_gru": MinGRU,
    "min_lstm": MinLSTM,
    "mogrifier": Mogrifier,
}
assert set(BODIES) == set(get_args(BodyName))


class Classifier(nn.Module):
    """Recurrent layers read a document window by window, the state carried; what they return is pooled, and a small
    head scores the classes (ULMFiT, Howard & Ruder 2018, arXiv 1801.06146; fastai's `SentenceEncoder` and
    `PoolingLinearClassifier`).

    Args:
        vocab_size: the number of tokens.
        classes: how many there are.
        body: a language model of `lm.models`, whose head is left out.
        embedding_size, hidden_size, num_layers: of the body.
        bptt: tokens per window.
        max_tokens: gradients reach through so many of a document's last tokens, in whole windows.
        head_size: units between what is pooled and the scores.
        head_dropout: before each of the head's two products.
        settings: of the body: its dropouts.
    """

    @checked
    def __init__(
        self,
        vocab_size: int,
        classes: int,
        body: BodyName = "awd_lstm",
        embedding_size: Size = 100,
        hidden_size: Size = 200,
        num_layers: Size = 1,
        *,
        bptt: Size = 70,
        max_tokens: Size = 1400,
        head_size: Size = 50,
        head_dropout: Share = 0.2,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.bptt = bptt
        self.windows = -(-max_tokens // bptt)
        self.body = BODIES[body](vocab_size, embedding_size, hidden_size, num_layers, **settings)
        self.body.head = nn.Identity()
        nn.init.uniform_(self.body.embed.weight, -0.1, 0.1)
        pooled = 3 * self.body.output_size
        self.head = nn.Sequential(
            BatchNorm(pooled),
            nn.Dropout(head_dropout),
            nn.Linear(pooled, head_size),
            nn.ReLU(),
            BatchNorm(head_size),
            nn.Dropout(head_dropout),
            nn.Linear(head_size, classes),
        )

    @property
    def layer_groups(self) -> list[str]:
        """The layers below the head, from the top down."""
        return [f"body.{name}" for name in self.body.layer_groups]

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """
        Args:
            tokens: int64 `[rows, time]`, each document from the start of its row.
            lengths: of the documents, int64 `[rows]`, 1 or more.

        Returns:
            The scores, float `[rows, classes]`.
        """
        return self.head(self.pooled(tokens, lengths))

    def pooled(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The last output of each document beside the maximum and the mean over all, float `[rows, 3 hidden]`.

        Documents are laid out so that all of them end in the last window; each starts in a window of its own, with a
        state of zeros.
        """
        count = -(-lengths // self.bptt)
        windows = int(count.max())
        first = windows - count  # the window in which a row starts
        steps = torch.arange(self.bptt, device=tokens.device)
        state: State = None
        parts: tuple[Tensor, ...] = ()
        for window in range(windows):
            at = (window - first).unsqueeze(1) * self.bptt + steps
            mask = (at >= 0) & (at < lengths.unsqueeze(1))
            inputs = tokens.gather(1, at.clamp(0, tokens.size(1) - 1))
            if window == windows - 1:  # no longer than it must be
                width = int(mask.sum(1).max())
                inputs, mask = inputs[:, :width], mask[:, :width]
            learns = torch.is_grad_enabled() and window >= windows - self.windows
            with torch.set_grad_enabled(learns):
                if state is not None:
                    state = start_rows(state, first == window)
                _, outputs, state = self.body.read(inputs, state)
                parts = gathered(parts, outputs, mask)
            if not learns:
                state = detach(state)
        last, highest, total = parts
        return torch.cat([last, highest, total / lengths.unsqueeze(1)], 1)


def gathered(parts: tuple[Tensor, ...], outputs: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """The last output, the maximum and the sum over all windows so far, each `[rows, hidden]`.

    Args:
        parts: of the windows before.
        outputs: of a window, `[rows, time, hidden]`.
        mask: the steps that count, bool `[rows, time]`: the first of a row, or none of it.
    """
    outside = ~mask.unsqueeze(2)
    reads = mask.any(1, keepdim=True)
    at = (mask.sum(1) - 1).clamp(min=0)
    last = outputs[torch.arange(len(outputs), device=outputs.device), at]
    highest = outputs.masked_fill(outside, -torch.inf).amax(1)
    total = outputs.masked_fill(outside, 0).sum(1)
    if not parts:
        return last, highest, total
    return torch.where(reads, last, parts[0]), torch.maximum(highest, parts[1]), total + parts[2]
