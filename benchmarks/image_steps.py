"""The parts of a training step of image classifiers, and what memory format, precision and torch.compile change.

    python -m benchmarks.image_steps [--steps 20] [--write FOLDER] [data.path=FOLDER]

Milliseconds, medians over so many steps after five others, with two threads, in one process; batches, precision and
augmentation are those of `conf/recipe/cifar10/`. Run it on an idle machine.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.configuration import compose_config
from benchmarks.ladder import MODELS
from benchmarks.process import Laps, Table
from unroll import fitting_precision
from unroll.cli import build
from unroll.training.optimizers import parameter_groups
from vision.data.data_modules import ImageData
from vision.learner import ImageClassifier

WARM_UP = 5
PARTS = ("augmentation", "forward", "backward", "optimizer")
CHANNELS_FIRST = "channels first"
CASES: dict[str, list[str]] = {
    **{name: [f"model={name}"] for name in MODELS},
    "whitened_net": ["model=whitened_net"],
    f"whitened_net, {CHANNELS_FIRST}": ["model=whitened_net"],
    "whitened_net, float32": ["model=whitened_net", "trainer.precision=32-true"],
    "whitened_net, compiled": ["model=whitened_net", "model.compile=true"],
    "resnet, compiled": ["model=resnet", "model.compile=true"],
}


def parts(name: str, overrides: Sequence[str], steps: int) -> tuple[int, dict[str, float]]:
    """The images of a step, and the milliseconds of each of its parts."""
    config = compose_config([*CASES[name], "data=cifar10", *overrides])
    data = build.data(config)
    assert isinstance(data, ImageData)
    torch.manual_seed(0)
    module = build.learner(config, data)
    assert isinstance(module, ImageClassifier)
    assert module.optimizer is not None
    optimizer = module.optimizer(parameter_groups(module.model, {}))
    ordered: Callable[[Tensor], Tensor] = Tensor.contiguous if CHANNELS_FIRST in name else lambda images: images
    mixed = config.trainer.precision == "auto" and fitting_precision("cpu") == "bf16-mixed"
    module.train()
    laps, batches = Laps(), data.train.batches(0)
    for _ in range(WARM_UP + steps):
        laps.start()
        batch = next(batches)
        (images,) = module.inputs(batch)
        images = ordered(images)
        laps.lap("augmentation")
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            (logits,) = module.fast_model(images)
            loss = module.objective(module.model, logits, batch).minimised
        laps.lap("forward")
        optimizer.zero_grad()
        loss.backward()
        laps.lap("backward")
        optimizer.step()
        laps.lap("optimizer")
    return data.batch_size, laps.medians(skip=WARM_UP)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(2)
    table = Table("image_steps", ("model", "images", *PARTS, "together", "images/s"), arguments.write)
    for name in CASES:
        images, of_parts = parts(name, overrides, arguments.steps)
        together = sum(of_parts.values())
        times = [(milliseconds, ".1f") for milliseconds in (*of_parts.values(), together)]
        table.add((name, ""), (images, ""), *times, (1000 * images / together, ",.0f"))
    table.keep()


if __name__ == "__main__":
    main()
