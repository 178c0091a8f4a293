"""From text to batches: corpus → tokens → ids → stream or independent windows.

The Lightning data modules are in `lm.data.module`, which is not imported here: the rest of this package works without
Lightning.
"""

from lm.data.corpora import human_numbers
from lm.data.tokenizers import Tokenizer
from lm.data.vocabulary import Vocabulary

__all__ = ["Tokenizer", "Vocabulary", "human_numbers"]
