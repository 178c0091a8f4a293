"""Our document classifier beside fastai 2's `text_classifier_learner`: speed and memory.

    python -m benchmarks.peers.documents [--repeats 3] [--write FOLDER] [data.path=FILE] [more overrides]

`benchmarks.peers` says how it is measured.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.configuration import compose_config
from benchmarks.peers.environment import HERE, fastai_python, fit_of
from benchmarks.process import Table, watch
from lm.documents.data import Document, Documents
from unroll.cli import build

SIZE = 200  # of vectors and units


def numbered(data: Documents, documents: Sequence[Document]) -> tuple[list[torch.Tensor], list[int]]:
    """The ids of each document, and the number of its class."""
    return [data.encoded(one.text).int() for one in documents], [data.classes.index(one.label) for one in documents]


def beside_fastai(repeats: int, python: str, folder: Path | None, overrides: Sequence[str]) -> None:
    """Whole processes in turn, the same documents, sizes, batches and epochs; medians."""
    shared = {"batch_size": 32, "bptt": 72, "max_tokens": 1440, "epochs": 2, "lr": 5e-3, "threads": 2}
    typed = [
        "model=classifier",
        f"model.embedding_size={SIZE}",
        f"model.hidden_size={SIZE}",
        *["+model.weight_drop=0.2", "data.crop=null", "trainer.precision=32-true", "trainer.check_val_every_n_epoch=1"],
        *(f"model.{name}={shared[name]}" for name in ("bptt", "max_tokens")),
        f"data.batch_size={shared['batch_size']}",
        f"trainer.max_epochs={shared['epochs']}",
        f"optimizer.lr={shared['lr']}",
        f"threads={shared['threads']}",
        *overrides,
    ]
    data: Any = build.data(compose_config(typed))
    speeds: dict[str, list[float]] = {"unroll": [], "fastai": []}
    seconds: dict[str, list[float]] = {"unroll": [], "fastai": []}
    memory: dict[str, list[float]] = {"unroll": [], "fastai": []}
    with tempfile.TemporaryDirectory() as scratch:
        documents = Path(scratch) / "documents.pt"
        torch.save([numbered(data, part) for part in (data.splits.train, data.splits.valid)], documents)
        job = {**shared, "documents": str(documents), "vocab_size": len(data.vocabulary), "size": SIZE}
        for number in range(repeats):
            run = Path(scratch) / str(number)
            ended = watch([sys.executable, "train.py", *typed, f"hydra.run.dir={run}"])
            speeds["unroll"].append(json.loads((run / "result.json").read_text())["tokens_per_second"])
            seconds["unroll"].append(ended.seconds)
            memory["unroll"].append(ended.memory)
            ended = watch([python, str(HERE / "classifier.py"), json.dumps(job)])
            speeds["fastai"].append(fit_of(ended.output)[1])
            seconds["fastai"].append(ended.seconds)
            memory["fastai"].append(ended.memory)
    table = Table("documents_fastai", ("", "tokens/s", "unroll : this", "process, s", "peak MiB"), folder)
    for name, of_peer in speeds.items():
        ratio = median(speeds["unroll"]) / median(of_peer)
        shown = ((median(seconds[name]), ".0f"), (median(memory[name]), ",.0f"))
        table.add((name, ""), (median(of_peer), ",.0f"), (ratio, ".2f"), *shown)
    table.keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fastai", metavar="PYTHON", help="of an environment that has fastai")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, overrides = parser.parse_known_args()
    beside_fastai(arguments.repeats, arguments.fastai or fastai_python(), arguments.write, overrides)


if __name__ == "__main__":
    main()
