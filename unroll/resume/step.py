"""A training step that fails: a checkpoint that is written then is the one before the step."""

from typing import Any

from torch import Tensor

from unroll.resume import lightning

STATES_BEFORE = "_states_before"  # the attribute of a module with `CarriesState`: the states that it saves, once


class BeforeStep:
    """What a training step changes beside the weights, as it is before the step."""

    def __init__(self, trainer: Any, module: Any) -> None:
        self.states = dict(getattr(module, "states", {}))
        self.gradients = {name: part.clone() for name, part in unstepped_gradients(trainer, module).items()}
        self.buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        self.version = version(module)
        self.steps_begun = 0  # of optimizers

    def put_into(self, checkpoint: dict[str, Any], module: Any) -> None:
        """Makes a checkpoint that is written in the step, before `module.on_save_checkpoint`, one of before it."""
        module.__dict__[STATES_BEFORE] = self.states
        weights = checkpoint.get("current_model_state", checkpoint["state_dict"])
        weights.update({name: buffer for name, buffer in self.buffers.items() if name in weights})

    def is_past(self, trainer: Any, module: Any) -> bool:
        """Whether weights may have changed since; an optimizer's fused step leaves no trace."""
        fused = any(group.get("fused") for optimizer in trainer.optimizers for group in optimizer.param_groups)
        return version(module) != self.version or bool(fused and self.steps_begun)


def version(module: Any) -> int:
    """Goes up whenever a parameter is changed."""
    return sum(parameter._version for parameter in module.parameters())


def unstepped_gradients(trainer: Any, module: Any) -> dict[str, Tensor]:
    """Gradients that have been accumulated and not been stepped with; where a module steps by itself, all there are."""
    if module.automatic_optimization and not lightning.is_accumulating(trainer):
        return {}
    return {
        name: parameter.grad.detach().cpu()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
