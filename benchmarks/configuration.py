"""The configuration of `train.py`, for benchmarks that build its parts themselves."""

from pathlib import Path

from unroll.cli.config import compose_config, set_config_dir

set_config_dir(Path(__file__).parents[1] / "conf")

__all__ = ["compose_config"]
