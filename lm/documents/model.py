"""A class for a whole document, read in windows: memory does not grow with its length."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lm.language.stacks import AWDGRU, AWDLSTM, QRNN, MinGRU, MinLSTM, Mogrifier, Stack
from unroll.checks import Share, Size, checked
from unroll.device import sent
from unroll.nn import BatchNorm
from unroll.state import State, add_rows, detach

BodyName = Literal["awd_lstm", "awd_gru", "qrnn", "min_gru", "min_lstm", "mogrifier"]
BODIES: dict[str, Callable[..., Stack]] = {
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
        body: a language model of `lm.language`, whose head is left out.
        embedding_size, hidden_size, num_layers: of the body.
        bptt: tokens per window.
        max_tokens: gradients reach through so many of a document's last tokens, in whole windows.
        head_size: units between what is pooled and the scores.
        head_dropout: before each of the head's two products.
        settings: of the body: its dropouts.
    """

    not_captured = "the windows that it reads a document in depend on the documents' lengths"

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
            lengths: of the documents, int64 `[rows]`, 1 or more; best on the CPU, where they are looked at.

        Returns:
            The scores, float `[rows, classes]`.
        """
        return self.head(self.pooled(tokens, lengths))

    def pooled(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The last output of each document beside the maximum and the mean over all, float `[rows, 3 hidden]`.

        Documents are laid out so that all of them end in the last window, the only one that may not be full; each
        starts in a window of its own, with a state of zeros. The longest come first, so that the rows of a window are
        those of the window before, and perhaps more.
        """
        lengths, order = lengths.cpu().sort(descending=True)
        longest = int(lengths[0])
        bptt = min(self.bptt, longest)
        counts = -(-lengths // bptt)  # windows of each document
        windows = -(-longest // bptt)
        left = lengths - (counts - 1) * bptt  # tokens of the last window
        rows = (counts >= torch.arange(windows, 0, -1).unsqueeze(1)).sum(1).tolist()  # by window
        last_width = int(left.max())
        lengths, order, counts, left = (sent(part, tokens.device) for part in (lengths, order, counts, left))
        learning = max(0, windows - self.windows) if torch.is_grad_enabled() else windows  # the first window that does

        def vectors(window: int, width: int) -> Tensor:
            """Of so many tokens of every document, from the window on."""
            first = (counts - (windows - window)).unsqueeze(1) * bptt
            places = (first + torch.arange(width, device=tokens.device)).clamp(0, tokens.size(1) - 1)
            return self.body.embed(tokens[order.unsqueeze(1), places])

        state: State = None
        highest = total = self.body.embed.weight.new_zeros(0, self.body.output_size)
        for window, active in enumerate(rows):
            with torch.set_grad_enabled(window >= learning):
                if window == learning:  # at once: each lookup has a gradient of the size of the embedding
                    ahead = vectors(window, (windows - window) * bptt).split(bptt, dim=1)
                x = ahead[window - learning] if window >= learning else vectors(window, bptt)
                x = x[:active]
                if state is not None and active > rows[window - 1]:
                    state = add_rows(state, active)
                if window == windows - 1:
                    x = x[:, :last_width]
                _, outputs, state = self.body.read(x, state)
                of_maximum = of_sum = outputs
                if window == windows - 1:
                    outside = (torch.arange(x.size(1), device=x.device) >= left.unsqueeze(1)).unsqueeze(2)
                    of_maximum, of_sum = (outputs.masked_fill(outside, value) for value in (-torch.inf, 0))
                highest = joined(highest, of_maximum.amax(1), torch.maximum)
                total = joined(total, of_sum.sum(1), torch.add)
            if window < learning:
                state = detach(state)
        last = outputs[torch.arange(len(outputs), device=outputs.device), left - 1]
        return torch.cat([last, highest, total / lengths.unsqueeze(1)], 1)[order.argsort()]


def joined(before: Tensor, now: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What is pooled so far, `[rows, hidden]`: joined for the rows that were there before, new for the others."""
    return torch.cat([join(before, now[: len(before)]), now[len(before) :]])
