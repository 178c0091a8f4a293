"""What a run of a language model shows and keeps, beside what every run does."""

from lm.callbacks.embedding import Embedding
from lm.callbacks.hidden_state import HiddenState
from lm.callbacks.samples import Samples

__all__ = ["Embedding", "HiddenState", "Samples"]
