"""The configuration of this checkout."""

import functools
from typing import Any

from hydra import compose, initialize_config_dir

from helpers.processes import ROOT
from unroll.cli.config import set_config_dir

CONFIG_DIR = ROOT / "conf"
set_config_dir(CONFIG_DIR)


@functools.cache
def composed(*overrides: str, **settings: Any) -> Any:
    """What `train.py` makes of a command line. It is the same object each time: copy it before changing it."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=list(overrides), **settings)
