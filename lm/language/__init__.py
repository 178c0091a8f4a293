"""Language models: those of the lessons, one below the other, and stacks that go beyond them.

A model is a `NextTokenModel`: `features(tokens, state=None) -> (features, state)` and a `head`, one of
`lm.language.heads` (the argument `head` says which: "linear" or "adaptive"); `forward` is the head of the features. One
that adds a penalty to the loss in training has `penalised(tokens, state=None) -> (features, state, penalty)` as well:
the penalty is a scalar tensor or None. A model that reads windows of one length only has it as `only_window`.

Each model is imported when it is first used.
"""

from typing import TYPE_CHECKING

from unroll.lazy import lazily

if TYPE_CHECKING:
    from lm.language.blocks import MinGRUBlocks, MinLSTMBlocks
    from lm.language.human_numbers import GRU, RNN, Loop, MultiOutput, Stateful, Unrolled
    from lm.language.nietzsche import (
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
    from lm.language.stacks import AWDGRU, AWDLSTM, QRNN, MinGRU, MinLSTM, Mogrifier

MODULES = {
    "AWDGRU": "stacks",
    "AWDLSTM": "stacks",
    "CharConcat": "nietzsche",
    "CharGRU": "nietzsche",
    "CharLSTM": "nietzsche",
    "CharLoop": "nietzsche",
    "CharRNN": "nietzsche",
    "CharSeq": "nietzsche",
    "CharStateful": "nietzsche",
    "CharStatefulCell": "nietzsche",
    "CharThree": "nietzsche",
    "GRU": "human_numbers",
    "Loop": "human_numbers",
    "MinGRU": "stacks",
    "MinGRUBlocks": "blocks",
    "MinLSTM": "stacks",
    "MinLSTMBlocks": "blocks",
    "Mogrifier": "stacks",
    "MultiOutput": "human_numbers",
    "QRNN": "stacks",
    "RNN": "human_numbers",
    "Stateful": "human_numbers",
    "Unrolled": "human_numbers",
}

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

__getattr__ = lazily("lm.language", MODULES)
