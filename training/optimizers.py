"""A learning rate and a weight decay for each group of layers."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from training.errors import UserError


def parameter_groups(model: nn.Module, groups: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: one for each named layer, and one for the rest.

    Args:
        model: the model; a group's name is that of one of its parts (`embed`, `rnn`, `head`) or parameters.
        groups: name → the settings that differ there, as `{"embed": {"lr": 1e-3, "weight_decay": 0}}`.

    Raises:
        UserError: a name stands for nothing in the model.
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
