"""The models, plain `nn.Module`s: `forward(tokens, state=None) -> (logits, state)`.

- `tokens` is int64 `[batch, time]`.
- `logits` is float `[batch, predictions, vocab]`: predictions is `time`, or 1 for the models that guess only
  the word after the last.
- `state` is what a model wants to be given with the next window: None (nothing), a tensor, or a tuple of
  tensors. Its batch axis is always `unroll.state.BATCH_AXIS`, as in PyTorch: `[layers, batch, hidden]`.
  `state=None` starts from zeros. A model never stores state on itself.

A model that adds something to the loss it is trained by has `penalised(tokens, state=None) -> (logits, state, penalty)`
as well, with a penalty that is a number (a tensor of no axes) or None; `forward` is the same without it.
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
from lm.models.stacks import AWDGRU, AWDLSTM, QRNN, MinGRU, MinLSTM

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
    "MinLSTM",
    "MultiOutput",
    "Stateful",
    "Unrolled",
]
