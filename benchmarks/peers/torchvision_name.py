"""Lets fastai import torchvision where it can't load its operators, as beside some builds of torch for the CPU: fastai
only needs the name.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    torch.library.Library("torchvision", "DEF").define("nms(Tensor dets, Tensor scores, float iou) -> Tensor")
