"""The models, plain `nn.Module`s: `forward(tokens, state=None) -> (logits, state)`.

- `tokens` is int64 `[batch, time]`.
- `logits` is float `[batch, predictions, vocab]`: predictions is `time`, or 1 for the models that guess only
  the word after the last.
- `state` is what a model wants to be given with the next window: None (nothing), a tensor, or a tuple of
  tensors. Its batch axis is always `lm.state.BATCH_AXIS`, as in PyTorch: `[layers, batch, hidden]`.
  `state=None` starts from zeros. A model never stores state on itself.
"""

from lm.models.human_numbers import GRU, RNN, Loop, MultiOutput, Stateful, Unrolled
from lm.models.nietzsche import (
    CharConcat,
    CharGRU,
    CharLoop,
    CharLSTM,
    CharRNN,
    CharSeq,
    CharStateful,
    CharStatefulCell,
    CharThree,
)

__all__ = [
    "GRU",
    "RNN",
    "CharConcat",
    "CharGRU",
    "CharLSTM",
    "CharLoop",
    "CharRNN",
    "CharSeq",
    "CharStateful",
    "CharStatefulCell",
    "CharThree",
    "Loop",
    "MultiOutput",
    "Stateful",
    "Unrolled",
]
