"""What a run shows and keeps, whatever it learns. Each callback is imported when it is first used."""

from typing import TYPE_CHECKING

from unroll.lazy import lazily

if TYPE_CHECKING:
    from unroll.training.callbacks.average import Average, NonMonotonicAverage
    from unroll.training.callbacks.best import BestCheckpoint
    from unroll.training.callbacks.confusion import ConfusionMatrix
    from unroll.training.callbacks.cycles import CycleCheckpoints
    from unroll.training.callbacks.divergence import StopWhenDiverged
    from unroll.training.callbacks.progress import Progress
    from unroll.training.callbacks.result import Result
    from unroll.training.callbacks.tensorboard import Curves, HyperParameters, Throughput

MODULES = {
    "Average": "average",
    "BestCheckpoint": "best",
    "ConfusionMatrix": "confusion",
    "Curves": "tensorboard",
    "CycleCheckpoints": "cycles",
    "HyperParameters": "tensorboard",
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
    "NonMonotonicAverage",
    "Progress",
    "Result",
    "StopWhenDiverged",
    "Throughput",
]

__getattr__ = lazily("unroll.training.callbacks", MODULES)
