"""`python -m unroll.cli.report DIR…`: the results of any set of runs."""

import argparse
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
            "--folder", type=Path, help="where the report goes (default: DIR, if it is one; else the current folder)"
        )
        arguments = parser.parse_args()
        one = arguments.directories[0] if len(arguments.directories) == 1 else Path()
        write_report(arguments.directories, arguments.folder or one, arguments.metric)


if __name__ == "__main__":
    main()
