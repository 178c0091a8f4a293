"""What each part of the recipe for CIFAR-10 is worth: the recipe, and the recipe with one part changed.

    python -m benchmarks.ingredients [--epochs 2] [--seeds 1] [--write FOLDER] [data.path=FOLDER] [more overrides]

Each run is a whole `python train.py model=whitened_net …` on 45,000 images, for fewer epochs than the recipe has; its
accuracy is that of the last weights on the 5,000 training images that are held out. Runs are kept under
`outputs/benchmarks/ingredients/`, so a call that was stopped continues with what is missing; `--fresh` starts anew.
"""

import argparse
import json
import shutil
from pathlib import Path
from statistics import mean, stdev

from benchmarks.process import ROOT, Table
from benchmarks.tagging import finished

OUTPUTS = ROOT / "outputs" / "benchmarks" / "ingredients"
PARTS = {
    "the recipe": [],
    "filters of the first layer learnt": ["model.whiten=false"],
    "convolutions begin random": ["model.identity=false"],
    "no label smoothing": ["label_smoothing=0"],
    "mirrored at random": ["data.flip=true"],
    "not shifted": ["data.pad=0"],
    "averaged weights": ["average=moving"],
    "batches of 128": ["data.batch_size=128", "optimizer.lr=2.5e-3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="train again what an earlier call has trained")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the figures there")
    arguments, others = parser.parse_known_args()
    if arguments.fresh:
        shutil.rmtree(OUTPUTS, ignore_errors=True)
    table = Table("ingredients", ("changed", "typed", "runs", "validation accuracy", "images/s"), arguments.write)
    for number, (name, typed) in enumerate(PARTS.items()):
        results = []
        for seed in range(arguments.seeds):
            folder = OUTPUTS / f"{number}_epochs_{arguments.epochs}_seed_{seed}"
            epochs = f"trainer.max_epochs={arguments.epochs}"
            finished(folder, ["model=whitened_net", "data=cifar10", epochs, f"seed={seed}", *typed, *others])
            results.append(json.loads((folder / "result.json").read_text()))
        accuracies = [result["metrics"]["valid/accuracy"] for result in results]
        spread = f" ± {stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
        table.add(
            (name, ""),
            (f"`{' '.join(typed)}`" if typed else "", ""),
            (len(results), ""),
            (f"{mean(accuracies):.4f}{spread}", ""),
            (mean(result["images_per_second"] for result in results), ",.0f"),
        )
    table.keep()


if __name__ == "__main__":
    main()
