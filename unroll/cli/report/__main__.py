"""`python -m unroll.cli.report DIR…`: the results of any set of runs."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from unroll.cli import LIBRARIES
from unroll.errors import require
from unroll.terminal import errors_in_one_line


def main() -> None:
    with errors_in_one_line():
        require("the command line", "app", *LIBRARIES)
        from unroll.cli.report.write import DEFAULT_METRIC, write_report

        parser = argparse.ArgumentParser(
            prog="python -m unroll.cli.report", description="The results of runs as a table."
        )
        parser.add_argument("directories", metavar="DIR", type=Path, nargs="+", help="runs, sweeps, or folders of them")
        parser.add_argument("--metric", default=DEFAULT_METRIC, help="what to rank by (default: %(default)s)")
        parser.add_argument(
            "--folder", type=Path, help="where the report goes (default: DIR, or the folder that all are in)"
        )
        arguments = parser.parse_intermixed_args()
        folder = arguments.folder or common_folder(arguments.directories)
        write_report(arguments.directories, folder, arguments.metric)


def common_folder(directories: Sequence[Path]) -> Path:
    """The innermost folder that all are in, such as `outputs`; the current one if they share no more than a drive."""
    try:
        common = Path(os.path.commonpath([directory.resolve() for directory in directories]))
    except ValueError:  # another drive
        return Path()
    return common if common.name else Path()


if __name__ == "__main__":
    main()
