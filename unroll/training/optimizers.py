"""Optimizer settings, for all parameters and for groups of layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unroll.checks import Rule, above_zero, between, is_number, is_pair, or_null, yes_or_no, zero_or_more
from unroll.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from torch import nn

# The arguments that torch's optimizers have in common. Torch checks some of them, each in its own words.
SETTINGS = {
    "lr": above_zero,
    "weight_decay": zero_or_more,
    "momentum": between(0, 1),
    "betas": Rule(
        lambda value: is_pair(value, between(0, 1)),
        "two numbers from 0 to below 1, as in [0.9,0.99]",
    ),
    "eps": above_zero,
    "fused": yes_or_no,
    "discriminative": or_null(Rule(lambda value: is_number(value) and value >= 1, "a number, 1 or more")),
}


def check_settings(settings: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Checks an optimizer's settings, and those of its groups of layers.

    Args:
        settings: the optimizer's arguments.
        groups: as for `parameter_groups`.

    Raises:
        ArgumentError: a value is out of range.
        UserError: a group has a setting that the optimizer has not.
    """
    for name, value in settings.items():
        if name in SETTINGS and not SETTINGS[name].holds(value):
            raise ArgumentError(name, value, SETTINGS[name].words)
    example = "the settings of layers by name, as in {embed: {lr: 1e-4}}, or null"
    if groups is not None and not isinstance(groups, Mapping):
        raise ArgumentError("groups", groups, example)
    for group, changed in (groups or {}).items():
        if not isinstance(changed, Mapping):
            raise ArgumentError("groups", groups, example)
        for name, value in changed.items():
            if name not in SETTINGS or name not in settings:
                known = ", ".join(other for other in settings if other in SETTINGS)
                raise UserError(f"there is no optimizer.groups.{group}.{name}; choose from: {known}")
            if not SETTINGS[name].holds(value):
                raise ArgumentError(f"groups.{group}.{name}", value, SETTINGS[name].words)


def parameter_groups(model: "nn.Module", groups: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: one for each named layer, and one for the rest.

    Args:
        model: the model; a group's name is that of one of its layers (`embed`, `rnn`, `head`) or parameters.
        groups: name → the settings that differ there, as in `{"embed": {"lr": 1e-3, "weight_decay": 0}}`.

    Raises:
        UserError: the model has no layer of that name.
    """
    taken: dict[str, list[nn.Parameter]] = {name: [] for name in groups}
    rest: list[nn.Parameter] = []
    for path, parameter in model.named_parameters():
        name = next((name for name in groups if path == name or path.startswith(f"{name}.")), None)
        (rest if name is None else taken[name]).append(parameter)
    for name, parameters in taken.items():
        if not parameters:
            parts = ", ".join(name for name, part in model.named_children() if any(True for _ in part.parameters()))
            raise UserError(f"optimizer.groups.{name}: the model has no such layer; choose from: {parts}")
    named = [{"name": name, "params": taken[name], **settings} for name, settings in groups.items()]
    return [{"name": "rest", "params": rest}, *named] if rest else named


def discriminative_groups(model: "nn.Module", lr: float, factor: float) -> dict[str, dict[str, float]]:
    """Groups with a learning rate each (Howard & Ruder 2018, arXiv 1801.06146).

    The head has `lr`, and each group of layers the rate of the one above it divided by `factor`.

    Args:
        model: has `layer_groups`, the names of its layers from below the head down.
        lr: of the head, and of all that is in no group.
        factor: 2.6 in the paper.

    Returns:
        As for `parameter_groups`.

    Raises:
        UserError: the model does not name its groups.
    """
    names: list[str] | None = getattr(model, "layer_groups", None)
    if not names:
        raise UserError(f"optimizer.discriminative: {type(model).__name__} does not name its groups of layers")
    return {name: {"lr": lr / factor**depth} for depth, name in enumerate(names, start=1)}
