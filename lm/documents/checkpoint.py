"""Document classifiers from their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lm.documents.model import Classifier
from lm.text import Tokenizer, Vocabulary
from unroll.resume.checkpoint import TrainedModel, check_sizes


@dataclass(frozen=True)
class TrainedClassifier(TrainedModel):
    """A document classifier from its checkpoint, with its vocabulary.

    Attributes:
        vocabulary: the tokens it knows.
        classes: their names.
        backwards: whether it reads a document from its end to its start.
    """

    model: nn.Module
    vocabulary: Vocabulary
    classes: list[str]
    backwards: bool
    what = "a document classifier"

    @classmethod
    def models(cls) -> Mapping[str, type[nn.Module]]:
        return {"Classifier": Classifier}

    @classmethod
    def of(cls, model: nn.Module, metadata: Mapping[str, Any]) -> "TrainedClassifier":
        data = metadata["data"]
        vocabulary = Vocabulary(data["vocabulary"], Tokenizer(**data["tokenizer"]))
        check_sizes(metadata, vocab_size=len(vocabulary), classes=len(data["classes"]))
        return cls(model, vocabulary, list(data["classes"]), data["backwards"])
