"""The models, plain `nn.Module`s: `forward(images) -> logits`.

- `images` is float `[batch, 3, 32, 32]`, normalised by the training set's channel means and deviations.
- `logits` is float `[batch, classes]`.
"""

from vision.models.ladder import ConvBN, ConvBNDeep, ConvLayers, ConvNet, PreActResNet, ResNet, SimpleNet
from vision.models.whitened import WhitenedNet

__all__ = ["ConvBN", "ConvBNDeep", "ConvLayers", "ConvNet", "PreActResNet", "ResNet", "SimpleNet", "WhitenedNet"]
