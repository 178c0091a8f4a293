"""What a text is like at each of its tokens, and which units of a model follow that."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

COMMON = 6  # tokens that have a feature of their own
RARE = 0.02  # a feature that fewer tokens have than this share says nothing

Feature = Callable[[Sequence[str]], list[float]]


def in_quotes(tokens: Sequence[str]) -> list[float]:
    """1 from behind an opening quotation mark to the closing one; straight marks open and close in turn."""
    inside, found = False, []
    for token in tokens:
        found.append(float(inside))
        if token in ('"', "“", "”"):
            inside = token == "“" or (token == '"' and not inside)
    return found


def in_brackets(tokens: Sequence[str]) -> list[float]:
    depths = accumulate(tokens, lambda depth, token: max(0, depth + (token == "(") - (token == ")")), initial=0)
    return [float(depth > 0) for depth in depths][: len(tokens)]


def since(marks: frozenset[str]) -> Feature:
    """How many tokens ago one of the marks was."""

    def count(tokens: Sequence[str]) -> list[float]:
        counts = accumulate(tokens, lambda far, token: 0 if token in marks else far + 1, initial=0)
        return [float(far) for far in counts][1:]

    return count


FEATURES: dict[str, Feature] = {
    "inside quotation marks": in_quotes,
    "inside brackets": in_brackets,
    "position in the line": since(frozenset("\n")),
    "position in the sentence": since(frozenset(".!?\n")),
    "position in the word": lambda tokens: since(frozenset(" \n,.;:"))(tokens) if all(map(is_letter, tokens)) else [],
    "position since the comma": since(frozenset(",")),
    "at a blank": lambda tokens: [float(token.isspace()) for token in tokens],
    "at a capital": lambda tokens: [float(token[:1].isupper()) for token in tokens],
    "after a capital": lambda tokens: [0.0, *(float(token[:1].isupper()) for token in tokens[:-1])],
    "at a vowel": lambda tokens: [float(token.lower() in "aeiou") for token in tokens],
    "at a digit": lambda tokens: [float(token.isdigit()) for token in tokens],
    "at a punctuation mark": lambda tokens: [float(token in set(".,;:!?'\"()-—“”’")) for token in tokens],
}


def is_letter(token: str) -> bool:
    return len(token) == 1


def features(tokens: Sequence[str]) -> dict[str, Tensor]:
    """Each feature that differs from token to token, float `[tokens]`: those above, and where the commonest tokens are.

    Args:
        tokens: a text, two tokens at least.
    """
    common = [token for token, _ in Counter(tokens).most_common(COMMON) if not token.isspace()]
    found = {name: feature(tokens) for name, feature in FEATURES.items()}
    found |= {f"at “{token}”": [float(other == token) for other in tokens] for token in common}
    found |= {f"after “{token}”": [0.0, *(float(other == token) for other in tokens[:-1])] for token in common}
    tensors = {name: torch.tensor(values) for name, values in found.items() if values}
    return {
        name: values for name, values in tensors.items() if (values != 0).float().mean() >= RARE and values.std() > 0
    }


def follow(units: Tensor, found: dict[str, Tensor]) -> Tensor:
    """How closely each unit follows each feature: correlation coefficients, float `[units, features]`.

    Args:
        units: what the units are at each token, float `[units, tokens]`.
        found: as from `features`.
    """

    def standard(values: Tensor) -> Tensor:
        centred = values - values.mean(1, keepdim=True)
        return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)

    if not found:
        return units.new_zeros(len(units), 0)
    return standard(units) @ standard(torch.stack([*found.values()])).T
