"""Taggers from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from lm.tagging.encoder import WordEncoder
from lm.tagging.model import Tagger
from lm.tagging.schemes import SchemeName
from unroll.checks import is_of
from unroll.resume.checkpoint import TrainedModel, check_sizes


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
        entries = [data[name] for name in ("words", "characters", "labels")]
        if not is_of([*entries, *data["extras"].values()], list[list[str]]):
            raise TypeError
        encoder = WordEncoder.of_description(data)
        if encoder.scheme.name not in get_args(SchemeName) or not is_of([*encoder.scheme[:2]], list[str]):
            raise TypeError
        check_sizes(
            metadata,
            vocab_size=len(encoder.words),
            characters=len(encoder.characters),
            extras=[len(ids) for ids in encoder.extras.values()],
            labels=len(encoder.labels),
        )
        return cls(model, encoder, data["layout"] == "stream")
