"""Every model of a lesson as a user runs it, several seeds each, beside the lesson's own metrics.

    python -m benchmarks.lessons human_numbers
    python -m benchmarks.lessons nietzsche            about an hour on two cores
    python -m benchmarks.lessons beyond               what goes beyond the first, beside its best model
    python -m benchmarks.lessons beyond_nietzsche     the second, an hour

Each run is a whole `python train.py model=… seed=…` of its own and keeps its directory under
`outputs/benchmarks/lessons/`, so a call that was stopped continues with what is missing; `--fresh` starts anew.
The table goes to standard output; `--write FOLDER` also keeps it there, as Markdown and as JSON. More overrides
can follow, as `data.path=FILE` for a copy of the text. `--fastai` trains the models of the first lesson in fastai 2
too, with as many seeds, in an environment of its own that is made at the first call.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from omegaconf import OmegaConf

from benchmarks.peers.environment import HERE, fastai_python
from benchmarks.process import ROOT
from lm.language.corpora import human_numbers
from unroll.cli.report.tables import mean_text

OUTPUTS = ROOT / "outputs" / "benchmarks" / "lessons"

# Lesson → model → the metrics of the lesson's last epoch (fast.ai: lesson7-human-numbers, lesson6-rnn).
LESSONS: dict[str, dict[str, dict[str, float]]] = {
    "human_numbers": {
        "unrolled": {"valid/loss": 2.337, "valid/accuracy": 0.4088},
        "loop": {"valid/loss": 2.171, "valid/accuracy": 0.3932},
        "multi_output": {"valid/loss": 3.072, "valid/accuracy": 0.3498},
        "stateful": {"valid/loss": 2.551, "valid/accuracy": 0.4428},
        "rnn": {"valid/loss": 1.676, "valid/accuracy": 0.6147},
        "gru": {"valid/loss": 1.253, "valid/accuracy": 0.8071},
    },
    "nietzsche": {
        "char_three": {"train/moving average": 1.841},  # its validation figure came from a single sample
        "char_loop": {"train/moving average": 1.736, "valid/loss": 1.751},
        "char_concat": {"train/moving average": 1.690, "valid/loss": 1.699},
        "char_rnn": {"train/moving average": 1.465, "valid/loss": 1.504},
        "char_seq": {"train/moving average": 1.998, "valid/loss": 2.001},
        "char_seq_identity": {"train/moving average": 1.813, "valid/loss": 1.838},
        "char_stateful": {"train/moving average": 1.408, "valid/loss": 1.486},
        "char_stateful_cell": {"train/moving average": 1.487, "valid/loss": 1.542},
        "char_gru": {"train/moving average": 1.225, "valid/loss": 1.370},
        "char_lstm": {"train/moving average": 1.282, "valid/loss": 1.315},
    },
    # What goes beyond them, beside the best that they reached: the GRU, and the LSTM's longest run.
    "beyond": {
        name: {"valid/loss": 1.253, "valid/accuracy": 0.8071}
        for name in ("awd_gru", "qrnn", "min_gru", "min_lstm", "human_numbers_best")
    },
    "beyond_nietzsche": {name: {"valid/loss": 1.25} for name in ("awd_lstm", "nietzsche_best")},
}

# Where a run takes seconds, or we are closer to the lesson than three seeds can tell, there are more; a run of
# char_lstm takes a quarter of an hour.
SEEDS = {**dict.fromkeys(LESSONS["human_numbers"], 10), "char_three": 10, "char_concat": 10, "char_seq": 10}
SEEDS |= {"human_numbers_best": 10, "char_lstm": 1, "awd_lstm": 1, "nietzsche_best": 1}


def choice(name: str) -> str:
    """What is typed for it: a model, or one of the recipes."""
    return f"{'experiment' if name.endswith('_best') else 'model'}={name}"


def run(lesson: str, model: str, seed: int, overrides: list[str]) -> dict:
    """The result of one run, from an earlier call if it finished then; one that was stopped is resumed."""
    directory = OUTPUTS / lesson / model / f"seed_{seed}"
    result = directory / "result.json"
    if not result.exists() or json.loads(result.read_text())["status"] != "finished":
        print(f"{model} seed={seed} …", file=sys.stderr)
        command = [sys.executable, "train.py", choice(model), f"seed={seed}", f"hydra.run.dir={directory}"]
        command += ["checkpoint.requeue=true", "trainer.log_every_n_steps=1"]  # each step: for the moving average below
        finished = subprocess.run([*command, *overrides], cwd=ROOT, capture_output=True, text=True)
        if finished.returncode != 0:
            sys.exit(f"{' '.join(command[1:])} failed: {finished.stderr.strip().splitlines()[-1]}")
    metrics = json.loads(result.read_text())
    metrics["metrics"]["train/moving average"] = moving_average(directory / "metrics.csv")
    return metrics


def fastai_runs(model: str, seeds: int) -> list[dict[str, Any]]:
    """The metrics of a human-numbers model in fastai 2, from an earlier call if it had as many seeds."""
    kept = OUTPUTS / "fastai" / f"{model}.json"
    runs: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    if len(runs) < seeds:
        print(f"{model} in fastai, {seeds} seeds …", file=sys.stderr)
        recipe = OmegaConf.load(ROOT / "conf" / "recipe" / "human_numbers" / f"{model}.yaml")
        job = {
            "characters": False,
            "min_freq": 1,
            "model": {
                "name": model,
                "pct_start": 0.1 if model == "multi_output" else 0.3,
                "seeds": list(range(len(runs), seeds)),
            },
            "batch_size": recipe.data.batch_size,
            "bptt": recipe.data.bptt,
            "optimizer": {"lr": recipe.optimizer.lr, "weight_decay": 0.01},
            "one_cycle": True,
            "epochs": recipe.trainer.max_epochs,
            "threads": 1,
        }
        with tempfile.TemporaryDirectory() as folder:
            for split, text in zip(("train", "valid"), human_numbers(), strict=True):
                path = Path(folder) / f"{split}.txt"
                path.write_text(text, encoding="utf-8")
                job[split] = str(path)
            command = [fastai_python(), str(HERE / "lesson.py"), json.dumps(job)]
            finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode != 0:
            sys.exit(f"{model} in fastai failed: {finished.stderr.strip().splitlines()[-1]}")
        for line in finished.stdout.splitlines():
            if line.startswith("seed "):
                loss, accuracy = map(float, line.split()[2:])
                runs.append({"metrics": {"valid/loss": loss, "valid/accuracy": accuracy}})
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(runs, indent=2) + "\n")
    return runs[:seeds]


def moving_average(metrics: Path) -> float:
    """What fastai calls the training loss: a moving average of batch losses, 0.98 old and 0.02 new, unbiased."""
    with open(metrics) as file:
        losses = [float(row["train/batch_loss"]) for row in csv.DictReader(file) if row["train/batch_loss"]]
    average = 0.0
    for loss in losses:
        average = 0.98 * average + 0.02 * loss
    return average / (1 - 0.98 ** len(losses))


def table(lesson: str, results: dict[str, list[dict]], peers: dict[str, list[dict]]) -> str:
    """Markdown: lesson | fastai 2, if asked for | ours (mean ± standard deviation over seeds), in the last epoch."""
    metrics = list(dict.fromkeys(metric for recorded in LESSONS[lesson].values() for metric in recorded))
    sides = ("lesson", "fastai 2", "ours") if peers else ("lesson", "ours")
    titles = [f"{side}: {metric.replace('/', ' ')}" for metric in metrics for side in sides]
    lines = [f"| model | seeds | {' | '.join(titles)} | seconds |", "|---" * (len(titles) + 3) + "|"]
    for model, runs in results.items():
        cells = []
        for metric in metrics:
            digits = 4 if metric.endswith("accuracy") else 3
            recorded = LESSONS[lesson][model].get(metric)
            cells.append("–" if recorded is None else f"{recorded:.{digits}f}")
            for of_side in [peers[model], runs] if peers else [runs]:
                cells.append(mean_text([run["metrics"][metric] for run in of_side], digits))
        seconds = f"{mean(run['seconds'] for run in runs):.0f}"
        lines.append(f"| `{model}` | {len(runs)} | {' | '.join(cells)} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("overrides", nargs="*", help="more overrides for every run")
    parser.add_argument("--models", metavar="A,B", help="only these")
    parser.add_argument(
        "--seeds", type=int, help="how many seeds, from 0 on (default: 3, and another where that says more)"
    )
    parser.add_argument("--fastai", action="store_true", help="train the lesson's models in fastai 2, too")
    parser.add_argument("--fresh", action="store_true", help="forget the runs of earlier calls")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table as LESSON.md and LESSON.json")
    arguments = parser.parse_intermixed_args()
    models = arguments.models.split(",") if arguments.models else list(LESSONS[arguments.lesson])
    if unknown := set(models) - set(LESSONS[arguments.lesson]):
        parser.error(
            f"no such model: {', '.join(sorted(unknown))}; choose from: {', '.join(LESSONS[arguments.lesson])}"
        )
    if arguments.fastai and arguments.lesson != "human_numbers":
        parser.error("--fastai: only the models of human_numbers are there in fastai")
    if arguments.fresh:
        for folder in [arguments.lesson, *(["fastai"] if arguments.fastai else [])]:
            shutil.rmtree(OUTPUTS / folder, ignore_errors=True)

    results, peers = {}, {}
    for model in models:
        seeds = arguments.seeds or SEEDS.get(model, 3)
        if arguments.fastai:
            peers[model] = fastai_runs(model, seeds)
        results[model] = [run(arguments.lesson, model, seed, arguments.overrides) for seed in range(seeds)]
    text = table(arguments.lesson, results, peers)
    print(text)
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / f"{arguments.lesson}.md").write_text(text + "\n")
        for name, runs in ((arguments.lesson, results), (f"{arguments.lesson}_fastai", peers)):
            if runs:
                (arguments.write / f"{name}.json").write_text(json.dumps(runs, indent=2) + "\n")


if __name__ == "__main__":
    main()
