"""A language model by `lm.generate` and by the exported `run.py`: start, memory and tokens per second.

    python -m benchmarks.export CKPT [--tokens 2000] [--repeats 3] [--write FOLDER]

Whole processes in turn, medians; tokens per second from the difference between a long text and a single token.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.process import ROOT, Table, watch
from lm.export.__main__ import INT8, MODEL, RUN
from unroll.resume.checkpoint import checkpoint_file


def measured(command: Sequence[str], tokens: int, repeats: int) -> tuple[float, float, float]:
    """Seconds to one token, the peak in MiB, and tokens per second."""
    short = [watch([*command, "--length", "1"]) for _ in range(repeats)]
    long = [watch([*command, "--length", str(tokens + 1)]) for _ in range(repeats)]
    start = median(finished.seconds for finished in short)
    speed = tokens / (median(finished.seconds for finished in long) - start)
    return start, median(finished.memory for finished in long), speed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="of a language model, or its run directory")
    parser.add_argument("--tokens", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments = parser.parse_args()
    checkpoint = checkpoint_file(arguments.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        export = [sys.executable, "-m", "lm.export", str(checkpoint), f"{folder}/out", "--int8"]
        print(subprocess.run(export, cwd=ROOT, check=True, capture_output=True, text=True).stdout, file=sys.stderr)
        run = [sys.executable, f"{folder}/out/{RUN}", "--greedy"]
        ways = {
            "`lm.generate`": ([sys.executable, "-m", "lm.generate", str(checkpoint), "--greedy"], checkpoint),
            "`run.py`": (run, Path(folder, "out", MODEL)),
            "`run.py`, int8": ([*run, "--model", INT8], Path(folder, "out", INT8)),
        }
        columns = ("", "first token, s", "peak MiB", "tokens/s", "file, MB")
        table = Table(f"export_{checkpoint.parent.parent.name}", columns, arguments.write)
        for name, (command, file) in ways.items():
            start, memory, speed = measured(command, arguments.tokens, arguments.repeats)
            size = file.stat().st_size / 1e6
            table.add((name, ""), (start, ".2f"), (memory, ",.0f"), (speed, ",.0f"), (size, ".2f"))
        table.keep()


if __name__ == "__main__":
    main()
