"""The image classifiers beside a plain PyTorch loop and fastai 2, side by side: training images per second, memory.

    python -m benchmarks.peers.pictures [MODEL …] [--repeats 3] [--write FOLDER] [data.path=FOLDER]

Whole processes, one of each in turn; medians. All three train the same module in float32 on the same images of
CIFAR-10 for as many batches and epochs, without validation, augmented and normalised by the same functions. Ours counts
the whole fit, with what is saved and drawn at its end; the number of batches is such that this is a small part of it.
`benchmarks.peers` says where fastai runs.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import OmegaConf

from benchmarks.configuration import compose_config
from benchmarks.peers.environment import HERE, fastai_python, fit_of
from benchmarks.process import ROOT, Table, watch
from unroll.cli import build
from vision.learner import FEW

LENGTHS = {  # batches and epochs: from four seconds to half a minute on two cores
    "simple_net": (351, 6),
    "conv_net": (351, 3),
    "conv_layers": (351, 3),
    "conv_bn": (351, 1),
    "conv_bn_deep": (200, 1),
    "resnet": (120, 1),
    "resnet_preact": (100, 1),
    "whitened_net": (16, 1),
}


def measured(model: str, repeats: int, python: str, overrides: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Images per second and peak MiB of each peer."""
    batches, epochs = LENGTHS[model]
    typed = [
        f"model={model}",
        "data=cifar10",
        *[f"trainer.max_epochs={epochs}", f"trainer.limit_train_batches={batches}", "trainer.limit_val_batches=0"],
        *["trainer.precision=32-true", "objective=train/loss", "threads=2", "label_smoothing=0"],
        *overrides,
    ]
    config = compose_config(typed)
    data: Any = build.data(config)
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    arguments = {name: value for name, value in settings.items() if name not in ("_target_", "compile")}
    found: dict[str, list[tuple[float, float]]] = {"unroll": [], "bare loop": [], "fastai": []}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.pt"
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in data.statistics)
        torch.save((*data.splits.train, mean, std), images)
        job = json.dumps(
            {
                "images": str(images),
                "model": settings["_target_"].rpartition(".")[2],
                "arguments": {**arguments, **data.model_arguments()},
                "few": FEW,
                "batch_size": data.batch_size,
                "batches": batches,
                "epochs": epochs,
                "pad": data.pad,
                "lr": config.optimizer.lr,
                "weight_decay": config.optimizer.weight_decay,
                "threads": 2,
            }
        )
        scripts = {"bare loop": (sys.executable, "pictures_bare.py"), "fastai": (python, "pictures_fastai.py")}
        for repeat in range(repeats):
            run = Path(folder) / str(repeat)
            ended = watch([sys.executable, "train.py", *typed, f"hydra.run.dir={run}"])
            speed = json.loads((run / "result.json").read_text())["images_per_second"]
            found["unroll"].append((speed, ended.memory))
            for peer, (program, script) in scripts.items():
                ended = watch([program, str(HERE / script), job])
                found[peer].append((fit_of(ended.output)[1], ended.memory))
    return {
        peer: (median(speed for speed, _ in runs), median(memory for _, memory in runs)) for peer, runs in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(LENGTHS)} (default: all)")
    parser.add_argument("--fastai", metavar="PYTHON", help="of an environment that has fastai")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, others = parser.parse_known_args()
    models = [name for name in arguments.models if "=" not in name] or list(LENGTHS)
    overrides = [name for name in arguments.models if "=" in name] + others
    if unknown := set(models).difference(LENGTHS):
        parser.error(f"no such model: {', '.join(unknown)}; choose from: {', '.join(LENGTHS)}")
    os.environ["PYTHONPATH"] = str(ROOT)  # the scripts import vision.models
    python = arguments.fastai or fastai_python()
    columns = ("model", "images/s", "bare loop", "unroll : bare", "fastai", "unroll : fastai", "peak MiB of each")
    table = Table("peers_pictures", columns, arguments.write)
    for model in models:
        of = measured(model, arguments.repeats, python, overrides)
        (ours, _), (bare, _), (fastai, _) = of.values()
        table.add(
            (f"`{model}`", ""),
            (ours, ",.0f"),
            (bare, ",.0f"),
            (ours / bare, ".2f"),
            (fastai, ",.0f"),
            (ours / fastai, ".2f"),
            (" / ".join(f"{memory:,.0f}" for _, memory in of.values()), ""),
        )
    table.keep()


if __name__ == "__main__":
    main()
