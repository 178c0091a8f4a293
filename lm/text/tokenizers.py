"""Text to tokens and back."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy

from lm.text.words import WORD
from unroll.errors import UserError, require

TokenizerName = Literal["characters", "words", "whitespace", "bpe"]

END_OF_LINE = "<eos>"
UNITS = {"characters": "characters", "words": "words", "whitespace": "words", "bpe": "parts of words"}


@dataclass(frozen=True)
class Tokenizer:
    """Splits text into tokens and joins them again.

    Args:
        name: "characters" (joining gives the text back exactly), "words" (words and punctuation marks;
            white space is not kept, joining puts one space between tokens), "whitespace" (for text that is split into
            tokens already; the end of a line is the token `<eos>`) or "bpe" (parts of words, exact too).
        lower: lower-case text first.
        model: what `learn_bpe` has learnt, as the `tokenizers` library writes it.

    Raises:
        UserError: the name is not one of these.
    """

    name: str
    lower: bool = False
    model: str | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(TokenizerName):
            raise UserError(f"there is no tokenizer {self.name!r}; choose from: {', '.join(get_args(TokenizerName))}")

    @property
    def units(self) -> str:
        """What tokens are, in words."""
        return UNITS[self.name]

    def settings(self) -> dict[str, Any]:
        """The arguments that make an equal tokenizer."""
        model = {} if self.model is None else {"model": self.model}
        return {"name": self.name, "lower": self.lower, **model}

    def cased(self, text: str) -> str:
        """The text, lower-cased if that is chosen."""
        return text.lower() if self.lower else text

    def split(self, text: str) -> list[str]:
        text = self.cased(text)
        if self.name == "bpe":
            return self.encoded(text).tokens
        if self.name == "whitespace":
            return text.replace("\n", f" {END_OF_LINE} ").split()
        return list(text) if self.name == "characters" else WORD.findall(text)

    def encoded(self, text: str) -> Any:
        """A text that is `cased`, in the library's encoding, for "bpe".

        Raises:
            UserError: it has a character that is no Unicode.
        """
        try:
            return self.bpe.encode(text)
        except TypeError:
            raise UserError("the text has characters that are no Unicode") from None

    def join(self, tokens: list[str]) -> str:
        if self.name == "bpe":
            return self.bpe.decoder.decode(tokens)
        return ("" if self.name == "characters" else " ").join(tokens)

    def count(self, text: str) -> Counter[str]:
        """How often each token occurs in the text."""
        if self.name != "characters":
            return Counter(self.split(text))
        counts = numpy.bincount(code_points(self.cased(text)))
        return Counter({chr(point): int(counts[point]) for point in counts.nonzero()[0]})

    @cached_property
    def bpe(self) -> Any:
        library = bpe_library()
        try:
            assert self.model is not None
            parts = json.loads(self.model)
            kinds = [(parts[name] or {}).get("type") for name in ("model", "pre_tokenizer", "decoder", "normalizer")]
            if kinds != ["BPE", "ByteLevel", "ByteLevel", None]:  # others can take for ever over a text
                raise ValueError
            if any(parts["model"].get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout")):
                raise ValueError  # the library itself can crash over them
            return library.Tokenizer.from_str(self.model)
        except Exception:  # the library raises nothing else
            raise UserError("the byte pair encoding is not one that data.tokenizer=bpe has learnt") from None


def code_points(text: str) -> numpy.ndarray:
    """The characters' code points, uint32 `[characters]`."""
    return numpy.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=numpy.uint32)


def learn_bpe(texts: Iterable[str], vocab_size: int, lower: bool = False, min_freq: int = 1) -> Tokenizer:
    """Byte pair encoding (Sennrich et al. 2016, arXiv 1508.07909) of bytes, so that no token is unknown.

    Args:
        texts: to learn from.
        vocab_size: the number of tokens; 256 of them are the single bytes.
        lower: lower-case text first.
        min_freq: pairs seen less often are not merged.

    Raises:
        UserError: the `tokenizers` library is not installed.
    """
    library = bpe_library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_freq,
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.lower() for text in texts) if lower else texts, trainer)
    return Tokenizer("bpe", lower, tokenizer.to_str())


def bpe_library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # set, so that it does not warn about forked processes
    require("data.tokenizer=bpe", "bpe", "tokenizers")
    import tokenizers

    return tokenizers
