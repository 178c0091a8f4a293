"""Trained models as functions of tensors alone: `forward(inputs, *states) -> (outputs, *states)`.

`inputs` is `[rows, time, …]`; states have the rows on axis 1. The nest of a model's own state becomes several.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lm.documents.checkpoint import TrainedClassifier
from lm.documents.model import Classifier
from lm.language.checkpoint import TrainedLanguageModel
from lm.language.generation import special_ids
from lm.tagging.checkpoint import TrainedTagger
from lm.tagging.encoder import LONGEST_WORD
from lm.tagging.model import PADDING
from lm.text.tokenizers import END_OF_LINE
from lm.text.vocabulary import Vocabulary
from lm.text.words import WORD
from unroll.errors import UserError
from unroll.resume.checkpoint import metadata_of, read
from unroll.state import State, map_tensors, tensors

LOWEST = torch.finfo(torch.float32).min
LONGEST_SENTENCE = 128  # words


class Step(nn.Module):
    """A trained model, one window at a time.

    Attributes:
        model: in eval mode, on the CPU.
        window: tokens or words in a window.
        about: what a program needs beside the weights, as plain values.
        start: the states before the first window, of a single row.
        outputs: the names of what `forward` returns beside the states; the first is returned before them.
    """

    outputs: tuple[str, ...] = ("scores",)

    def __init__(self, model: nn.Module, window: int, about: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.window = window
        self.about = {"model": type(model).__name__, "window": window, **about}
        self.start: list[Tensor] = []

    @abstractmethod
    def example(self, rows: int, generator: torch.Generator) -> Tensor:
        """Random inputs, int64 `[rows, window, …]`."""

    @abstractmethod
    def reference(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """The model itself, called as it is everywhere else; its state is what it is."""

    def starting(self, rows: int) -> list[Tensor]:
        return [part.expand(*part.shape[:1], rows, *part.shape[2:]).contiguous() for part in self.start]


class Carrying(Step):
    """A language model or a tagger: `forward(inputs, state) -> (scores, state)`.

    Args:
        template: any state of the model, for its nest; None if it carries none.
    """

    def __init__(self, model: nn.Module, window: int, about: dict[str, Any]) -> None:
        super().__init__(model, window, about)
        with torch.no_grad():
            _, self.template = model(self.example(1, torch.Generator()), None)
        self.start = [torch.zeros_like(part) for part in tensors(self.template)]

    def forward(self, inputs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        given = iter(states)
        before = map_tensors(self.template, lambda _: next(given)) if self.start else None
        scores, state = self.model(inputs, before)
        return scores, *(tensors(state) if self.start else ())

    def reference(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        scores, state = self.model(inputs, state)
        return scores, state if self.start else None


def text_settings(vocabulary: Vocabulary) -> dict[str, Any]:
    """How a text becomes ids."""
    tokenizer = vocabulary.tokenizer
    return {
        "vocabulary": vocabulary.entries,
        "tokenizer": tokenizer.name,
        "lower": tokenizer.lower,
        "line_end": f" {END_OF_LINE} " if tokenizer.name == "whitespace" else "\n",
        "pattern": r"\S+" if tokenizer.name == "whitespace" else WORD.pattern,
        **({} if tokenizer.model is None else {"bpe": tokenizer.model}),
    }


class LanguageModelStep(Carrying):
    """A language model. One that carries no state reads windows of as many tokens as in its training."""

    def __init__(self, path: Path, model: type[nn.Module] | None, window: int | None) -> None:
        loaded = TrainedLanguageModel.load(path, model)
        vocabulary = loaded.vocabulary
        carries = getattr(loaded.model, "only_window", None) is None and carries_state(loaded.model)
        if window is not None and not carries:
            raise UserError(f"--window: this model carries no state; it reads windows of {loaded.context} tokens")
        about = {
            "kind": "language_model",
            **text_settings(vocabulary),
            "between": vocabulary.tokenizer.join(["", ""]),
            "never": special_ids(vocabulary),
            "prompt": loaded.prompt,
        }
        self.vocabulary = vocabulary
        self.excerpt = loaded.excerpt
        self.context = None if carries else loaded.context
        super().__init__(loaded.model, (window or 1) if carries else loaded.context, about)

    def example(self, rows: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.vocabulary), (rows, self.window), generator=generator)


class TaggerStep(Carrying):
    """A tagger: of a stream word by word, of sentences whole, with padding behind their words."""

    outputs = ("labels", "scores")

    def __init__(self, path: Path, model: type[nn.Module] | None, window: int | None) -> None:
        loaded = TrainedTagger.load(path, model)
        self.encoder = encoder = loaded.encoder
        self.whole = not loaded.streams
        about = {
            "kind": "tagger",
            "vocabulary": encoder.words.entries,
            "tokenizer": "words",
            "line_end": "\n",
            "lower": False,  # characters are read as they are
            "pattern": r"\S+" if encoder.extras else WORD.pattern,  # word/column
            "lower_words": encoder.lower,
            "zeroed": r"\d" if encoder.zero_digits else r"(?!)",
            "extras": [ids.ids for ids in encoder.extras.values()],
            "characters": encoder.characters.ids,
            "longest_word": LONGEST_WORD,
            "columns": 1 + len(encoder.extras) + LONGEST_WORD,
            "labels": encoder.labels,
        }
        super().__init__(loaded.model, window or (LONGEST_SENTENCE if self.whole else 1), about)
        if self.whole:  # each sentence begins from zeros
            self.start = []

    def forward(self, inputs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        scores, *after = super().forward(inputs, *states)
        return self.labels(scores, inputs), *after, scores

    def labels(self, scores: Tensor, inputs: Tensor) -> Tensor:
        return self.model.labels(scores, inputs[..., 0] != PADDING)  # type: ignore[operator]

    def example(self, rows: int, generator: torch.Generator) -> Tensor:
        encoder = self.encoder
        sizes = [len(encoder.words), *map(len, encoder.extras.values()), *[len(encoder.characters)] * LONGEST_WORD]
        columns = [torch.randint(1, size, (rows, self.window), generator=generator) for size in sizes]
        inputs = torch.stack(columns, 2)
        if self.whole:
            words = torch.randint(1, self.window + 1, (rows, 1), generator=generator)
            inputs[torch.arange(self.window) >= words] = PADDING
        return inputs


class ClassifierStep(Step):
    """A document classifier: the scores after each window. What is pooled so far is part of the state."""

    def __init__(self, path: Path, model: type[nn.Module] | None, window: int | None) -> None:
        loaded = TrainedClassifier.load(path, model)
        if not isinstance(loaded.model, Classifier):
            raise UserError(f"{path}: only classifiers made as lm.documents.model.Classifier can be exported")
        self.vocabulary = loaded.vocabulary
        about = {
            "kind": "classifier",
            **text_settings(self.vocabulary),
            "unknown": self.vocabulary.unknown_id,
            "classes": loaded.classes,
            "direction": -1 if loaded.backwards else 1,
        }
        super().__init__(loaded.model, window or 1, about)
        with torch.no_grad():
            body: Any = loaded.model.body
            outputs, self.template = body.features(self.example(1, torch.Generator()))
        pooled = torch.zeros_like(outputs[:, :1])
        states = [torch.zeros_like(part) for part in tensors(self.template)]
        self.start = [torch.full_like(pooled, LOWEST), pooled, torch.zeros(1, 1, 1), *states]

    def forward(self, inputs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        highest, total, count, *parts = states
        given, model = iter(parts), cast(Classifier, self.model)
        outputs, state = model.body.features(inputs, map_tensors(self.template, lambda _: next(given)))
        highest = torch.maximum(highest, outputs.amax(1).unsqueeze(0))
        total = total + outputs.sum(1).unsqueeze(0)
        count = count + inputs.size(1)
        pooled = torch.cat([outputs[:, -1], highest[0], (total / count)[0]], 1)
        return model.head(pooled), highest, total, count, *tensors(state)

    def example(self, rows: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.vocabulary), (rows, self.window), generator=generator)

    def reference(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads all documents again from their start; the state is their tokens."""
        tokens = inputs if state is None else torch.cat([state, inputs], 1)
        return self.model(tokens, torch.full((len(tokens),), tokens.size(1))), tokens


def carries_state(model: nn.Module) -> bool:
    with torch.no_grad():
        return model(torch.zeros(1, 3, dtype=torch.int64), None)[1] is not None


def load_step(path: Path, model: type[nn.Module] | None, window: int | None) -> Step:
    """A checkpoint's model, whatever its kind.

    Args:
        path: the checkpoint.
        model: the class, for a model of your own.
        window: tokens or words in a window; by default one, of sentences `LONGEST_SENTENCE`.

    Raises:
        UserError: it is not a checkpoint of a model of texts, or the model can't read such windows.
    """
    data = metadata_of(read(path), path)["data"]
    kinds: dict[str, Any] = {"labels": TaggerStep, "classes": ClassifierStep, "context": LanguageModelStep}
    kind = next((step for key, step in kinds.items() if key in data), None) if isinstance(data, dict) else None
    if kind is None:
        raise UserError(f"{path}: not a checkpoint of a language model, a tagger or a document classifier")
    return kind(path, model, window)
