"""What is in a picture, by a checkpoint: `python -m vision.classify CKPT picture.png …`."""

import argparse
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from training.errors import UserError
from vision.checkpoint import Loaded, load_model

SIZE = 32


def read_picture(path: Path) -> Tensor:
    """The middle of the picture, brought to the size of those that models are trained on: uint8 `[3, 32, 32]`.

    Raises:
        UserError: it is not there, or not a picture.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.fit(file.convert("RGB"), (SIZE, SIZE), Image.Resampling.BOX)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:  # Pillow raises several kinds
        raise UserError(f"{path}: not a picture that can be read ({type(error).__name__})") from None
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)


@torch.inference_mode()
def classify(loaded: Loaded, pixels: Tensor) -> Tensor:
    """How sure the model is of each class, float `[images, classes]`, of uint8 `[images, 3, 32, 32]`."""
    return loaded.model(loaded.normalise(pixels)).softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vision.classify", description="What is in a picture.")
    parser.add_argument("checkpoint", help="a file that a run left in its checkpoints/")
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+", help="files; their middle is looked at")
    parser.add_argument("--top", type=int, default=3, help="how many classes are named (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        loaded = load_model(arguments.checkpoint)
        for path in arguments.pictures:
            (sure,) = classify(loaded, read_picture(path)[None])
            top = sure.topk(max(1, min(arguments.top, len(sure))))
            named = (f"{loaded.classes[at]} {value:.3f}" for value, at in zip(*map(Tensor.tolist, top), strict=True))
            print(f"{path}: {', '.join(named)}", flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
