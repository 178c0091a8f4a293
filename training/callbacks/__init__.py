"""What a run of any kind shows and keeps."""

from training.callbacks.average import Average
from training.callbacks.board import Board
from training.callbacks.cycles import CycleCheckpoints
from training.callbacks.divergence import StopWhenDiverged
from training.callbacks.last import LastCheckpoint
from training.callbacks.progress import Progress
from training.callbacks.result import Result

__all__ = ["Average", "Board", "CycleCheckpoints", "LastCheckpoint", "Progress", "Result", "StopWhenDiverged"]
