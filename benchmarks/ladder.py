"""The image classifiers on the test images of CIFAR-10, plain and averaged over copies of each image.

    python -m benchmarks.ladder [MODEL …] [--seeds 1] [--write FOLDER] [data.path=FOLDER] [more overrides]

Each run is a whole `python train.py model=… data=cifar10` on 45,000 images; 5,000 others are validated after each
epoch. Its last weights are evaluated once on the 10,000 test images, and once more with `tta=true`. `best` in the place
of a model is `experiment=cifar10_best`, which trains on all 50,000. Runs are kept under `outputs/benchmarks/ladder/`,
so a call that was stopped continues with what is missing; `--fresh` starts anew.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from benchmarks.process import ROOT, Table
from benchmarks.tagging import evaluated, finished

OUTPUTS = ROOT / "outputs" / "benchmarks" / "ladder"
MODELS = ("simple_net", "conv_net", "conv_layers", "conv_bn", "conv_bn_deep", "resnet", "resnet_preact")
BEST = "best"


def typed(model: str) -> list[str]:
    return ["experiment=cifar10_best"] if model == BEST else [f"model={model}", "data=cifar10"]


def one_run(model: str, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    folder = OUTPUTS / f"{model}_seed_{seed}"
    finished(folder, [*typed(model), f"seed={seed}", *overrides])
    last = folder / "checkpoints" / "last.ckpt"
    result = json.loads((folder / "result.json").read_text())
    return {
        "epochs": result["epochs"],
        "seconds": result["seconds"],
        "speed": result["images_per_second"],
        "parameters": result["parameters"],
        "plain": evaluated(last)["valid/accuracy"],
        "averaged": evaluated(last, "tta=true")["valid/accuracy"],
    }


def shown(values: Sequence[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join((*MODELS, BEST))} (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="train again what an earlier call has trained")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, others = parser.parse_known_args()
    models = [name for name in arguments.models if "=" not in name] or [*MODELS, BEST]
    overrides = [name for name in arguments.models if "=" in name] + others
    if unknown := set(models).difference((*MODELS, BEST)):
        parser.error(f"no such model: {', '.join(unknown)}; choose from: {', '.join((*MODELS, BEST))}")
    if arguments.fresh:
        shutil.rmtree(OUTPUTS, ignore_errors=True)
    columns = ("model", "runs", "epochs", "parameters", "test accuracy", "with `tta=true`", "images/s", "seconds")
    table = Table("ladder_cifar10", columns, arguments.write)
    for model in models:
        runs = [one_run(model, seed, overrides) for seed in range(arguments.seeds)]
        of = {name: [run[name] for run in runs] for name in runs[0]}
        table.add(
            (f"`{model}`", ""),
            (len(runs), ""),
            (of["epochs"][0], ""),
            (of["parameters"][0], ","),
            (shown(of["plain"]), ""),
            (shown(of["averaged"]), ""),
            (mean(of["speed"]), ",.0f"),
            (mean(of["seconds"]), ",.0f"),
        )
    table.keep()


if __name__ == "__main__":
    main()
