"""What data modules of tokens share."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lm.text.vocabulary import Vocabulary
from unroll.training.data import Data

EXCERPT = 1000  # tokens


class TokenData(Data):
    """Tokens of a vocabulary: a model of them can begin with a language model's weights."""

    backwards = False  # tokens are read from the end to the start

    @property
    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """The tokens of the training split."""

    def initialise(self, model: nn.Module, path: Path) -> str:
        from lm.language.checkpoint import load_encoder  # it imports every model

        matched = load_encoder(path, model, self.vocabulary.entries, self.backwards)
        return f"begins with the weights of {path}; it knows {matched.known:,} of {matched.tokens:,} tokens"


class NextTokenData(TokenData):
    """Tokens to predict the next one of, `bptt` in a window."""

    bptt: int

    @abstractmethod
    def start_of_validation(self, length: int = 1) -> Tensor:
        """The tokens that validation begins with, int64."""

    def model_arguments(self) -> dict[str, Any]:
        return {"vocab_size": len(self.vocabulary)}

    def description(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.entries,
            "context": self.bptt,
            "prompt": self.prompt(),
            "excerpt": self.excerpt(),
            "tokenizer": self.vocabulary.tokenizer.settings(),
        }

    def learner_arguments(self) -> dict[str, Any]:
        return {"characters": True} if self.vocabulary.tokenizer.name == "characters" else {}

    def prompt(self) -> str:
        """The first known tokens of the validation text, for samples to begin with."""
        known = [int(index) for index in self.start_of_validation() if index != self.vocabulary.unknown_id]
        return self.vocabulary.textify(known[:8])

    def excerpt(self) -> str:
        """The beginning of the validation text, for a page that shows how a model reads it."""
        return self.vocabulary.textify(self.start_of_validation(EXCERPT)[:EXCERPT])
