"""What the last digits of a run depend on, for its checkpoints."""

from typing import Any

import torch

from unroll.kernels import build, switch


def record() -> dict[str, Any]:
    """Whether kernels are on, and what has computed in this process.

    Returns:
        `steps` is the digest of the compiled steps and products; None if nothing has asked for them, "" if there are
        none.
    """
    asked = build.library.cache_info().currsize
    return {"on": switch.in_use(), "steps": steps() if asked else None}


def steps() -> str:
    found = build.library(torch.float32)
    return "" if found is None else found.digest


def difference(recorded: dict[str, Any]) -> str | None:
    """In a line, why this process may compute other last digits than one that left this `record`."""
    differs = how_they_differ(recorded)
    return differs and f"the run that is resumed may end with other last digits: {differs}"


def how_they_differ(recorded: dict[str, Any]) -> str | None:
    had, has = ("on" if on else "off" for on in (recorded["on"], switch.in_use()))
    if had != has:
        return f"the kernels were {had}, here they are {has} (UNROLL_KERNELS={had})"
    if has == "off" or recorded["steps"] is None or recorded["steps"] == steps():
        return None
    if not recorded["steps"]:
        return "its kernels were not compiled, here they are (CC=false turns that off)"
    if not steps():
        return "its kernels were compiled, here they aren't: there is no C compiler that works"
    return "its kernels were compiled by another compiler, for another processor, or of another version"
