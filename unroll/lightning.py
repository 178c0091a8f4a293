"""Lightning, by the name that the program imports it by: `lightning.pytorch` or `pytorch_lightning`.

The two are copies of each other, and a Trainer takes the modules and plugins of its own copy alone (Lightning issue
19252). `pl` is the copy that the program imported first, looked up when a class of `unroll` that builds on Lightning is
first used; `pytorch_lightning` if it has imported none. Learners and data modules are of `pl`. What can serve the
Trainers of both copies does: `unroll.CarriesState`, `unroll.CheckpointFiles`, and callbacks.
"""

import sys
import warnings
from importlib import import_module
from operator import attrgetter
from types import ModuleType, new_class
from typing import TYPE_CHECKING, Any

from unroll.errors import UserError

NAMES = ("lightning.pytorch", "pytorch_lightning")


def imported() -> list[ModuleType]:
    """The copies that the program has imported by now, the first one first."""
    return [sys.modules[name] for name in list(sys.modules) if name in NAMES]


KNOWN = imported() or [import_module("pytorch_lightning")]

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import Checkpoint
else:
    pl = KNOWN[0]
    Checkpoint = new_class("Checkpoint", tuple(map(attrgetter("callbacks.Checkpoint"), KNOWN)))


def refuse_unknown_trainer(trainer: Any) -> None:
    """Refuses a Trainer for which a `Checkpoint` of this module is none: it would add one of its own beside it.

    Raises:
        UserError: its copy of Lightning was imported after this module.
    """
    for lightning in imported():
        if isinstance(trainer, lightning.Trainer) and lightning not in KNOWN:
            raise UserError(
                f"this is a Trainer of {lightning.__name__}, which was imported after unroll had taken "
                f"{pl.__name__}; import {lightning.__name__} before unroll"
            )


def warn_of_two() -> None:
    """Says whose Trainer takes the learners of `unroll`, where the program has imported both copies."""
    others = [lightning.__name__ for lightning in imported() if lightning is not pl]
    for other in others:
        warnings.warn(
            f"both copies of Lightning are imported; unroll's learners are for {pl.__name__}.Trainer, the first one. "
            f"For {other}.Trainer import {other} before {pl.__name__} and unroll",
            stacklevel=3,
        )
