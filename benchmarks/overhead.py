"""The cost of all default loggers and callbacks, against none.

    python -m benchmarks.overhead [OVERRIDE …]

Whole processes, one of each in turn, three times; overrides go to the run on Nietzsche (as in `data.path=FILE`).
"""

import argparse
import statistics
import sys
import tempfile

from benchmarks.process import watch

REPEATS = 3
RUNS = {
    "`gru`, 10 epochs": ["model=gru"],
    "`gru`, 40 epochs": ["model=gru", "trainer.max_epochs=40"],
    "`char_gru`, 1 epoch": ["model=char_gru", "trainer.max_epochs=1"],
}
NONE = ["callbacks=none", "logger=none", "trainer.enable_checkpointing=false"]


def seconds(arguments: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", *arguments, f"hydra.run.dir={folder}/run"]
        return watch(command).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="for the run on Nietzsche")
    arguments = parser.parse_args()
    print("| run | with none, seconds | with all | ratio of medians |\n|---|---|---|---|")
    for name, run in RUNS.items():
        run += arguments.overrides if "model=char_gru" in run else []
        times: dict[str, list[float]] = {"none": [], "all": []}
        for _ in range(REPEATS):
            times["none"].append(seconds([*run, *NONE]))
            times["all"].append(seconds(run))
        none, all_ = (statistics.median(values) for values in times.values())
        print(f"| {name} | {none:.2f} | {all_:.2f} | {all_ / none:.3f} |", flush=True)


if __name__ == "__main__":
    main()
