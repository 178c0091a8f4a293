"""Film reviews: our classifier on the test folds, beside a linear model; and the memory of long documents.

    pip install scikit-learn
    python -m benchmarks.documents [--folds 3] [--seeds 3] [--write FOLDER] [data.path=FILE] [more overrides]
    python -m benchmarks.documents --memory

Each of our runs is a whole `python train.py`, of `model=classifier` or of `experiment=classify`, which begins with a
language model of the fold's training reviews (`experiment=pretrain data=movie_reviews_text`); "both directions" is the
mean of the probabilities of one that reads forwards and one that reads backwards. `lm.classify` gives the classes of
the test fold. The runs are kept under `outputs/benchmarks/documents/`, so a call that was stopped continues
with what is missing; `--fresh` starts anew. The linear model is a support vector machine on tf-idf of words and pairs
of them, trained on all nine other folds; ours trains on eight and is chosen by the ninth.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.configuration import compose_config
from benchmarks.process import ROOT, Table
from benchmarks.tagging import finished
from lm.documents.checkpoint import TrainedClassifier
from lm.documents.command import classify
from lm.documents.data import Document
from lm.documents.model import Classifier
from unroll.cli import build
from unroll.cli.plan import MIB, with_peak_memory
from unroll.resume.checkpoint import checkpoint_file

OUTPUTS = ROOT / "outputs" / "benchmarks" / "documents"
CLASSIFIERS = {  # what is typed, and how it reads
    "`classifier`, from scratch": ("model=classifier", ("forwards",)),
    "`classifier`, from a language model": ("experiment=classify", ("forwards",)),
    "the same in both directions": ("experiment=classify", ("forwards", "backwards")),
}
LENGTHS = (1_000, 10_000, 100_000)


def linear(train: Sequence[Document], test: Sequence[Document]) -> tuple[float, float]:
    """The accuracy on the test part, and the seconds of the training."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    started = time.perf_counter()
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LinearSVC())
    model.fit([one.text for one in train], [one.label for one in train])
    seconds = time.perf_counter() - started
    return float(model.score([one.text for one in test], [one.label for one in test])), seconds


def accuracies(folds: int, seeds: int, folder: Path | None, overrides: Sequence[str]) -> None:
    table = Table("documents", ("model", "runs", *(f"fold {fold}" for fold in range(folds)), "mean", "seconds"), folder)
    every: list[Any] = [
        build.data(compose_config(["model=classifier", f"data.fold={fold}", "data.hold_out=false", *overrides]))
        for fold in range(folds)
    ]
    found = [linear(data.splits.train, data.splits.test) for data in every]
    rows = {"linear, tf-idf": (1, [accuracy for accuracy, _ in found], mean(seconds for _, seconds in found))}
    for name, (experiment, directions) in CLASSIFIERS.items():
        runs = [
            [accuracy(data.splits.test, experiment, directions, fold, seed, overrides) for seed in range(seeds)]
            for fold, data in enumerate(every)
        ]
        spent = mean(seconds for of_fold in runs for _, seconds in of_fold)
        rows[name] = (folds * seeds, [mean(accuracy for accuracy, _ in of_fold) for of_fold in runs], spent)
    for name, (count, values, seconds) in rows.items():
        cells = [(value, ".3f") for value in (*values, mean(values))]
        table.add((name, ""), (count, ""), *cells, (seconds, ".0f"))
    table.keep()


def accuracy(
    documents: Sequence[Document],
    experiment: str,
    directions: Sequence[str],
    fold: int,
    seed: int,
    overrides: Sequence[str],
) -> tuple[float, float]:
    """The accuracy of a classifier for each direction, by the mean of their probabilities, and the seconds of training.

    One with pretrained weights begins with a language model of its fold, which is trained if it is not there.
    """
    models, spent = [], 0.0
    for direction in directions:
        typed = [f"data.fold={fold}", f"data.backwards={str(direction == 'backwards').lower()}", *overrides]
        language_model = OUTPUTS / f"language_model_fold_{fold}_{direction}"
        run = OUTPUTS / f"{experiment.partition('=')[2]}_fold_{fold}_{direction}_seed_{seed}"
        if experiment == "experiment=classify":
            finished(language_model, ["experiment=pretrain", "data=movie_reviews_text", *typed])
            typed.append(f"init={language_model}")
        spent += finished(run, [experiment, *typed, f"seed={seed}"])
        models.append(TrainedClassifier.load(checkpoint_file(run)))
    return mean(models[0].classes[int(classify(models, one.text).argmax())] == one.label for one in documents), spent


def memory(folder: Path | None) -> None:
    """The peak of a training step on one document, beyond that of the same step on a short one."""
    table = Table("documents_memory", ("words", "gradients reach through", "step, s", "peak MiB more"), folder)
    for max_tokens in (1400, 10**9):
        model = Classifier(20_000, 2, "awd_lstm", 100, 200, 1, max_tokens=max_tokens)

        def step(length: int, model: Classifier = model) -> float:
            started = time.perf_counter()
            tokens, lengths = torch.randint(20_000, (2, length)), torch.tensor([length, length])
            model(tokens, lengths).logsumexp(1).sum().backward()
            return time.perf_counter() - started

        step(70)
        _, before = with_peak_memory(partial(step, 70), torch.device("cpu"))
        for length in LENGTHS:
            seconds, peak = with_peak_memory(partial(step, length), torch.device("cpu"))
            reach = f"the last {max_tokens:,}" if max_tokens < 10**9 else "all"
            table.add((length, ","), (reach, ""), (seconds, ".2f"), (((peak or 0) - (before or 0)) / MIB, ",.0f"))
    table.keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="per fold (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="measure the memory of long documents instead")
    parser.add_argument("--fresh", action="store_true", help="train again what an earlier call has trained")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, overrides = parser.parse_known_args()
    if arguments.memory:
        memory(arguments.write)
        return
    if arguments.fresh:
        shutil.rmtree(OUTPUTS, ignore_errors=True)
    accuracies(arguments.folds, arguments.seeds, arguments.write, overrides)


if __name__ == "__main__":
    main()
