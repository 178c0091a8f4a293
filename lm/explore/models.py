"""What the page asks of a model: text and its probabilities, the hidden units, labels, and how a verdict moves.

Everything is done in slices of a few milliseconds, generators that yield between them, so that one reader never keeps
the others waiting.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lm.explore.units import features, follow
from lm.export.steps import ClassifierStep, LanguageModelStep, Step, TaggerStep
from lm.language.generation import draw, encode_prompt, special_ids, texts
from lm.tagging.checkpoint import TrainedTagger
from lm.tagging.command import Reader
from lm.tagging.words import places
from unroll.errors import UserError
from unroll.state import State, tensors

SLICE = 8  # tokens read or written before others have their turn
RUNNERS_UP = 5
LONGEST_PROMPT = 2000  # tokens
LONGEST_READ = 3000  # tokens whose units are kept

Event = dict[str, Any]


class Place(NamedTuple):
    """Where a language model is: after so much text.

    Attributes:
        scores: for the next token, float `[vocab]`.
        state: of a model that carries one.
        window: the latest tokens, for one that does not.
    """

    scores: Tensor
    state: State
    window: list[int]


class ModelView(ABC):
    """A model on the page.

    Attributes:
        about: what the page is told of it.
    """

    about: dict[str, Any]

    @abstractmethod
    def read(self, text: str) -> Iterator[Event]:
        """Reads a text; the events of the page, or empty ones.

        Raises:
            UserError: the text is empty, too long, or has what the model does not know.
        """


class LanguageModelView(ModelView):
    """A language model."""

    def __init__(self, step: LanguageModelStep) -> None:
        self.model, self.vocabulary, self.context = step.model, step.vocabulary, step.context
        self.never = special_ids(self.vocabulary)
        tokenizer = self.vocabulary.tokenizer
        units = sum(part.numel() for part in step.start[:1])
        self.about = {
            "kind": "language_model",
            "name": f"{type(self.model).__name__}: {len(self.vocabulary):,} {tokenizer.units}, {units:,} units",
            "prompt": step.about["prompt"],
            "text": step.excerpt,
            "between": tokenizer.join(["", ""]),
        }

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], place: Place | None) -> Place:
        """Reads some tokens."""
        if self.context is None:
            scores, state = self.model(torch.tensor([tokens]), None if place is None else place.state)
            return Place(scores[0, -1].float(), state, [])
        window = [*(place.window if place else []), *tokens][-self.context :]
        return Place(self.model(torch.tensor([window]), None)[0][0, -1].float(), None, window)

    def encode(self, text: str, longest: int) -> list[int]:
        tokens = encode_prompt(self.vocabulary, text).tolist()
        if len(tokens) > longest:
            raise UserError(f"that is too long: {len(tokens):,} tokens; {longest:,} at most")
        return tokens

    def write(
        self, prompt: str, place: Place | None, length: int, temperature: float, top_k: int | None
    ) -> Iterator[Event | Place]:
        """Reads a prompt and goes on from it; the last thing is the place where it has come to.

        Args:
            prompt: may be empty if there is a place to go on from.
            place: where to begin; None for the start.
            length: tokens to write.
            temperature: 0 for the most likely token.
            top_k: draw from the k most likely tokens only.

        Yields:
            For each token its text, the probability that the model gave it, at temperature 1, and the likeliest others.
        """
        if prompt or place is None:
            tokens = self.encode(prompt, LONGEST_PROMPT)
            for start in range(0, len(tokens), SLICE):
                place = self.step(tokens[start : start + SLICE], place)
                yield {}
        assert place is not None
        chosen: list[int] = []
        for _ in range(length):
            scores = place.scores.index_fill(0, torch.tensor(self.never, dtype=torch.int64), -torch.inf)
            token = int(draw(scores / temperature, top_k) if temperature else scores.argmax())
            event = self.event(token, scores.softmax(0))
            chosen.append(token)
            place = self.step([token], place)
            if len(text := "".join(texts(self.vocabulary, chosen))) or len(chosen) > SLICE:
                yield {**event, "text": text}
                chosen = []
        yield place

    def event(self, token: int, probabilities: Tensor) -> Event:
        best = probabilities.topk(min(RUNNERS_UP, len(probabilities)))
        others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {
            "p": round(probabilities[token].item(), 4),
            "others": [[self.vocabulary.textify([other]), round(share, 4)] for other, share in others],
        }

    def read(self, text: str) -> Iterator[Event]:
        tokens = self.encode(text, LONGEST_READ)
        if len(tokens) < 2:
            raise UserError("the text is too short: give two tokens at least")
        place: Place | None = None
        shown: list[Event] = [{"p": None, "others": []}]
        units: list[Tensor] = []
        for number, token in enumerate(tokens):
            if place is not None:
                shown.append(self.event(token, place.scores.softmax(0)))
            place = self.step([token], place)
            units += [part.flatten() for part in tensors(place.state)[:1]]
            if number % SLICE == 0:
                yield {}
        words = [self.vocabulary.textify([token]) for token in tokens]
        between = ["", *[self.about["between"]] * (len(words) - 1)]
        yield {"tokens": [{**event, "text": b + word} for event, b, word in zip(shown, between, words, strict=True)]}
        if units:
            yield followed(torch.stack(units, 1).float(), words)


def followed(units: Tensor, words: Sequence[str]) -> Event:
    """What units do over a text, and how closely they follow what has a name.

    Args:
        units: float `[units, tokens]`.
        words: the tokens.

    Returns:
        `features`: their names; `closeness`: correlations, `[units, features]`; `values`: a byte per unit and token,
        `[units, tokens]` in base64, from -127 for the lowest value of the unit to 127 for its highest.
    """
    found = features(words)
    closeness = [[round(value, 3) for value in of_unit] for of_unit in follow(units, found).tolist()]
    low, high = units.amin(1, keepdim=True), units.amax(1, keepdim=True)
    scaled = ((units - low) / (high - low).clamp(min=1e-9) * 2 - 1) * 127
    values = base64.b64encode(scaled.round().to(torch.int8).numpy().tobytes()).decode()
    return {"features": [*found], "closeness": closeness, "values": values}


class TaggerView(ModelView):
    """A tagger: each word with its label."""

    def __init__(self, path: Path, model: type[nn.Module] | None) -> None:
        self.loaded = TrainedTagger.load(path, model)
        encoder = self.loaded.encoder
        if encoder.extras:
            columns = ", ".join(encoder.extras)
            raise UserError(
                f"{path}: the model reads {columns} too, which is not in a text; train one with data.extra=[]"
            )
        name = f"{type(self.loaded.model).__name__}: {len(encoder.labels)} labels"
        self.about = {"kind": "tagger", "name": name, "labels": encoder.labels, "text": ""}

    def read(self, text: str) -> Iterator[Event]:
        reader = Reader(self.loaded)
        count = 0
        for line in text.splitlines(keepends=True):
            words = places(line, self.loaded.encoder)
            count += len(words)
            if count > LONGEST_READ:
                raise UserError(f"that is too long: {LONGEST_READ:,} words at most")
            labels = reader.label([line[start:stop] for start, stop in words])
            shown, place = [], 0
            for (start, stop), label in zip(words, labels, strict=True):
                shown += [{"text": line[place:start]}, {"text": line[start:stop], "label": label}]
                place = stop
            yield {"tokens": [part for part in [*shown, {"text": line[place:]}] if part["text"]]}
        if not count:
            raise UserError("the text is empty")


class ClassifierView(ModelView):
    """A document classifier: the probabilities of the classes after each word."""

    def __init__(self, step: ClassifierStep) -> None:
        self.step = step
        self.backwards = step.about["direction"] < 0
        classes = step.about["classes"]
        name = f"Classifier: {', '.join(classes)}"
        self.about = {"kind": "classifier", "name": name, "classes": classes, "text": ""}

    @torch.inference_mode()
    def read(self, text: str) -> Iterator[Event]:
        vocabulary = self.step.vocabulary
        words = vocabulary.tokenizer.split(text)
        if not words:
            raise UserError("the text is empty")
        if len(words) > LONGEST_READ:
            raise UserError(f"that is too long: {len(words):,} words; {LONGEST_READ:,} at most")
        if self.backwards:
            words = words[::-1]
        states: Sequence[Tensor] = self.step.starting(1)
        between = vocabulary.tokenizer.join(["", ""])
        for start in range(0, len(words), SLICE):
            shown, some = [], words[start : start + SLICE]
            for word, token in zip(some, vocabulary.encode(some), strict=True):
                scores, *states = self.step(token.view(1, 1), *states)
                shares = [round(share, 4) for share in scores[0].softmax(0).tolist()]
                shown.append({"text": between + word, "shares": shares})
            yield {"tokens": shown}


def view_of(step: Step, path: Path, model: type[nn.Module] | None) -> ModelView:
    """The page's side of a checkpoint.

    Raises:
        UserError: a page can't show it.
    """
    if isinstance(step, TaggerStep):
        return TaggerView(path, model)
    if isinstance(step, ClassifierStep):
        return ClassifierView(step)
    assert isinstance(step, LanguageModelStep)
    return LanguageModelView(step)
