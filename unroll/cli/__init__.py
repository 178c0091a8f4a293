"""The command line: configuration, run directories, sweeps' reports, and the commands beside training.

Nothing else in `unroll` imports it, and Hydra is imported nowhere else.
"""

from unroll.cli.program import main, run

__all__ = ["main", "run"]
