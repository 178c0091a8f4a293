"""Chunking (CoNLL-2000): our tagger on the test part, beside a linear model with hand-made features.

    pip install python-crfsuite
    python -m benchmarks.tagging [--seeds 3] [--write FOLDER] [data.path=FILE] [more overrides]

Our runs are each a whole `python train.py model=tagger seed=…` and an evaluation on the test part. They are kept under
`outputs/benchmarks/tagging/`, so a call that was stopped continues with what is missing; `--fresh` starts anew. The
other is a conditional random field of python-crfsuite over words, their endings and shapes, and parts of speech, of two
words on each side; it trains on the whole training part, ours on nine tenths of it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from benchmarks.configuration import compose_config
from benchmarks.process import ROOT, Table
from lm.tagging.columns import Sentence
from lm.tagging.schemes import Scheme
from lm.tagging.spans import count
from unroll.cli import build

OUTPUTS = ROOT / "outputs" / "benchmarks" / "tagging"
WORD, POS, TAG = range(3)
AROUND = (-2, -1, 0, 1, 2)


def finished(folder: Path, overrides: Sequence[str]) -> float:
    """A whole run, and the seconds of its training.

    Args:
        folder: of the run; one that was begun is continued, one that is finished is not trained again.
        overrides: what is typed.
    """
    result = folder / "result.json"
    if not result.exists() or json.loads(result.read_text())["status"] != "finished":
        print(f"{folder.name} …", file=sys.stderr)
        typed = [*overrides, f"hydra.run.dir={folder}", "checkpoint.requeue=true"]
        subprocess.run([sys.executable, "train.py", *typed], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads(result.read_text())["seconds"]


def evaluated(checkpoint: Path, *overrides: str) -> dict[str, float]:
    """The metrics of a checkpoint, or of the best one of a run directory, on the test part."""
    evaluate = [sys.executable, "train.py", "task=evaluate", f"ckpt={checkpoint}", "data.split=test", *overrides]
    shown = subprocess.run(evaluate, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name: float(value.replace(",", "")) for name, value in (line.split() for line in shown.splitlines())}


def on_the_test_part(folder: Path, overrides: Sequence[str]) -> tuple[dict[str, float], float]:
    """The metrics of a run (see `finished`) on the test part, and the seconds of its training."""
    seconds = finished(folder, overrides)
    return evaluated(folder), seconds


def features(sentence: Sentence) -> list[list[str]]:
    """What a linear model is told of each word."""
    rows = []
    for at in range(len(sentence)):
        row = ["bias"]
        for offset in AROUND:
            if not 0 <= at + offset < len(sentence):
                row.append(f"{offset}:edge")
                continue
            word, pos = sentence[at + offset][WORD], sentence[at + offset][POS]
            row += [f"{offset}:word={word.lower()}", f"{offset}:pos={pos}"]
            if offset == 0:
                shape = f"{word.istitle():d}{word.isupper():d}{word.isdigit():d}{'-' in word:d}"
                row += [f"end={word[-size:].lower()}" for size in (1, 2, 3)] + [f"shape={shape}"]
        tags = [sentence[at + offset][POS] if 0 <= at + offset < len(sentence) else "" for offset in AROUND]
        row += [f"{offset}:pos={first}/{second}" for offset, first, second in zip(AROUND, tags, tags[1:], strict=False)]
        rows.append(row)
    return rows


def linear(train: Sequence[Sentence], test: Sequence[Sentence]) -> tuple[float, float]:
    """F1 on the test part, and the seconds of the training."""
    import pycrfsuite

    model = OUTPUTS / "linear.crfsuite"
    started = time.perf_counter()
    trainer = pycrfsuite.Trainer(verbose=False)
    trainer.set_params({"c1": 0.1, "c2": 0.1, "max_iterations": 100, "feature.possible_transitions": True})
    for sentence in train:
        trainer.append(features(sentence), [word[TAG] for word in sentence])
    trainer.train(str(model))
    seconds = time.perf_counter() - started
    tagger = pycrfsuite.Tagger()
    tagger.open(str(model))
    truth, guesses = (
        [[word[TAG] for word in sentence] for sentence in test],
        [tagger.tag(features(one)) for one in test],
    )
    return count(truth, guesses, Scheme("iob2")).f1, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="train again what an earlier call has trained")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, overrides = parser.parse_known_args()
    if arguments.fresh:
        shutil.rmtree(OUTPUTS, ignore_errors=True)
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    splits = build.data(compose_config(["model=tagger", *overrides])).splits  # type: ignore[attr-defined]
    table = Table("tagging", ("model", "runs", "F1 on the test part", "seconds of training"), arguments.write)
    f1, seconds = linear([*splits.train, *splits.valid], splits.test)
    table.add(("linear, hand-made features", ""), (1, ""), (f"{100 * f1:.2f}", ""), (seconds, ".0f"))
    found = [
        on_the_test_part(OUTPUTS / f"seed_{seed}", ["model=tagger", f"seed={seed}", *overrides])
        for seed in range(arguments.seeds)
    ]
    metrics = [100 * of_run["valid/f1"] for of_run, _ in found]
    spread = f" ± {stdev(metrics):.2f}" if len(metrics) > 1 else ""
    shown = f"{mean(metrics):.2f}{spread} ({', '.join(f'{figure:.2f}' for figure in metrics)})"
    table.add(("`tagger`", ""), (len(found), ""), (shown, ""), (mean(seconds for _, seconds in found), ".0f"))
    table.keep()


if __name__ == "__main__":
    main()
