"""The commands beside training: `task=show_batch`, `summary`, `lr_find`, `plan` and `evaluate`.

Each prints its answer to standard output.
"""

import math
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.model_summary import ModelSummary

from unroll.cli import build, plan
from unroll.errors import UserError
from unroll.resume.checkpoint import checkpoint_file, difference, rebuild
from unroll.terminal import printable
from unroll.training.data import Data
from unroll.training.learner import Learner

LR_STEPS = 100
QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "callbacks": []}


def run(config: DictConfig) -> None:
    """Runs the command that `task=` names."""
    if config.task == "evaluate":
        answer(evaluate(config))
        return
    folder = Path(os.path.relpath(config.run_dir))
    folder.mkdir(parents=True, exist_ok=True)
    data = build.data(config)
    if config.task == "show_batch":
        answer(data.show(folder))
        return
    learner = build.learner(config, data)
    if config.task == "summary":
        answer(summary(learner, data))
    elif config.task == "lr_find":
        build.initialise(config, learner, data)
        answer(lr_find(config, learner, data, folder / "lr_find.png"))
    elif config.task == "plan":
        device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
        trainer = build.trainer(config, **QUIET)
        trials = plan.plan(learner, data, batch_sizes(data.batch_size), device, precision=trainer.precision_plugin)
        answer(f"{plan.table(trials)}\n\n{plan.advice(trials, data.batch_size, device)}")
        print(f"All of it in trainer.precision={trainer.precision}, as the training would be.")


def answer(text: str) -> None:
    print(text, file=printable(sys.stdout))


def summary(learner: Learner, data: Data) -> str:
    """Lightning's summary of the layers, with the shapes of their inputs and outputs for the first batch."""
    learner.example_input_array = learner.inputs(next(data.train.batches(0)))
    return str(ModelSummary(learner, max_depth=-1))


class RisingRate(pl.Callback):
    """Raises the learning rate from step to step and keeps the smoothed losses, until they explode.

    Lightning's Tuner does the same, and is not used: in 2.6 its smoothed loss begins at about half the loss, and its
    suggestion divides the fall of the loss by the difference of the rates, which favours the smallest rates.

    Attributes:
        rates: of the steps.
        losses: before the steps, smoothed: a moving average, 0.9 old and 0.1 new, unbiased.
        shares: of the rate, for each group of parameters, as `optimizer.groups` or `discriminative` sets them.
    """

    def __init__(self, lowest: float = 1e-6, highest: float = 1.0, steps: int = LR_STEPS) -> None:
        self.schedule = [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.shares: list[float] = []
        self.average = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        optimizer = trainer.optimizers[0]
        self.shares = [group["lr"] / optimizer.defaults["lr"] for group in optimizer.param_groups]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for group, share in zip(trainer.optimizers[0].param_groups, self.shares, strict=True):
            group["lr"] = share * self.schedule[len(self.rates)]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.average = 0.9 * self.average + 0.1 * float(outputs["loss"])
        loss = self.average / (1 - 0.9 ** (len(self.rates) + 1))
        if not loss < 4 * min(self.losses, default=math.inf):  # nan too
            trainer.should_stop = True
            return
        self.rates.append(self.schedule[len(self.rates)])
        self.losses.append(loss)


def lr_find(config: DictConfig, learner: Learner, data: Data, plot: Path) -> str:
    """Trains at a rate that rises from step to step (Smith 2015, arXiv 1506.01186).

    The state is carried as in training. The suggestion is the rate where the loss falls most steeply over the logarithm
    of the rate.
    """
    learner.schedule = None
    sweep = RisingRate()
    limits: dict[str, Any] = {
        "max_epochs": math.ceil(LR_STEPS / len(data.train)),
        "max_steps": LR_STEPS,
        "limit_val_batches": 0,
    }
    trainer = build.trainer(config, **QUIET | limits | {"callbacks": [sweep], "accumulate_grad_batches": 1})
    trainer.fit(learner, datamodule=data)
    suggestion = steepest(sweep.rates, sweep.losses)
    draw_lr_find(plot, sweep.rates, sweep.losses, suggestion)
    lines = [f"{rate:>10.1e}  {loss:.4f}" for rate, loss in list(zip(sweep.rates, sweep.losses, strict=True))[::10]]
    advice = f"The loss falls most steeply at optimizer.lr={suggestion or 0:.1e}"
    lines += ["", "The loss does not fall at any rate." if suggestion is None else advice, f"The curve is in {plot}"]
    return "\n".join(lines)


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate where the loss falls most from one rate to the next; None if it never falls."""
    falls = [before - after for before, after in pairwise(losses)]
    best = max(range(len(falls)), key=falls.__getitem__, default=0)
    return rates[best] if falls and falls[best] > 0 else None


def draw_lr_find(path: Path, rates: Sequence[float], losses: Sequence[float], suggestion: float | None) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (smoothed)")
    axes.grid(alpha=0.3)
    if suggestion is not None:
        axes.axvline(suggestion, color="C1", linestyle="--", label=f"steepest: {suggestion:.1e}")
        axes.legend()
    figure.savefig(path, dpi=120)


def evaluate(config: DictConfig) -> str:
    """The validation metrics of a checkpoint, by `Trainer.validate`; sums over a whole pass, divided once."""
    path = checkpoint_file(Path(config.ckpt))
    model, metadata = rebuild(path, build.model_class(config))
    if (trained := metadata["model"]["name"]) != type(model).__name__:
        raise UserError(f"{path}: is of the model {trained}, not of {type(model).__name__}; leave model= out")
    data = build.data(config)
    data.as_in(metadata["data"])
    if part := difference(metadata["data"], data.description(), data.meaning):
        raise UserError(f"{path}: it and the data differ in their {part}; choose the data it was trained on")
    learner = build.learner(config, data, (model, metadata))
    build.trainer(config, path, **QUIET).validate(learner, datamodule=data, verbose=False)
    metrics = [(f"valid/{name}", f"{value:.4f}") for name, value in learner.total("valid").items()]
    metrics.append((f"valid/{learner.unit}", f"{learner.passes['valid'].targets:,}"))
    if OmegaConf.select(config, "evaluate") is not None:
        further = build.part(config, "evaluate")(learner, data)
        metrics += [(name, f"{value:.4f}") for name, value in further.items()]
    width = max(16, *(len(name) for name, _ in metrics))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in metrics)


def batch_sizes(chosen: int) -> list[int]:
    return sorted({max(1, chosen // 2), chosen, 2 * chosen, 4 * chosen})
