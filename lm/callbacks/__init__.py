"""What a run shows and keeps."""

from lm.callbacks.progress import Progress
from lm.callbacks.result import Result

__all__ = ["Progress", "Result"]
