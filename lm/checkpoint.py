"""Loads a language model from its checkpoint, with its vocabulary."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

import lm.models
from lm.data import Tokenizer, Vocabulary
from unroll.checkpoint import rebuild
from unroll.errors import UserError

MODELS = {name: getattr(lm.models, name) for name in lm.models.__all__}


class Loaded(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        model: in eval mode, on the CPU.
        vocabulary: the tokens it knows.
        context: the number of tokens in a window of its training.
        prompt: a text to begin with.
    """

    model: nn.Module
    vocabulary: Vocabulary
    context: int
    prompt: str


def load_model(path: str | Path, model: type[nn.Module] | None = None) -> Loaded:
    """The trained model and what belongs to it.

    Nothing in the file is run, and no class is built but `model`, or one of `lm.models`.

    Args:
        path: the checkpoint.
        model: the class, for a model that is not one of `lm.models`.

    Raises:
        UserError: the file is missing, or not a checkpoint of a language model of this project.
    """
    loaded, metadata = rebuild(Path(path), model or MODELS)
    try:
        data = metadata["data"]
        vocabulary = Vocabulary(data["vocabulary"], Tokenizer(**data["tokenizer"]))
        size = metadata["model"]["arguments"]["vocab_size"]
        if len(vocabulary) != size:
            raise UserError(f"{path}: its vocabulary has {len(vocabulary)} tokens, which do not fit its model's {size}")
        return Loaded(loaded, vocabulary, data["context"], data["prompt"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a checkpoint of a language model of this project") from None
