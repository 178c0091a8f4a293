"""Every model of a lesson as a user runs it, several seeds each, beside the lesson's own figures.

    python -m benchmarks.lessons human_numbers

Each run is a whole `python train.py model=… seed=…` of its own and keeps its directory under
`outputs/benchmarks/lessons/`, so a run that was stopped goes on with what is missing; `--fresh` starts anew.
The table goes to standard output; `--write FOLDER` also keeps it there, as Markdown and as JSON.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).parents[1]
OUTPUTS = ROOT / "outputs" / "benchmarks" / "lessons"

# Lesson → model → the figures of the lesson's last epoch (fast.ai 2019, lesson7-human-numbers).
LESSONS = {
    "human_numbers": {
        "unrolled": {"valid/loss": 2.337, "valid/accuracy": 0.4088},
        "loop": {"valid/loss": 2.171, "valid/accuracy": 0.3932},
        "multi_output": {"valid/loss": 3.072, "valid/accuracy": 0.3498},
        "stateful": {"valid/loss": 2.551, "valid/accuracy": 0.4428},
        "rnn": {"valid/loss": 1.676, "valid/accuracy": 0.6147},
        "gru": {"valid/loss": 1.253, "valid/accuracy": 0.8071},
    },
}

# Where the first weights decide most (multi_output takes 400 small steps; stateful is barely stable), three
# seeds say little.
SEEDS = {"multi_output": 10, "stateful": 10}


def run(lesson: str, model: str, seed: int) -> dict:
    """The result of one run, from an earlier call if it finished then."""
    directory = OUTPUTS / lesson / model / f"seed_{seed}"
    result = directory / "result.json"
    if not result.exists():
        shutil.rmtree(directory, ignore_errors=True)
        print(f"{model} seed={seed} …", file=sys.stderr)
        command = [sys.executable, "train.py", f"model={model}", f"seed={seed}", f"hydra.run.dir={directory}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return json.loads(result.read_text())


def spread(values: list[float], digits: int) -> str:
    sd = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{sd}"


def table(lesson: str, results: dict[str, list[dict]]) -> str:
    """Markdown: lesson | ours (mean ± standard deviation over seeds), last epoch's figures on both sides."""
    lines = [
        "| model | seeds | lesson: loss | ours: loss | lesson: accuracy | ours: accuracy | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, runs in results.items():
        recorded = LESSONS[lesson][model]
        loss = [run["metrics"]["valid/loss"] for run in runs]
        accuracy = [run["metrics"]["valid/accuracy"] for run in runs]
        lines.append(
            f"| `{model}` | {len(runs)} | {recorded['valid/loss']:.3f} | {spread(loss, 3)} "
            f"| {recorded['valid/accuracy']:.4f} | {spread(accuracy, 4)} "
            f"| {mean(run['seconds'] for run in runs):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, help="how many seeds, from 0 on (default: 3, and 10 where chance decides)")
    parser.add_argument("--fresh", action="store_true", help="forget the runs of earlier calls")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table as LESSON.md and LESSON.json")
    arguments = parser.parse_args()
    models = arguments.models or list(LESSONS[arguments.lesson])
    if unknown := set(models) - set(LESSONS[arguments.lesson]):
        parser.error(
            f"no such model: {', '.join(sorted(unknown))}; choose from: {', '.join(LESSONS[arguments.lesson])}"
        )
    if arguments.fresh:
        shutil.rmtree(OUTPUTS / arguments.lesson, ignore_errors=True)

    results = {}
    for model in models:
        seeds = arguments.seeds or SEEDS.get(model, 3)
        results[model] = [run(arguments.lesson, model, seed) for seed in range(seeds)]
    text = table(arguments.lesson, results)
    print(text)
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / f"{arguments.lesson}.md").write_text(text + "\n")
        (arguments.write / f"{arguments.lesson}.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
