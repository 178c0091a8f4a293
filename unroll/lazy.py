"""Names that a package imports when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from unroll.errors import UserError, install_command


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package. It raises a `UserError` where a name needs a library that is not installed.

    Args:
        package: its name.
        modules: the module below the package that each name is in.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            library = str(error.name).partition(".")[0]
            if library == package.partition(".")[0]:
                raise
            raise UserError(f"{package}.{name} needs the {library} library: {install_command('app')}") from None

    return get
