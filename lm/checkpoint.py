"""What makes a checkpoint enough by itself: the model's name and settings, the vocabulary, the tokenizer."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import lm.models
from lm.data import Tokenizer, Vocabulary
from lm.errors import UserError

FORMAT_VERSION = 1
KEY = "unroll"


class Loaded(NamedTuple):
    """What a checkpoint holds.

    `context` is the number of tokens a window had in training, `prompt` a text to begin with.
    """

    model: nn.Module
    vocabulary: Vocabulary
    context: int
    prompt: str


def describe(
    model: nn.Module, settings: dict[str, Any], vocabulary: Vocabulary, context: int, prompt: str
) -> dict[str, Any]:
    """The metadata of a checkpoint: plain names, numbers and strings, no code.

    Args:
        model: the model whose weights the checkpoint holds.
        settings: the arguments it was built with, `vocab_size` apart.
        vocabulary: the tokens its ids stand for.
        context: how many tokens a window has.
        prompt: a text of the data to begin with.
    """
    return {
        "format_version": FORMAT_VERSION,
        "model": {"name": type(model).__name__, "settings": settings},
        "vocabulary": vocabulary.entries,
        "context": context,
        "prompt": prompt,
        "tokenizer": {"name": vocabulary.tokenizer.name, "lower": vocabulary.tokenizer.lower},
    }


def load_model(path: str | Path) -> Loaded:
    """The trained model, in eval mode on the CPU, and what belongs to it.

    Nothing in the file is run: it is read with `weights_only=True`, and the model is built only if it is
    one of `lm.models`.

    Raises:
        UserError: the file is missing, or not a checkpoint of this project.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # torch raises many kinds for files that are not checkpoints
        raise UserError(f"{path}: not a checkpoint that can be read safely ({type(error).__name__})") from None
    try:
        metadata = checkpoint[KEY]
        version = metadata["format_version"]
        name, settings = metadata["model"]["name"], metadata["model"]["settings"]
        vocabulary = Vocabulary(metadata["vocabulary"], Tokenizer(**metadata["tokenizer"]))
        context, prompt = metadata["context"], metadata["prompt"]
        weights = {
            key.removeprefix("model."): tensor
            for key, tensor in checkpoint["state_dict"].items()
            if key.startswith("model.")
        }
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a checkpoint of this project") from None
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version}; this version of the project reads {FORMAT_VERSION}")
    if name not in lm.models.__all__:
        raise UserError(f"{path}: model {name!r} is not one of lm.models: {', '.join(lm.models.__all__)}")
    try:
        model = getattr(lm.models, name)(vocab_size=len(vocabulary), **settings)
        model.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: its weights do not fit the model {name} ({reason})") from None
    return Loaded(model.eval(), vocabulary, context, prompt)
