"""Numbers over time: forecasts of series in CSV and Parquet files. The smallest task, and the pattern for others."""

import os
import sys

PAGE = "docs/series.md"  # that an error in one line ends with

# `python -m` looks for modules in the current folder first, and that may be a stranger's run directory.
if sys.argv[:1] == ["-m"] and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]
