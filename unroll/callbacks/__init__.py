"""What a run shows and keeps, whatever it learns. Each callback is imported when it is first used."""

from typing import TYPE_CHECKING

from unroll.lazy import lazily

if TYPE_CHECKING:
    from unroll.callbacks.average import Average, NonMonotonicAverage
    from unroll.callbacks.best import BestCheckpoint
    from unroll.callbacks.confusion import ConfusionMatrix
    from unroll.callbacks.cycles import CycleCheckpoints
    from unroll.callbacks.divergence import StopWhenDiverged
    from unroll.callbacks.last import LastCheckpoint
    from unroll.callbacks.progress import Progress
    from unroll.callbacks.result import Result
    from unroll.callbacks.tensorboard import Curves, HyperParameters, Throughput

HOMES = {
    "Average": "average",
    "BestCheckpoint": "best",
    "ConfusionMatrix": "confusion",
    "Curves": "tensorboard",
    "CycleCheckpoints": "cycles",
    "HyperParameters": "tensorboard",
    "LastCheckpoint": "last",
    "NonMonotonicAverage": "average",
    "Progress": "progress",
    "Result": "result",
    "StopWhenDiverged": "divergence",
    "Throughput": "tensorboard",
}

__all__ = [
    "Average",
    "BestCheckpoint",
    "ConfusionMatrix",
    "Curves",
    "CycleCheckpoints",
    "HyperParameters",
    "LastCheckpoint",
    "NonMonotonicAverage",
    "Progress",
    "Result",
    "StopWhenDiverged",
    "Throughput",
]

__getattr__ = lazily("unroll.callbacks", HOMES)
