"""Text to tokens and back."""

import re
from dataclasses import dataclass

from lm.errors import UserError

NAMES = ("characters", "words")

# A marker such as <unk>, a word (with what its apostrophe binds), or one mark of punctuation.
WORD = re.compile(r"<\w+>|\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Tokenizer:
    """Splits text into tokens and joins them again.

    Args:
        name: "characters" (joining gives the text back exactly) or "words" (words and punctuation marks;
            white space is not kept, joining puts one blank between tokens).
        lower: whether text is lower-cased first.

    Raises:
        UserError: the name is not one of the two.
    """

    name: str
    lower: bool = False

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"there is no tokenizer {self.name!r}; choose from: {', '.join(NAMES)}")

    def split(self, text: str) -> list[str]:
        if self.lower:
            text = text.lower()
        return list(text) if self.name == "characters" else WORD.findall(text)

    def join(self, tokens: list[str]) -> str:
        return ("" if self.name == "characters" else " ").join(tokens)
