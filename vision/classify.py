"""Classifies image files with a checkpoint: `python -m vision.classify CKPT image.png …`."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.terminal import errors_in_one_line
from vision.checkpoint import TrainedImageClassifier
from vision.data.files import read_image


@torch.inference_mode()
def classify(loaded: TrainedImageClassifier, pixels: Tensor) -> Tensor:
    """The probability of each class, float `[images, classes]`, for uint8 `[images, 3, size, size]`."""
    return loaded.model(loaded.normalise(pixels)).softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vision.classify", description="Classifies images.")
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="files; their middle is classified")
    parser.add_argument("--top", type=int, default=3, help="how many classes are printed (default: %(default)s)")
    arguments = parser.parse_intermixed_args()
    with errors_in_one_line():
        loaded = TrainedImageClassifier.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model))
        for path in arguments.images:
            (probabilities,) = classify(loaded, read_image(path, loaded.size, loaded.bits)[None])
            top = probabilities.topk(max(1, min(arguments.top, len(probabilities))))
            named = (f"{loaded.classes[at]} {value:.3f}" for value, at in zip(*map(Tensor.tolist, top), strict=True))
            print(f"{path}: {', '.join(named)}", flush=True)


if __name__ == "__main__":
    main()
