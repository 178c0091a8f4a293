"""What the last digits of a run depend on, for its checkpoints."""

from typing import Any

import torch

from unroll.kernels import build, products, switch


def record() -> dict[str, Any]:
    """Whether kernels are on, and what has computed in this process.

    Returns:
        `steps` is the digest of the compiled steps; None if no layer has asked for them, "" if there are none.
        `products` is who computes large products (`products.chosen`); None if there was none.
    """
    asked, multiplied = (function.cache_info().currsize for function in (build.library, products.chosen))
    return {
        "on": switch.in_use(),
        "steps": steps() if asked else None,
        "products": products.chosen() if multiplied else None,
    }


def steps() -> str:
    found = build.library(torch.float32)
    return "" if found is None else found.digest


def repeat(recorded: dict[str, Any] | None) -> None:
    """Lets this process compute as one that left this `record`, where it can; None ends that."""
    products.repeat(recorded["products"] if recorded else None)


def difference(recorded: dict[str, Any]) -> str | None:
    """In a line, why this process may compute other last digits than one that left this `record`."""
    differs = kernels_differ(recorded) or (products_differ(recorded) if recorded["on"] else None)
    return differs and f"the run that is resumed may end with other last digits: {differs}"


def kernels_differ(recorded: dict[str, Any]) -> str | None:
    had, has = ("on" if on else "off" for on in (recorded["on"], switch.in_use()))
    if had != has:
        return f"the kernels were {had}, here they are {has} (UNROLL_KERNELS={had})"
    if has == "off" or recorded["steps"] is None or recorded["steps"] == steps():
        return None
    if not recorded["steps"]:
        return "the steps of its layers were not compiled, here they are (CC=false turns that off)"
    if not steps():
        return "the steps of its layers were compiled, here they aren't: there is no C compiler that works"
    return "the steps of its layers were compiled by another compiler, or for another processor"


def products_differ(recorded: dict[str, Any]) -> str | None:
    had = recorded["products"]
    if had is None or had == products.chosen():
        return None
    return f"large products were computed by {had}, here by {products.chosen()} (UNROLL_PRODUCTS={had})"
