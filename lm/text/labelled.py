"""What the data modules of labelled words and documents share: a test part beside training and validation."""

from functools import cached_property
from typing import Any, Literal, NamedTuple

from unroll.checks import Count, checked
from unroll.errors import UserError
from unroll.training.data import Data


class Splits(NamedTuple):
    """The sentences or documents of each split; test is empty if there is none."""

    train: list[Any]
    valid: list[Any]
    test: list[Any]


class LabelledData(Data):
    """Sentences or documents with labels. A subclass says where they come from.

    Args:
        split: what is evaluated: "valid" or "test".
        seed: of the order in training.
    """

    @checked
    def __init__(self, split: Literal["valid", "test"] = "valid", seed: Count = 0) -> None:
        super().__init__()
        self.split = split
        self.seed = seed

    def read(self) -> Splits:
        """What is in all splits."""
        raise NotImplementedError

    @cached_property
    def splits(self) -> Splits:
        """What is in all splits, read when it is first asked for."""
        return self.read()

    @property
    def evaluated(self) -> list[Any]:
        """The split that is evaluated.

        Raises:
            UserError: there is no test part.
        """
        found = self.splits.test if self.split == "test" else self.splits.valid
        if not found:
            raise UserError("data.split=test: there is no test part; give one: data.test=FILE")
        return found

    @property
    def evaluated_name(self) -> str:
        return {"valid": "validation", "test": "test"}[self.split]
