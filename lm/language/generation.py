"""Text from a checkpoint: `python -m lm.generate CKPT --prompt "for thos" --length 400`."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, overload

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from lm.language.checkpoint import TrainedLanguageModel
from lm.text.vocabulary import MARKED_UNKNOWN, PADDING_CHARACTER, SPECIALS, Vocabulary
from unroll.errors import UserError
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.state import State
from unroll.terminal import errors_in_one_line

LONGEST_CHARACTER = 4  # bytes, in UTF-8


class Settings(TypedDict, total=False):
    """How tokens are chosen (see `generate`)."""

    temperature: float
    top_k: int | None
    greedy: bool
    seed: int | None
    context: int | None
    never: tuple[int, ...]


@overload
def generate(model: TrainedLanguageModel, prompt: str | Tensor, **settings: Unpack[Settings]) -> Iterator[str]: ...


@overload
def generate(model: nn.Module, prompt: Tensor, **settings: Unpack[Settings]) -> Iterator[int]: ...


def generate(model: Any, prompt: Any, **settings: Any) -> Iterator[Any]:
    """Continues a prompt, one token after the other, without end.

    A model that carries a state reads each token once. One that does not (its state is None) reads its last
    `context` tokens again for each new one, as the lesson's `get_next_n` did.

    Args:
        model: a model of `lm.language`, in eval mode; or what a checkpoint holds, with its vocabulary.
        prompt: int64 `[time]`, at least one token; with a vocabulary, a text.
        temperature: the logits are divided by it; below 1, likely tokens become more likely.
        top_k: draw from the k most likely tokens only.
        greedy: take the most likely token instead of drawing one.
        seed: of the draws; without one they differ from call to call.
        context: how many tokens a model without a state reads; by default all, or as many as in its training.
        never: ids that are never chosen; by default none, or those that are no text.

    Returns:
        The ids; of a model with its vocabulary, the texts of the tokens.

    Raises:
        UserError: the prompt is empty or has tokens that the model does not know, or temperature or top_k is not
            positive.
    """
    if not isinstance(model, TrainedLanguageModel):
        if isinstance(prompt, str):
            raise UserError("a text needs the vocabulary: generate(TrainedLanguageModel.load(path), text)")
        return ids(model, prompt, **settings)
    vocabulary = model.vocabulary
    own = {"context": model.context, "never": special_ids(vocabulary)}
    prompt = encode_prompt(vocabulary, prompt) if isinstance(prompt, str) else prompt
    return texts(vocabulary, ids(model.model, prompt, **{**own, **settings}))


def ids(
    model: nn.Module,
    prompt: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    greedy: bool = False,
    seed: int | None = None,
    context: int | None = None,
    never: tuple[int, ...] = (),
) -> Iterator[int]:
    """The ids of `generate`."""
    if prompt.numel() == 0:
        raise UserError("the prompt is empty; give at least one token")
    if temperature <= 0:
        raise UserError(f"temperature={temperature}: must be above 0 (for the most likely token, choose greedy)")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k}: must be 1 or more")
    device = next(model.parameters()).device
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    window = prompt.to(device)[None]
    state: State = None
    penalty: Tensor | None = None

    def choose(scores: Tensor) -> Tensor:
        nonlocal penalty
        if penalty is None:
            penalty = torch.zeros_like(scores).index_fill_(0, torch.tensor(never, dtype=torch.int64), -torch.inf)
        scores = torch.add(penalty, scores, alpha=1 / temperature)
        return scores.argmax(0, keepdim=True) if greedy else draw(scores, top_k, generator)

    if context is not None and window.size(1) > context:
        latest = window[:, -context:]
        if step(model, latest, None, lambda scores: scores)[1] is None:  # else it reads all of the prompt
            window = latest
    while True:
        token, state = step(model, window, state, choose)
        yield int(token)
        latest = token.to(device)[None]
        window = latest if state is not None else torch.cat([window, latest], dim=1)[:, -(context or 0) :]


def draw(scores: Tensor, top_k: int | None, generator: torch.Generator | None = None) -> Tensor:
    """An id drawn by the softmax of its score, int64 `[1]`.

    Args:
        scores: float `[vocab]`; those that are not among the k highest are overwritten.
        top_k: draw from the k most likely ids only.
        generator: of the draws; by default torch's own.
    """
    if top_k is not None and top_k < len(scores):
        scores[scores < scores.topk(top_k).values[-1]] = -torch.inf
    probabilities = scores.softmax(0)  # what follows is torch.multinomial without its checks
    return (probabilities / torch.empty_like(probabilities).exponential_(generator=generator)).argmax(0, True)


@torch.inference_mode()  # around each step, not the loop above: between two tokens, the caller's code runs
def step(model: nn.Module, window: Tensor, state: State, choose: Callable[[Tensor], Tensor]) -> tuple[Tensor, State]:
    """Reads a window `[1, time]`. Returns the id that `choose` picks from the scores, float `[vocab]` on the CPU."""
    onednn: Any = torch.backends.mkldnn
    before, onednn.enabled = onednn.enabled, False  # it would reorder an LSTM's weights for each token
    try:
        logits, state = model(window, state)
    finally:
        onednn.enabled = before
    return choose(logits[0, -1].float().cpu()), state


def special_ids(vocabulary: Vocabulary) -> tuple[int, ...]:
    """The ids that are no text: unknown and padding."""
    entries = (*SPECIALS, MARKED_UNKNOWN, PADDING_CHARACTER)
    return tuple(vocabulary.ids[entry] for entry in entries if entry in vocabulary.ids)


def encode_prompt(vocabulary: Vocabulary, text: str) -> Tensor:
    """The prompt's ids, int64 `[time]`.

    Raises:
        UserError: it has no tokens, or some that the model does not know.
    """
    tokens = vocabulary.tokenizer.split(text)
    unknown = list(dict.fromkeys(token for token in tokens if token not in vocabulary.ids))
    if unknown:
        raise UserError(
            f"the prompt has {vocabulary.tokenizer.units} that the model does not know: {', '.join(map(repr, unknown))}"
        )
    if not tokens:
        raise UserError("the prompt is empty; give at least one token")
    return vocabulary.encode(tokens)


def texts(vocabulary: Vocabulary, tokens: Iterable[int]) -> Iterator[str]:
    """The text of each token; a character that "bpe" has split into several tokens comes with the last of them, the
    others have none."""
    separator = vocabulary.tokenizer.join(["", ""])
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        text = vocabulary.textify(waiting)
        if not text.endswith("\N{REPLACEMENT CHARACTER}") or len(waiting) == LONGEST_CHARACTER:
            yield separator + text
            waiting.clear()
        else:
            yield ""


def main() -> None:
    arguments = parse()
    with errors_in_one_line():
        loaded = TrainedLanguageModel.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model))

        def write(text: str) -> None:
            tokens = generate(
                loaded,
                text,
                temperature=arguments.temperature,
                top_k=arguments.top_k,
                greedy=arguments.greedy,
                seed=arguments.seed,
            )
            print(text, end="", flush=True)
            try:
                for more in islice(tokens, arguments.length):
                    print(more, end="", flush=True)
            finally:  # Ctrl-C too
                print()

        if not arguments.interactive:
            write(loaded.prompt if arguments.prompt is None else arguments.prompt)
            return
        print("Type a prompt and press enter; an empty line ends.", file=sys.stderr)
        for line in sys.stdin:
            if not line.rstrip("\n"):
                break
            try:
                write(line.rstrip("\n"))
            except UserError as error:
                print(error, file=sys.stderr)


def parse() -> argparse.Namespace:
    def number(kind: type, at_least: float):
        def parse_one(text: str):
            value = kind(text)
            if value < at_least:
                raise argparse.ArgumentTypeError(f"{text}: must be {at_least} or more")
            return value

        parse_one.__name__ = "whole number" if kind is int else "number"
        return parse_one

    parser = argparse.ArgumentParser(prog="python -m lm.generate", description="Text from a checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    parser.add_argument("--prompt", help="the beginning of the text (default: the first tokens of the validation text)")
    parser.add_argument("--length", type=number(int, 0), default=400, help="tokens to add (default: %(default)s)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help="below 1, likely tokens become more likely (default: %(default)s)",
    )
    parser.add_argument("--top-k", type=number(int, 1), help="draw from the k most likely tokens only")
    parser.add_argument("--greedy", action="store_true", help="always the most likely token")
    parser.add_argument("--seed", type=int, help="for the same text each time")
    parser.add_argument("--interactive", action="store_true", help="read prompts from standard input, a line each")
    return parser.parse_args()
