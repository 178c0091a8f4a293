"""Recurrent models on streams with PyTorch Lightning: truncated backpropagation through time, done right.

`unroll.Stream` yields aligned windows, `unroll.CarriesState` hands a model's state from window to window in any
LightningModule, `unroll.LastCheckpoint` makes a run resumable at any step. Names are imported when they are first used,
so that `unroll.cli` can answer before torch is imported.
"""

from typing import TYPE_CHECKING

from unroll.lazy import lazily

if TYPE_CHECKING:
    from unroll.callbacks.last import LastCheckpoint
    from unroll.carry import CarriesState
    from unroll.checkpoint_io import CheckpointFiles
    from unroll.data import Data
    from unroll.errors import UserError
    from unroll.module import Learner, WindowLearner
    from unroll.objectives import CrossEntropy, MeanSquaredError, Objective
    from unroll.schedules import constant, one_cycle, sgdr, steps
    from unroll.state_file import load_state, save_state
    from unroll.streams import IndependentWindows, Stream, Window

HOMES = {
    "CarriesState": "carry",
    "CheckpointFiles": "checkpoint_io",
    "CrossEntropy": "objectives",
    "Data": "data",
    "IndependentWindows": "streams",
    "LastCheckpoint": "callbacks.last",
    "Learner": "module",
    "MeanSquaredError": "objectives",
    "Objective": "objectives",
    "Stream": "streams",
    "UserError": "errors",
    "Window": "streams",
    "WindowLearner": "module",
    "constant": "schedules",
    "load_state": "state_file",
    "one_cycle": "schedules",
    "save_state": "state_file",
    "sgdr": "schedules",
    "steps": "schedules",
}

__all__ = [
    "CarriesState",
    "CheckpointFiles",
    "CrossEntropy",
    "Data",
    "IndependentWindows",
    "LastCheckpoint",
    "Learner",
    "MeanSquaredError",
    "Objective",
    "Stream",
    "UserError",
    "Window",
    "WindowLearner",
    "constant",
    "load_state",
    "one_cycle",
    "save_state",
    "sgdr",
    "steps",
]


__getattr__ = lazily("unroll", HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
