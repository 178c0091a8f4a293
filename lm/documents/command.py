"""The classes of documents: `python -m lm.classify CKPT FILE …`; several checkpoints give the mean of what they say."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lm.documents.checkpoint import TrainedClassifier
from unroll.errors import UserError
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.terminal import errors_in_one_line


@torch.inference_mode()
def classify(models: Sequence[TrainedClassifier], text: str) -> Tensor:
    """The probability of each class, float `[classes]`: the mean over the models.

    Raises:
        UserError: the text is empty, or the models' classes differ.
    """
    classes = models[0].classes
    if any(model.classes != classes for model in models):
        raise UserError(f"the models have different classes: {'; '.join(', '.join(model.classes) for model in models)}")
    found = []
    for model in models:
        tokens = model.vocabulary.encode(text)
        if not len(tokens):
            raise UserError("the text is empty")
        if model.backwards:
            tokens = tokens.flip(0)
        found.append(model.model(tokens[None], torch.tensor([len(tokens)]))[0].softmax(-1))
    return torch.stack(found).mean(0)


def read(name: str) -> str:
    """The text of a file, or of standard input for `-`.

    Raises:
        UserError: it can't be read.
    """
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{'standard input' if name == '-' else name}: not UTF-8 text") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lm.classify", description="The classes of documents, and how probable they are."
    )
    parser.add_argument(
        "paths",
        metavar="CKPT … FILE",
        nargs="+",
        help="checkpoints (files that end in .ckpt, or run directories), then texts; -: standard input",
    )
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    with errors_in_one_line():
        checkpoints = [name for name in arguments.paths if name.endswith(".ckpt") or Path(name).is_dir()]
        files = [name for name in arguments.paths if name not in checkpoints]
        if not checkpoints or not files:
            raise UserError("give a checkpoint or run directory, and a text file (or - for standard input)")
        model_class = class_named(arguments.model)
        models = [TrainedClassifier.load(checkpoint_file(Path(name)), model_class) for name in checkpoints]
        for name in files:
            try:
                probabilities = classify(models, read(name))
            except UserError as error:
                raise UserError(f"{name}: {error}" if str(error) == "the text is empty" else str(error)) from None
            best = int(probabilities.argmax())
            print(f"{name}: {models[0].classes[best]} {probabilities[best]:.3f}", flush=True)
