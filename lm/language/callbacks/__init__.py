"""What a run of a language model shows and keeps, beside what every run does."""

from lm.language.callbacks.embedding import Embedding
from lm.language.callbacks.hidden_state import HiddenState
from lm.language.callbacks.samples import Samples

__all__ = ["Embedding", "HiddenState", "Samples"]
