"""This project with all its defaults, a plain PyTorch loop and fastai 2, side by side: speed, memory, time to a result.

    python -m benchmarks.peers                                  the three cases, about twenty minutes on two cores
    python -m benchmarks.peers human_numbers                    one of them
    python -m benchmarks.peers --nietzsche FILE                 with a copy of the text

Whole processes, one of each in turn, so that all meet the same weather; medians. All three read the same texts, train
the same model with the same rates for the same epochs, validate after each, and use as many threads. fastai runs in an
environment of its own, which is made at the first call (`--fastai PYTHON` names one that is there).
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.peers.environment import HERE, fastai_python, fit_of
from benchmarks.process import epoch_row, nietzsche_text, watch
from lm.language.corpora import human_numbers, lines_between


class Case(NamedTuple):
    """One model and its settings, as overrides of `train.py` and as a job of the peers; and what is to be reached."""

    overrides: list[str]
    job: dict[str, Any]
    metric: str
    goal: float


def char_gru(bptt: int, epochs: int) -> Case:
    return Case(
        ["model=char_gru", "schedule=constant", f"data.bptt={bptt}", f"trainer.max_epochs={epochs}"],
        {
            "characters": True,
            "min_freq": 3,
            "model": {"embedding_size": 42, "hidden_size": 256, "num_layers": 1, "norm": False},
            "batch_size": 64,
            "bptt": bptt,
            "optimizer": {"lr": 1e-3, "betas": [0.9, 0.999], "weight_decay": 0.0},
            "one_cycle": False,
            "epochs": epochs,
            "threads": 2,
        },
        "valid loss",
        1.45,
    )


CASES = {
    "human_numbers": Case(
        ["model=gru"],
        {
            "characters": False,
            "min_freq": 1,
            "model": {"embedding_size": 64, "hidden_size": 64, "num_layers": 2, "norm": True},
            "batch_size": 64,
            "bptt": 20,
            "optimizer": {"lr": 1e-2, "betas": [0.9, 0.99], "weight_decay": 0.01},
            "one_cycle": True,
            "epochs": 10,
            "threads": 1,
        },
        "accuracy",
        0.80,
    ),
    "nietzsche_8": char_gru(bptt=8, epochs=4),
    "nietzsche_64": char_gru(bptt=64, epochs=4),
}


class Run(NamedTuple):
    """Of one process: seconds in all and of the fit, training tokens per second of the fit, peak memory in MiB, and the
    seconds from its start until the goal was reached (None: it was not)."""

    process: float
    fit: float
    tokens_per_second: float
    memory: float
    goal: float | None


def run(peer: str, case: Case, texts: tuple[Path, Path], python: str, overrides: list[str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        if peer == "unroll":
            command = [sys.executable, "train.py", *case.overrides, *overrides, f"hydra.run.dir={folder}/run"]
        else:
            job = {**case.job, "train": str(texts[0]), "valid": str(texts[1])}
            script, python = ("bare.py", sys.executable) if peer == "bare loop" else ("learner.py", python)
            command = [python, str(HERE / script), json.dumps(job)]
        goals: list[float] = []
        finished = watch(command, lambda line, seconds: goals.extend([seconds] if reached(line, case) else []))
        if peer == "unroll":
            result = json.loads((Path(folder) / "run" / "result.json").read_text())
            fit, speed = result["seconds"], result["tokens_per_second"]
        else:
            fit, speed = fit_of(finished.output)
        return Run(finished.seconds, fit, speed, finished.memory, goals[0] if goals else None)


def reached(line: str, case: Case) -> bool:
    """Whether the line is an epoch's row (epoch, train loss, valid loss, accuracy, seconds) that reaches the goal."""
    row = epoch_row(line)
    if len(row) != 5:
        return False
    return row[3] >= case.goal if case.metric == "accuracy" else row[2] <= case.goal


def table(results: dict[str, dict[str, list[Run]]]) -> str:
    lines = [
        "| case | | tokens/s | unroll : this | process, s | unroll : this | peak MiB | goal reached after, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of_peers in results.items():
        medians = {
            peer: {
                field: median(getattr(run, field) for run in runs)
                for field in ("tokens_per_second", "process", "memory")
            }
            for peer, runs in of_peers.items()
        }
        ours = medians["unroll"]
        for peer, metrics in medians.items():
            goals = [run.goal for run in of_peers[peer] if run.goal is not None]
            lines.append(
                f"| {name} | {peer} | {metrics['tokens_per_second']:,.0f} "
                f"| {ours['tokens_per_second'] / metrics['tokens_per_second']:.2f} "
                f"| {metrics['process']:.1f} | {ours['process'] / metrics['process']:.2f} | {metrics['memory']:,.0f} "
                f"| {f'{median(goals):.1f}' if goals else '–'} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--nietzsche", metavar="FILE", help="a copy of the text, instead of the download")
    parser.add_argument("--fastai", metavar="PYTHON", help="of an environment that has fastai")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and all metrics there")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(unknown)}; choose from: {', '.join(CASES)}")
    python = arguments.fastai or fastai_python()
    os.environ["PYTHONUNBUFFERED"] = "1"  # an epoch's row is to come when the epoch ends

    results: dict[str, dict[str, list[Run]]] = {}
    for name in arguments.cases or CASES:
        case = CASES[name]
        overrides = []
        if name == "human_numbers":
            texts = human_numbers()
        else:
            path = arguments.nietzsche and str(Path(arguments.nietzsche).resolve())
            overrides = [f"data.path={path}"] if path else []
            text = nietzsche_text(path)
            train, valid = lines_between(text, 0, 0.8), lines_between(text, 0.8, 1)
            texts = train.lower(), valid.lower()
        with tempfile.TemporaryDirectory() as folder:
            files = (Path(folder) / "train.txt", Path(folder) / "valid.txt")
            for file, content in zip(files, texts, strict=True):
                file.write_text(content, encoding="utf-8")
            peers: dict[str, list[Run]] = {"unroll": [], "bare loop": [], "fastai": []}
            for repeat in range(arguments.repeats):
                for peer, runs in peers.items():
                    runs.append(run(peer, case, files, python, overrides))
                    print(f"{name} {repeat + 1}/{arguments.repeats} {peer}: {runs[-1]}", file=sys.stderr)
        results[name] = peers
    text = table(results)
    print(text)
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / "peers.md").write_text(text + "\n")
        all_runs = {
            name: {peer: [r._asdict() for r in runs] for peer, runs in of.items()} for name, of in results.items()
        }
        (arguments.write / "peers.json").write_text(json.dumps(all_runs, indent=2) + "\n")


if __name__ == "__main__":
    main()
