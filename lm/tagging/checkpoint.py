"""Taggers from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lm.tagging.encoder import WordEncoder
from lm.tagging.model import Tagger
from unroll.resume.checkpoint import TrainedModel


@dataclass(frozen=True)
class TrainedTagger(TrainedModel):
    """A tagger from its checkpoint, with what its inputs and labels mean.

    Attributes:
        encoder: what its inputs and labels mean.
        streams: whether it was trained on a stream: it reads on from line to line.
    """

    model: nn.Module
    encoder: WordEncoder
    streams: bool
    what = "a tagger"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {"Tagger": Tagger}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedTagger":
        data = metadata["data"]
        return cls(model, WordEncoder.of_description(data), data["layout"] == "stream")
