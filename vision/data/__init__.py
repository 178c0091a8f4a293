"""From images to batches: archive or generator → pixels → batches.

The Lightning data modules are in `vision.data.data_modules`, which is not imported here.
"""

from vision.data.batches import ImageBatches, Images
from vision.data.cifar10 import read_cifar10
from vision.data.shapes import draw_shapes

__all__ = ["ImageBatches", "Images", "draw_shapes", "read_cifar10"]
