"""Text in, aligned batches out: corpus → tokens → ids → stream.

The Lightning data modules live in `lm.data.module`, which is not imported here: everything else in this
package works without Lightning.
"""

from lm.data.corpora import human_numbers
from lm.data.stream import BpttStream
from lm.data.tokenizers import Tokenizer
from lm.data.vocabulary import Vocabulary

__all__ = ["BpttStream", "Tokenizer", "Vocabulary", "human_numbers"]
