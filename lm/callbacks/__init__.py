"""What a run shows and keeps."""

from lm.callbacks.average import Average
from lm.callbacks.board import Board
from lm.callbacks.cycles import CycleCheckpoints
from lm.callbacks.divergence import StopWhenDiverged
from lm.callbacks.last import LastCheckpoint
from lm.callbacks.progress import Progress
from lm.callbacks.result import Result
from lm.callbacks.samples import Samples

__all__ = [
    "Average",
    "Board",
    "CycleCheckpoints",
    "LastCheckpoint",
    "Progress",
    "Result",
    "Samples",
    "StopWhenDiverged",
]
