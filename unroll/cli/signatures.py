"""The classes and functions that a configuration names by `_target_`, and whether they take what it gives them."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, get_args, get_origin

from typing_extensions import Unpack

from unroll.cli.messages import suggest
from unroll.errors import UserError

SPECIAL = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}  # Hydra's keys beside arguments


class Arguments(NamedTuple):
    """What a function or class takes by name.

    Attributes:
        names: of its arguments.
        required: those without a default.
        any_others: whether it takes others as well.
    """

    names: list[str]
    required: list[str]
    any_others: bool


def check_targets(key: str, settings: Any, by_program: Sequence[str] = ()) -> None:
    """Checks that each class and function that a part of the configuration names is there and takes what it is given.

    Args:
        key: of the part, such as "model".
        settings: the part, in plain lists and dicts.
        by_program: the names of arguments that are not in the configuration.

    Raises:
        UserError: it is not.
    """
    if isinstance(settings, list):
        for number, part in enumerate(settings):
            check_targets(f"{key}[{number}]", part)
    if not isinstance(settings, dict):
        return
    if settings.get("_recursive_", True):
        for name, part in settings.items():
            check_targets(f"{key}.{name}", part)
    if "_target_" in settings and "_args_" not in settings:
        given = [*(name for name in settings if name not in SPECIAL), *by_program]
        complete = not settings.get("_partial_", False)
        check_call(key, locate(key, settings["_target_"]), given, complete, by_program)


def locate(key: str, target: str) -> Any:
    """The class or function of a dotted name.

    Args:
        key: of the part of the configuration that names it.
        target: the name.

    Raises:
        UserError: there is none.
        Exception: what importing its module raises.
    """
    parts = str(target).split(".")
    if not all(parts):
        raise UserError(f"{key}: {target!r} is not the dotted name of a class or function")
    found: Any = None
    for length, part in enumerate(parts, start=1):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = import_module(".".join(parts[:length]))
            except ModuleNotFoundError as error:
                if not f"{target}.".startswith(f"{error.name}."):  # it is imported by a module that is there
                    raise
                advice = "; modules of your own are found in the folders of PYTHONPATH" if length == 1 else ""
                raise UserError(f"{key}: there is no {error.name}{advice}") from None
    return found


def check_call(
    key: str, function: Callable[..., Any], given: Sequence[str], complete: bool = True, by_program: Iterable[str] = ()
) -> None:
    """Checks that a function or class takes arguments of these names.

    Args:
        key: of the part of the configuration that names it.
        function: what is to be called.
        given: the names of the arguments.
        complete: whether they are all that it is given.
        by_program: those of them that are not in the configuration.

    Raises:
        UserError: it does not take one of them, or needs others.
    """
    arguments = arguments_of(function)
    if arguments is None:
        return
    name = getattr(function, "__qualname__", str(function))
    for argument in given:
        if argument not in arguments.names and not arguments.any_others:
            takes = f"{name} takes no such argument; {suggest(argument, arguments.names)}"
            if argument in by_program:
                raise UserError(f"{key}: it is given {argument}=…, but {takes}")
            raise UserError(f"{key}.{argument}: {takes}")
    missing = [argument for argument in arguments.required if argument not in given]
    if complete and missing:
        raise UserError(f"{key}.{missing[0]} is not given; {name} takes {', '.join(arguments.names)}")


def arguments_of(function: Callable[..., Any]) -> Arguments | None:
    """What a function or class takes by name; None where Python does not know it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # of some functions written in C
        return None
    names, required, any_others = [], [], False
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            continue
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.append(parameter.name)
            required += [parameter.name] if parameter.default is parameter.empty else []
        elif get_origin(parameter.annotation) is Unpack:
            (others,) = get_args(parameter.annotation)
            names += others.__annotations__
            required += sorted(others.__required_keys__)
        else:
            any_others = True
    return Arguments(names, required, any_others)
