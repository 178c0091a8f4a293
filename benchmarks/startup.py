"""The time that `train.py` takes for answers that need no training, and what of its start is whose.

    python -m benchmarks.startup                    answers that need no training
    python -m benchmarks.startup --parts            imports alone, and a run of one step
    python -m benchmarks.startup --first-step       one step of the human numbers' GRU, beside fastai's

Prints the median and the slowest of seven runs of each command (`--parts`: of three, `--first-step`: of five, in turn),
in seconds, whole process. fastai is where `benchmarks.peers` has it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peers.environment import HERE, fastai_python

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
QUIET = ["callbacks=none", "logger=none", "trainer.enable_checkpointing=false"]


def seconds(*arguments: str, python: str = sys.executable, check: bool = False) -> float:
    with tempfile.TemporaryDirectory() as folder:
        directory = [f"hydra.run.dir={folder}"] if arguments[0] == "train.py" else []
        started = time.perf_counter()
        subprocess.run([python, *arguments, *directory], cwd=ROOT, capture_output=True, check=check)
        return time.perf_counter() - started


def first_step(python: str, repeats: int = 5) -> None:
    """One training step of the human numbers' GRU, and what fastai takes to it; whole processes in turn."""
    from benchmarks.peers.__main__ import CASES
    from lm.language.corpora import human_numbers

    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder) / "train.txt", Path(folder) / "valid.txt")
        for file, text in zip(files, human_numbers(), strict=True):
            file.write_text(text, encoding="utf-8")
        case = CASES["human_numbers"]
        job = {**case.job, "train": str(files[0]), "valid": str(files[1]), "max_steps": 1}
        started = {
            "fastai": lambda: seconds(str(HERE / "learner.py"), json.dumps(job), python=python, check=True),
            "`train.py`": lambda: seconds("train.py", *case.overrides, *ONE_STEP, check=True),
            "`train.py`, no callbacks, loggers and checkpoints": lambda: seconds(
                "train.py", *case.overrides, *ONE_STEP, *QUIET, check=True
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in started}
        for _ in range(repeats):
            for name, measure in started.items():
                times[name].append(measure())
    of_fastai = statistics.median(times["fastai"])
    print("| one step | median | slowest | of fastai's |\n|---|---|---|---|")
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.2f} | {max(found):.2f} | {middle / of_fastai:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", action="store_true", help="imports alone, and a run of one step")
    parser.add_argument("--first-step", action="store_true", help="one step beside fastai's")
    parser.add_argument("--fastai", metavar="PYTHON", help="of an environment that has fastai")
    chosen = parser.parse_args()
    if chosen.first_step:
        return first_step(chosen.fastai or fastai_python())
    if chosen.parts:
        started: dict[str, tuple[str, ...]] = {name: ("-c", code) for name, code in IMPORTS.items()}
        started["`train.py`, one step"] = ("train.py", *ONE_STEP, *QUIET)
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
