"""The models, plain `nn.Module`s: `forward(tokens, state=None) -> (logits, state)`.

- `tokens` is int64 `[rows, time]`.
- `logits` is float `[rows, predictions, vocab]`: predictions is `time`, or 1 for the models that predict only the token
  after the last.
- `state` is what the model needs to read the next window: None (nothing), a tensor, or a tuple of tensors, with the
  rows on axis 1, as in PyTorch: `[layers, rows, hidden]`. `state=None` means from zeros. A model never stores state on
  itself.

A model that adds a penalty to the loss in training has `penalised(tokens, state=None) -> (logits, state, penalty)` as
well. The penalty is a scalar tensor or None; `forward` is the same without it.

A model ends in `head`, one of `lm.models.heads` (the argument `head` says which: "linear" or "adaptive"). The loss is
taken from the head, without the scores; a model that ends in something else is trained on its scores.

A model that reads windows of one length only has it as `only_window`.
"""

from lm.models.blocks import MinGRUBlocks, MinLSTMBlocks
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
from lm.models.stacks import AWDGRU, AWDLSTM, QRNN, MinGRU, MinLSTM, Mogrifier

__all__ = [
    "AWDGRU",
    "AWDLSTM",
    "GRU",
    "QRNN",
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
    "MinGRU",
    "MinGRUBlocks",
    "MinLSTM",
    "MinLSTMBlocks",
    "Mogrifier",
    "MultiOutput",
    "Stateful",
    "Unrolled",
]
