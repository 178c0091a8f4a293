"""What a run shows and keeps: what every run does, and what belongs to text."""

from lm.callbacks.board import Board
from lm.callbacks.samples import Samples
from training.callbacks import Average, CycleCheckpoints, LastCheckpoint, Progress, Result, StopWhenDiverged

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
