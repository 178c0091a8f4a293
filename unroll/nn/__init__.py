"""Recurrent layers under one contract: `layer(x, state=None, resets=None) -> (y, state)`.

x and y are `[rows, time, size]`. The state is a tensor or a tuple of tensors with the rows on axis 1, as in
`torch.nn.LSTM`; None stands for zeros, and no layer keeps a state on itself. Reading a sequence whole, window by window
or step by step gives the same outputs. `resets`, bool `[rows, time]`, are the steps before which a row's state becomes
zeros.

Each file has a layer's equations, and the cell that computes a single step of them where the layer has one.
"""

from unroll.nn.gru import GRU, GRUCell
from unroll.nn.layer import RecurrentLayer
from unroll.nn.lstm import LSTM, LSTMCell
from unroll.nn.min_gru import MinGRU
from unroll.nn.min_lstm import MinLSTM
from unroll.nn.mogrifier import Mogrifier, MogrifierCell
from unroll.nn.norm import BatchNorm
from unroll.nn.qrnn import QRNN
from unroll.nn.regularisation import EmbeddingDropout, LockedDropout, WeightDrop
from unroll.nn.rnn import RNN, RNNCell

__all__ = [
    "GRU",
    "LSTM",
    "QRNN",
    "RNN",
    "BatchNorm",
    "EmbeddingDropout",
    "GRUCell",
    "LSTMCell",
    "LockedDropout",
    "MinGRU",
    "MinLSTM",
    "Mogrifier",
    "MogrifierCell",
    "RNNCell",
    "RecurrentLayer",
    "WeightDrop",
]
