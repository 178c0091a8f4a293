"""`training.loggers`, by the name that configurations of older runs know it by."""

from training.loggers import MetricsFile, TensorBoard

__all__ = ["MetricsFile", "TensorBoard"]
