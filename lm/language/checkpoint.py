"""Language models from their checkpoints, and their weights for other models to begin with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import lm.language
from lm.text import Tokenizer, Vocabulary
from unroll.checks import Size
from unroll.errors import UserError
from unroll.resume.checkpoint import TrainedModel, check_sizes, metadata_of, read

BY_TOKEN = ("embed.weight", "head.weight", "head.bias")  # weights with a row for each token


@dataclass(frozen=True)
class TrainedLanguageModel(TrainedModel):
    """A language model from its checkpoint, with its vocabulary.

    Attributes:
        vocabulary: the tokens it knows.
        context: the number of tokens in a window of its training.
        prompt: a text to begin with.
        excerpt: the beginning of the validation text.
    """

    model: nn.Module
    vocabulary: Vocabulary
    context: Size
    prompt: str
    excerpt: str
    what = "a language model"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {name: getattr(lm.language, name) for name in lm.language.__all__}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedLanguageModel":
        data = metadata["data"]
        vocabulary = Vocabulary(data["vocabulary"], Tokenizer(**data["tokenizer"]))
        check_sizes(metadata, vocab_size=len(vocabulary))
        return cls(model, vocabulary, data["context"], data["prompt"], data["excerpt"])


class Matched(NamedTuple):
    """How many tokens of a vocabulary another one has, and how many there are."""

    known: int
    tokens: int


def load_encoder(path: str | Path, model: nn.Module, vocabulary: Sequence[str], backwards: bool = False) -> Matched:
    """Gives a model the weights of a trained language model: of the same kind, or a classifier with its layers as body.

    Weights that belong to a token are matched token by token; a token that the language model does not know gets the
    mean of those it knows (Howard & Ruder 2018, arXiv 1801.06146). The rest of the head is taken over where the
    vocabularies are equal, and learnt anew where they are not.

    Args:
        path: the language model's checkpoint.
        model: the model; of one with a `body`, the body.
        vocabulary: the model's tokens, in the order of their ids.
        backwards: whether the model reads backwards.

    Raises:
        UserError: the checkpoint is not of a language model of this kind and these sizes, shares no token, or reads in
            the other direction.
    """
    checkpoint = read(Path(path))
    body: nn.Module = getattr(model, "body", model)
    metadata = metadata_of(checkpoint, path)
    try:
        name, before = metadata["model"]["name"], metadata["data"]["vocabulary"]
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a checkpoint of a language model of this project") from None
    if name != type(body).__name__:
        raise UserError(
            f"{path}: is of the model {name}, and the layers to be given its weights are {type(body).__name__}"
        )
    if metadata["data"].get("backwards", False) != backwards:
        raise UserError(f"{path}: reads in the other direction; data.backwards must be the same for both")
    found = {key.removeprefix("model."): tensor for key, tensor in checkpoint["state_dict"].items()}
    numbers = {token: number for number, token in enumerate(before)}
    rows = torch.tensor([numbers.get(token, -1) for token in vocabulary])
    matched = Matched(int((rows >= 0).sum()), len(rows))
    if matched.known == 0:
        raise UserError(f"{path}: its vocabulary shares no token with that of the data")
    weights = {}
    same_vocabulary = list(before) == list(vocabulary)
    for key, wanted in body.state_dict().items():
        tensor = found.get(key)
        if tensor is not None and key in BY_TOKEN:
            tensor = by_token(tensor, rows)
        elif key.startswith("head.") and not (same_vocabulary and tensor is not None):
            tensor = wanted
        if tensor is None or tensor.shape != wanted.shape:
            shape = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
            raise UserError(
                f"{path}: {key} is {shape}, not {list(wanted.shape)}; choose the sizes that it was trained with: "
                f"model.embedding_size, model.hidden_size, model.num_layers"
            )
        weights[key] = tensor
    body.load_state_dict(weights)
    return matched


def by_token(tensor: Tensor, rows: Tensor) -> Tensor:
    """The rows of a tensor in another order, the mean of all where the row is -1."""
    chosen = tensor[rows.clamp(min=0)].clone()
    chosen[rows < 0] = tensor.mean(0)
    return chosen
