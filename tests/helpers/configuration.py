"""The configuration of this checkout. What a file of it or of Hydra's own holds is parsed once, and a command composes
once: most of its start is that."""

import copy
import functools
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import hydra.conf
from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from helpers.processes import ROOT
from unroll.cli.config import set_config_dir

CONFIG_DIR = ROOT / "conf"
set_config_dir(CONFIG_DIR)

FOLDERS = (str(CONFIG_DIR), str(Path(hydra.conf.__file__).parent))
ASK_FOR_A_SWEEP = ("experiment", "hydra.mode", "hydra/", "--config", "-c")  # what names a file that may

load = OmegaConf.load
get_mode = Hydra.get_mode
known_choices = defaults_list._create_interpolation_map


@functools.cache
def parsed(path: str, changed: int, size: int) -> bytes:
    return pickle.dumps(load(path))


def load_once(file: Any) -> Any:
    path = file.name if hasattr(file, "name") else str(file)
    if not path.startswith(FOLDERS):
        return load(file)
    about = os.stat(path)
    return pickle.loads(parsed(path, about.st_mtime_ns, about.st_size))


def mode_without_composing(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Hydra composes a command's configuration twice, the first time to see whether a file asks for a sweep."""
    asked = any(word.lstrip("+").startswith(ASK_FOR_A_SWEEP) for word in sys.argv[1:])
    return get_mode(self, config_name, overrides) if asked else None


def choices_if_a_name_asks(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    """Hydra collects the choices for each file's list, though few have names such as `${model}` to be filled in."""
    return known_choices(overrides, defaults, self_added) if any(entry.is_interpolation() for entry in defaults) else {}


OmegaConf.load = staticmethod(load_once)
defaults_list._create_interpolation_map = choices_if_a_name_asks
ConfigRepository.__deepcopy__ = lambda self, memo: copy.copy(self)  # each command takes one; no file is changed in it
Hydra.get_mode = mode_without_composing  # type: ignore[method-assign]


@functools.cache
def composed(*overrides: str, **settings: Any) -> Any:
    """What `train.py` makes of a command line. It is the same object each time: copy it before changing it."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=list(overrides), **settings)
