"""Text as the tasks share it: files → tokens → ids."""

from lm.text.tokenizers import Tokenizer
from lm.text.vocabulary import Vocabulary

__all__ = ["Tokenizer", "Vocabulary"]
