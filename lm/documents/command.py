"""The classes of documents: `python -m lm.classify CKPT FILE …`; several checkpoints give the mean of what they say."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lm.documents.checkpoint import TrainedClassifier
from reading.text import UTF_8, known_encoding, read_argument
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
    parser.add_argument("--encoding", default=UTF_8, metavar="NAME", help="of the texts (default: %(default)s)")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_intermixed_args()
    with errors_in_one_line():
        checkpoints = [name for name in arguments.paths if name.endswith(".ckpt") or Path(name).is_dir()]
        files = [name for name in arguments.paths if name not in checkpoints]
        if not checkpoints or not files:
            raise UserError("give a checkpoint or run directory, and a text file (or - for standard input)")
        model_class, encoding = class_named(arguments.model), known_encoding(arguments.encoding)
        models = [TrainedClassifier.load(checkpoint_file(Path(name)), model_class) for name in checkpoints]
        for name in files:
            try:
                probabilities = classify(models, read_argument(name, encoding))
            except UserError as error:
                raise UserError(f"{name}: {error}" if str(error) == "the text is empty" else str(error)) from None
            best = int(probabilities.argmax())
            print(f"{name}: {models[0].classes[best]} {probabilities[best]:.3f}", flush=True)
