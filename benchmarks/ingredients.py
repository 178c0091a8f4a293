"""What each part of the recipe for CIFAR-10 is worth: the recipe, and the recipe with one part changed.

    python -m benchmarks.ingredients [PART …] [--epochs 2] [--seeds 1] [--write FOLDER] [data.path=FOLDER]

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
PARTS = {  # what is typed, and what it changes
    "recipe": ([], "nothing: the recipe"),
    "whiten": (["model.whiten=false"], "filters of the first layer are learnt"),
    "identity": (["model.identity=false"], "convolutions begin random"),
    "smoothing": (["label_smoothing=0"], "no label smoothing"),
    "alternate": (["data.flip=true"], "images are mirrored at random"),
    "shift": (["data.pad=0"], "images are not shifted"),
    "average": (["average=moving"], "averaged weights"),
    "batches": (["data.batch_size=128", "optimizer.lr=2.5e-3"], "batches of 128, at half the rate"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--epochs", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="train again what an earlier call has trained")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, others = parser.parse_known_args()
    if arguments.fresh:
        shutil.rmtree(OUTPUTS, ignore_errors=True)
    parts = [name for name in arguments.parts if "=" not in name] or list(PARTS)
    overrides = [name for name in arguments.parts if "=" in name] + others
    if unknown := set(parts).difference(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; choose from: {', '.join(PARTS)}")
    columns = ("changed", "typed", "runs", "validation accuracy", "images/s")
    table = Table(f"ingredients_{arguments.epochs}", columns, arguments.write)
    for name in parts:
        typed, changed = PARTS[name]
        results = []
        for seed in range(arguments.seeds):
            folder = OUTPUTS / f"{name}_epochs_{arguments.epochs}_seed_{seed}"
            epochs = f"trainer.max_epochs={arguments.epochs}"
            finished(folder, ["model=whitened_net", "data=cifar10", epochs, f"seed={seed}", *typed, *overrides])
            results.append(json.loads((folder / "result.json").read_text()))
        accuracies = [result["metrics"]["valid/accuracy"] for result in results]
        spread = f" ± {stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
        table.add(
            (changed, ""),
            (f"`{' '.join(typed)}`" if typed else "", ""),
            (len(results), ""),
            (f"{mean(accuracies):.4f}{spread}", ""),
            (mean(result["images_per_second"] for result in results), ",.0f"),
        )
    table.keep()


if __name__ == "__main__":
    main()
