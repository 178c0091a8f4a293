"""The time that `train.py` takes for answers that need no training.

    python -m benchmarks.startup

Prints the median and the slowest of seven runs of each command, in seconds, whole process.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = ["--help", "--cfg job", "data.bpt=3", "model=gruu", "trainer.max_epochs=0"]


def seconds(arguments: str) -> float:
    started = time.perf_counter()
    command = [sys.executable, "train.py", *arguments.split(), "hydra.run.dir=outputs/benchmarks/startup"]
    subprocess.run(command, cwd=ROOT, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    print("| command | median | slowest |\n|---|---|---|")
    for arguments in COMMANDS:
        times = [seconds(arguments) for _ in range(7)]
        print(f"| `train.py {arguments}` | {statistics.median(times):.2f} | {max(times):.2f} |")


if __name__ == "__main__":
    main()
