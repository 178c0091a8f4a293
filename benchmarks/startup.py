"""The time that `train.py` takes for answers that need no training, and what of its start is whose.

    python -m benchmarks.startup [--parts]

Prints the median and the slowest of seven runs of each command (`--parts`: of three), in seconds, whole process.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = ["--help", "--cfg job", "data.bpt=3", "model=gruu", "trainer.max_epochs=0"]
IMPORTS = {
    "Python": "pass",
    "`import unroll`": "import unroll",
    "`import torch`": "import torch",
    "`import torch, pytorch_lightning`": "import torch, pytorch_lightning",
    "both, and all of `unroll`": "import torch, pytorch_lightning\nfrom unroll import *",
}
ONE_STEP = ["trainer.max_steps=1", "trainer.limit_val_batches=0"]


def seconds(*arguments: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        directory = [f"hydra.run.dir={folder}"] if arguments[0] == "train.py" else []
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments, *directory], cwd=ROOT, capture_output=True)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", action="store_true", help="imports alone, and a run of one step")
    if parser.parse_args().parts:
        started: dict[str, tuple[str, ...]] = {name: ("-c", code) for name, code in IMPORTS.items()}
        quiet = ["callbacks=none", "logger=none", "trainer.enable_checkpointing=false"]
        started["`train.py`, one step"] = ("train.py", *ONE_STEP, *quiet)
        repeats = 3
    else:
        started = {f"`train.py {line}`": ("train.py", *line.split()) for line in COMMANDS}
        repeats = 7
    print("| command | median | slowest |\n|---|---|---|")
    for name, arguments in started.items():
        times = [seconds(*arguments) for _ in range(repeats)]
        print(f"| {name} | {statistics.median(times):.2f} | {max(times):.2f} |", flush=True)


if __name__ == "__main__":
    main()
