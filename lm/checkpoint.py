"""A language model from its checkpoint, with the vocabulary that it speaks."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

import lm.models
from lm.data import Tokenizer, Vocabulary
from training import checkpoint
from training.errors import UserError


class Loaded(NamedTuple):
    """What a checkpoint holds.

    `context` is the number of tokens a window had in training, `prompt` a text to begin with.
    """

    model: nn.Module
    vocabulary: Vocabulary
    context: int
    prompt: str


def load_model(path: str | Path) -> Loaded:
    """The trained model, in eval mode on the CPU, and what belongs to it.

    Nothing in the file is run, and the model is built only if it is one of `lm.models`.

    Raises:
        UserError: the file is missing, or not a checkpoint of a language model of this project.
    """
    model, metadata = checkpoint.rebuild(
        Path(path), lm.models, lambda metadata: {"vocab_size": len(metadata["vocabulary"])}
    )
    try:
        vocabulary = Vocabulary(metadata["vocabulary"], Tokenizer(**metadata["tokenizer"]))
        return Loaded(model, vocabulary, metadata["context"], metadata["prompt"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a checkpoint of this project") from None
