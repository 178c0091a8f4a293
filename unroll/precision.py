"""Bfloat16 where the device has instructions for it; and LSTMs that train in `bf16-mixed` on a CPU that has none."""

import platform
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

FULL, MIXED = "32-true", "bf16-mixed"  # as Lightning's Trainer names them


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16: by AVX-512-BF16 or AMX, on ARM by its BF16 extension."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # oneDNN may have been told not to use the instructions
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11; on ARM, oneDNN has asked for the extension
        return torch.cpu._is_avx512_bf16_supported() or platform.machine() not in ("x86_64", "AMD64")
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def fitting_precision(accelerator: str = "auto") -> str:
    """What to give to `Trainer(precision=…)`: "bf16-mixed" if the device has instructions for bfloat16, else "32-true".

    Args:
        accelerator: the Trainer's.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        has_bfloat16 = cpu_has_bfloat16()
    else:
        has_bfloat16 = False
    return MIXED if has_bfloat16 else FULL


def guard_lstms(module: nn.Module) -> None:
    """Lets each `nn.LSTM` of a module compute in float32 in `bf16-mixed` on a CPU without bfloat16 instructions.

    oneDNN has no other LSTM there, and raises "could not create a primitive descriptor". On other CPUs, and for a layer
    that has been guarded already, nothing is done.
    """
    if cpu_has_bfloat16():
        return
    for layer in module.modules():
        if isinstance(layer, nn.LSTM) and "forward" not in vars(layer):
            layer.forward = partial(in_float32, type(layer).forward, layer)  # type: ignore[method-assign]


def in_float32(forward: Any, layer: nn.Module, *arguments: Any, **named: Any) -> Any:
    """Calls `forward` of a layer; under autocast on a CPU, without it and in float32."""
    if not torch.is_autocast_enabled("cpu"):
        return forward(layer, *arguments, **named)
    named = {name: widened(value) for name, value in named.items()}
    with torch.autocast("cpu", enabled=False):
        return forward(layer, *map(widened, arguments), **named)


def widened(value: Any) -> Any:
    """The same tensor, packed sequence or tuple of these, those of lower precision as float32."""
    if isinstance(value, PackedSequence):
        return value.float()
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    return tuple(map(widened, value)) if isinstance(value, tuple) else value
