"""Errors as one line: what is wrong with what was typed, and what would be right."""

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unroll.cli.config import PAGE, choices, compose_config, groups, with_bases
from unroll.errors import ArgumentError, UserError, install_command
from unroll.terminal import one_line


def explain(error: BaseException, overrides: Iterable[str]) -> str | None:
    """What is wrong with what the user gave, in one line, with the choices there are and the page that says more.

    Args:
        error: raised by this project, Hydra or OmegaConf.
        overrides: the command line.

    Returns:
        The line, or None if the error is not the user's.
    """
    explanation = without_page(error, overrides)
    return explanation and f"{explanation}{page_of(error)}"


def page_of(error: BaseException) -> str:
    """The page of the documentation, in brackets, that the code which raised an error names as its `PAGE`.

    It is that of the innermost module, or the package around it; a value out of its range says all that there is.
    """
    if isinstance(error, (ConfigCompositionException, MissingConfigException)):
        return f" ({PAGE})"
    if not isinstance(error, UserError) or isinstance(error, ArgumentError):
        return ""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = frame.f_globals.get("__name__", "")
        while name:
            if page := getattr(sys.modules.get(name), "PAGE", None):
                return f" ({page})"
            name = name.rpartition(".")[0]
    return ""


def without_page(error: BaseException, overrides: Iterable[str]) -> str | None:
    message = str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        more = f" (others: {install_command('sweep')})" if group in ("hydra/sweeper", "hydra/launcher") else ""
        names = [option for option in error.options if not option.startswith("_")]  # which begins the name of a base
        return f"there is no {group}={name}; {suggest(name, names)}{more}"
    unknown = re.match(r"Could not override '([^']+)'", message)
    if isinstance(error, ConfigCompositionException) and unknown:
        return explain_unknown(unknown[1], list(overrides))
    if isinstance(error, OSError) and error.strerror:  # the error of a full disk names no file
        return one_line(f"{error.filename or 'the run directory'}: {error.strerror}")
    if "are you indeed on a slurm cluster" in message:  # submitit's
        return "hydra/launcher=submitit_slurm: there is no Slurm here; submitit_local and joblib use this machine alone"
    if message.startswith("Config group override must be"):  # Hydra's, as a bare ValueError
        return "a choice needs a name (to leave one out: logger=none); --help lists the choices"
    if isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        return one_line(message)
    return None


def explain_unknown(key: str, overrides: list[str]) -> str:
    """What to say of a key that the configuration does not have."""
    parent, names = siblings(key, overrides)
    last = key.removeprefix(f"{parent}.").split(".")[0]
    under = f"under {parent}, " if parent else ""
    found = f"{under}{suggest(last, names)}" if names else f"the {parent} that is chosen has no settings"
    answer = f"there is no {key}; {found}"
    group = key.split(".")[0]
    if group not in groups():
        group = "learner"  # their files have keys at the root, such as `label_smoothing`
    owners = [f"{group}={name}" for name, file in choices(group) if has_key(file, key)]
    return f"{answer}; {', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it" if owners else answer


def has_key(file: Path, key: str) -> bool:
    """Whether a choice has a key, in a part of its own or in the whole configuration."""
    paths = (key.partition(".")[2], key)
    return any(path and path_in(content, path) for content in with_bases(file) for path in paths)


def path_in(content: Any, path: str) -> bool:
    node: Any = OmegaConf.to_container(content, resolve=False)
    for name in path.split("."):
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True


def siblings(key: str, overrides: Iterable[str]) -> tuple[str, list[str]]:
    """The nearest part of the configuration that exists above a key, and the names in it."""
    chosen = [override for override in overrides if override.split("=")[0] in groups() - {"hydra"}]
    GlobalHydra.instance().clear()
    config = compose_config(chosen)
    while key:
        key = key.rpartition(".")[0]
        node = OmegaConf.select(config, key) if key else config
        if isinstance(node, DictConfig):
            return key, sorted(str(name) for name in node if not str(name).startswith("_"))
    return "", sorted(str(name) for name in config)


def suggest(name: str, choices: Iterable[str]) -> str:
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"choose from: {', '.join(choices)}{guess}"


def quoted_if_needed(argument: str) -> str:
    """An override as Hydra's grammar takes it: a value that it can't read, such as a path with an ä, is quoted."""
    key, equals, value = argument.partition("=")
    if not equals or key.startswith("-") or re.fullmatch(r"[-\w.,/:+]*", value, re.ASCII):
        return argument
    quoted = [f"{key}={in_quotes(value)}"]
    if names := re.fullmatch(r"\[([^\[\]'\"]*)\]", value):  # a list whose items it can't read, such as [x=y,ä]
        items = ",".join(in_quotes(item.strip()) for item in names[1].split(","))
        quoted.insert(0, f"{key}=[{items}]")
    for override in (argument, *quoted):
        try:
            OverridesParser.create().parse_override(override)
            return override
        except Exception:  # ANTLR's errors are of many kinds
            continue
    return argument


def in_quotes(value: str) -> str:
    """A value in Hydra's quotes, in which backslashes are doubled in front of a quote alone; `${` is text."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), value)
    return "'" + escaped.replace("${", "\\${") + "'"
