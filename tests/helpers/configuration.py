"""The configuration of this checkout. What a file of it holds is parsed once, which is most of a command's start."""

import functools
import os
import pickle
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers.processes import ROOT
from unroll.cli.config import set_config_dir

CONFIG_DIR = ROOT / "conf"
set_config_dir(CONFIG_DIR)

load = OmegaConf.load


@functools.cache
def parsed(path: str, changed: int, size: int) -> bytes:
    return pickle.dumps(load(path))


def load_once(file: Any) -> Any:
    path = file.name if hasattr(file, "name") else str(file)
    if not path.startswith(str(CONFIG_DIR)):
        return load(file)
    about = os.stat(path)
    return pickle.loads(parsed(path, about.st_mtime_ns, about.st_size))


OmegaConf.load = staticmethod(load_once)


@functools.cache
def composed(*overrides: str, **settings: Any) -> Any:
    """What `train.py` makes of a command line. It is the same object each time: copy it before changing it."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=list(overrides), **settings)
