"""Recurrent models on streams with PyTorch Lightning: truncated backpropagation through time, done right.

`unroll.Stream` yields aligned windows, `unroll.CarriesState` hands a model's state from window to window in any
LightningModule, `unroll.LastCheckpoint` makes a run resumable at any step. Names are imported when they are first used,
so that `unroll.cli` can answer before torch is imported.
"""

import os
import sys

# `python -m` looks for modules in the current folder first, and that may be a stranger's run directory.
if sys.argv[:1] == ["-m"] and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from typing import TYPE_CHECKING

from unroll.lazy import lazily

if TYPE_CHECKING:
    from unroll.carry import CarriesState
    from unroll.errors import UserError
    from unroll.precision import fitting_precision
    from unroll.resume.last_checkpoint import LastCheckpoint
    from unroll.resume.plugin import CheckpointFiles
    from unroll.state_file import load_state, save_state
    from unroll.streams import IndependentWindows, Stream, Window
    from unroll.training.data import Data
    from unroll.training.learner import Learner, WindowLearner
    from unroll.training.objectives import CrossEntropy, MeanSquaredError, Objective, Scored
    from unroll.training.schedules import constant, count_steps, one_cycle, sgdr, steps
    from unroll.version import __version__

MODULES = {
    "CarriesState": "carry",
    "CheckpointFiles": "resume.plugin",
    "CrossEntropy": "training.objectives",
    "Data": "training.data",
    "IndependentWindows": "streams",
    "LastCheckpoint": "resume.last_checkpoint",
    "Learner": "training.learner",
    "MeanSquaredError": "training.objectives",
    "Objective": "training.objectives",
    "Scored": "training.objectives",
    "Stream": "streams",
    "UserError": "errors",
    "Window": "streams",
    "WindowLearner": "training.learner",
    "__version__": "version",
    "constant": "training.schedules",
    "count_steps": "training.schedules",
    "fitting_precision": "precision",
    "load_state": "state_file",
    "one_cycle": "training.schedules",
    "save_state": "state_file",
    "sgdr": "training.schedules",
    "steps": "training.schedules",
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
    "Scored",
    "Stream",
    "UserError",
    "Window",
    "WindowLearner",
    "__version__",
    "constant",
    "count_steps",
    "fitting_precision",
    "load_state",
    "one_cycle",
    "save_state",
    "sgdr",
    "steps",
]


__getattr__ = lazily("unroll", MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
