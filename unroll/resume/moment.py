"""What a fit is at one moment: a checkpoint that is written later can be one of then."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from unroll.resume import generators, lightning, metrics, random_state
from unroll.resume.frozen import trained

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # whole numbers of so many bytes
HELD = "held"  # the key of generators that objects hold
STATES_BEFORE = "_states_before"  # the attribute of a module with `CarriesState`: the states that it saves, once


class Moment:
    """What a validation or a training step changes beside the weights, as it is before."""

    def __init__(self, trainer: Any, module: Any) -> None:
        self.random = random_states(trainer, module)
        self.trained = trained(module)  # `toggle_optimizer` freezes parameters for a part of a step
        self.states = dict(getattr(module, "states", {}))
        self.buffers = {name: buffer.detach().clone() for name, buffer in lightning.parameters_of(module, "_buffers")}
        self.metrics = metrics.so_far(trainer, module)

    def put_into(self, checkpoint: dict[str, Any], module: Any) -> None:
        """Makes a checkpoint, before `module.on_save_checkpoint`, one of this moment."""
        module.__dict__[STATES_BEFORE] = self.states
        weights = checkpoint.get("current_model_state", checkpoint["state_dict"])
        weights.update({name: buffer for name, buffer in self.buffers.items() if name in weights})


def random_states(trainer: Any, module: Any) -> dict[str, Any]:
    """The state of every random generator that a fit may draw from, as plain values and tensors."""
    return random_state.get() | {HELD: generators.states(trainer, module)}


def restore_random_states(trainer: Any, module: Any, saved: dict[str, Any], new: int | None = None) -> None:
    """Further draws are those that followed `random_states`.

    Args:
        trainer, module: of the fit.
        saved: what it returned.
        new: the number of a process that there was none of then, which has draws of its own.
    """
    if new is None:
        random_state.restore(saved)
    else:
        random_state.branch(saved, new)
    generators.restore(trainer, module, saved.get(HELD, {}))


class BeforeStep(Moment):
    """Before a training batch is fetched; weights must not have changed since for a checkpoint to be one of then."""

    def __init__(self, trainer: Any, module: Any) -> None:
        super().__init__(trainer, module)
        self.gradients = {name: part.clone() for name, part in unstepped_gradients(trainer, module).items()}
        self.callbacks = deepcopy({callback.state_key: callback.state_dict() for callback in trainer.callbacks})
        self.groups = [settings_of_groups(optimizer) for optimizer in trainer.optimizers]
        self.version, self.sums = version(module), sums_of_bits(module)
        self.steps_begun = 0  # of optimizers

    def put_into(self, checkpoint: dict[str, Any], module: Any) -> None:
        super().put_into(checkpoint, module)
        checkpoint["callbacks"].update({name: state for name, state in self.callbacks.items() if state})
        for optimizer, before in zip(checkpoint["optimizer_states"], self.groups, strict=True):
            for group, settings in zip(optimizer.get("param_groups", []), before, strict=False):
                group.update(settings)

    def is_past(self, trainer: Any, module: Any) -> bool:
        """Whether weights may have changed since; an optimizer's fused step leaves no trace."""
        fused = any(group.get("fused") for optimizer in trainer.optimizers for group in optimizer.param_groups)
        return self.weights_changed(module) or bool(fused and self.steps_begun)

    def weights_changed(self, module: Any) -> bool:
        """Whether parameters have been written to since; what does so through `.data` is only seen in their bits."""
        if version(module) != self.version:
            return True
        now = sums_of_bits(module)
        return now.keys() != self.sums.keys() or any(
            not all(map(torch.equal, sums, now[name])) for name, sums in self.sums.items()
        )


def has_changed(module: Any, since: BeforeStep) -> bool:
    """Whether parameters or buffers have changed since a moment."""
    buffers = dict(lightning.parameters_of(module, "_buffers"))
    return since.weights_changed(module) or any(
        not torch.equal(buffer, buffers[name]) for name, buffer in since.buffers.items() if name in buffers
    )


def settings_of_groups(optimizer: Any) -> list[dict[str, Any]]:
    """What an optimizer's parameter groups have beside parameters, such as the learning rate."""
    return [
        {name: deepcopy(value) for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]


def version(module: Any) -> int:
    """Goes up whenever a parameter is changed."""
    return sum(parameter._version for _, parameter in lightning.parameters_of(module))


def sums_of_bits(module: Any) -> dict[str, list[Tensor]]:
    """Of each parameter's numbers, taken for whole numbers: over its first axis, and over the others."""
    found = {}
    for name, parameter in lightning.parameters_of(module):
        if not is_lazy(parameter):
            values = parameter.detach()
            values = torch.view_as_real(values) if values.is_complex() else values
            bits = values.view(BITS[values.element_size()])
            rows = bits.flatten(1) if bits.ndim > 1 else bits.reshape(1, -1)
            found[name] = [rows.sum(0), rows.sum(1)]
    return found


def unstepped_gradients(trainer: Any, module: Any) -> dict[str, Tensor]:
    """Gradients that have been accumulated and not been stepped with; where a module steps by itself, all there are."""
    if module.automatic_optimization and not lightning.is_accumulating(trainer):
        return {}
    return {
        name: parameter.grad.detach().cpu()
        for name, parameter in lightning.parameters_of(module)
        if parameter.grad is not None
    }
