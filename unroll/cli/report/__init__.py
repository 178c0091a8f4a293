"""The results of many runs in one table: `python -m unroll.cli.report DIR…`, and at the end of every sweep."""
