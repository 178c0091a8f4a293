"""What data modules of tokens share."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lm.text.vocabulary import Vocabulary
from unroll.streams import Window
from unroll.training.data import Data


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
    """Tokens to predict the next one of."""

    @abstractmethod
    def start_of_validation(self, length: int = 1) -> Tensor:
        """The tokens that validation begins with, int64."""

    def learner_arguments(self) -> dict[str, Any]:
        return {"characters": True} if self.vocabulary.tokenizer.name == "characters" else {}

    def prompt(self) -> str:
        """The first known tokens of the validation text, for samples to begin with."""
        known = [int(index) for index in self.start_of_validation() if index != self.vocabulary.unknown_id]
        return self.vocabulary.textify(known[:8])

    def random_batch(self, rows: int, length: int) -> Window:
        tokens = torch.randint(len(self.vocabulary), (rows, length + 1))
        return Window(tokens[:, :-1], tokens[:, 1:], torch.zeros(rows, dtype=torch.bool))
