"""Classifies image files with a checkpoint: `python -m vision.classify CKPT image.png …`."""

import argparse
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from unroll.checkpoint import checkpoint_file, model_class
from unroll.command import ending_in_one_line
from unroll.errors import UserError
from vision.checkpoint import Loaded, load_model

SIZE = 32


def read_image(path: Path) -> Tensor:
    """The middle of the image, scaled to the size of those that models are trained on: uint8 `[3, 32, 32]`.

    Raises:
        UserError: the file is missing, or not an image.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.fit(file.convert("RGB"), (SIZE, SIZE), Image.Resampling.BOX)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:  # Pillow raises several kinds
        raise UserError(f"{path}: not an image that can be read ({type(error).__name__})") from None
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


@torch.inference_mode()
def classify(loaded: Loaded, pixels: Tensor) -> Tensor:
    """The probability of each class, float `[images, classes]`, for uint8 `[images, 3, 32, 32]`."""
    return loaded.model(loaded.normalise(pixels)).softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vision.classify", description="Classifies images.")
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own (default: as in its run)")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="files; their middle is classified")
    parser.add_argument("--top", type=int, default=3, help="how many classes are printed (default: %(default)s)")
    arguments = parser.parse_args()
    with ending_in_one_line():
        path = checkpoint_file(arguments.checkpoint)
        loaded = load_model(path, model_class(path, arguments.model))
        for path in arguments.images:
            (probabilities,) = classify(loaded, read_image(path)[None])
            top = probabilities.topk(max(1, min(arguments.top, len(probabilities))))
            named = (f"{loaded.classes[at]} {value:.3f}" for value, at in zip(*map(Tensor.tolist, top), strict=True))
            print(f"{path}: {', '.join(named)}", flush=True)


if __name__ == "__main__":
    main()
