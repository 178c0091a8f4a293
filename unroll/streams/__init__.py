"""Data as batches that a training run can be resumed at: aligned windows of a sequence, and independent samples."""

from unroll.streams.resumable import Resumable
from unroll.streams.samples import IndependentSamples
from unroll.streams.stream import Stream
from unroll.streams.whole import WholeSequences
from unroll.streams.window import Window
from unroll.streams.windows import IndependentWindows

__all__ = ["IndependentSamples", "IndependentWindows", "Resumable", "Stream", "WholeSequences", "Window"]
