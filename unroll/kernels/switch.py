"""Whether kernels are used, or the plain forms that they equal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_on = os.environ.get("UNROLL_KERNELS", "on").lower() not in ("off", "0", "false")


def in_use() -> bool:
    """Whether kernels are used."""
    return _on


def use(kernels: bool) -> None:
    """Turns all kernels on or off."""
    global _on
    _on = kernels


@contextmanager
def plain() -> Iterator[None]:
    """Within the block, the plain forms are used."""
    before = _on
    use(False)
    try:
        yield
    finally:
        use(before)
