"""The command line: configuration, run directories, sweeps' reports, and the commands beside training.

Nothing else in `unroll` imports it, and Hydra is imported nowhere else.
"""

from pathlib import Path

from unroll.errors import require
from unroll.terminal import errors_in_one_line

LIBRARIES = ("hydra", "omegaconf")


def main(config_dir: Path, description: str = "") -> None:
    """Runs the command line of an application, as `train.py` does.

    torch and Lightning are imported after the configuration has been composed, so that help and mistakes are answered
    at once.

    Args:
        config_dir: the folder of its configuration: `train.yaml`, and a folder for each group of choices.
        description: what `--help` begins with.
    """
    with errors_in_one_line():
        require("the command line", "app", *LIBRARIES)
    from unroll.cli import program

    program.main(config_dir, description)
