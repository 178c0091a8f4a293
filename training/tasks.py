"""The verbs beside training: `task=show_batch`, `task=summary`, `task=lr_find`, `task=plan`, `task=evaluate`.

Each prints what it finds to standard output.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import plan, rng
from training.checkpoint import rebuild, refuse_other_targets
from training.data import Data
from training.module import SupervisedModule
from training.rehearsal import Rehearsal


def summary(module: SupervisedModule, data: Data) -> str:
    """The layers with the shapes of what they give for one batch, and their parameters."""
    model = module.model
    shapes: dict[str, str] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, inputs: Any, output: Any) -> None:
            shapes.setdefault(name, shape(output))

        return note

    layers = {name: layer for name, layer in model.named_modules() if name and not list(layer.children())}
    handles = [layer.register_forward_hook(noting(name)) for name, layer in layers.items()]
    inputs = module.inputs(next(iter(data.train)))
    with torch.no_grad():
        logits, *state = as_tuple(model.eval()(*inputs))
    model.train()
    for handle in handles:
        handle.remove()
    rows = [("layer", "kind", "gives", "parameters")]
    rows += [(name, type(layer).__name__, shapes.get(name, ""), count(layer)) for name, layer in layers.items()]
    rows.append((type(model).__name__, "", shape(logits), count(model)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    hands_on = "".join(f" and hands on the state {shape(part)}" for part in state)
    return "\n".join([*lines, "", f"reads {', '.join(map(shape, inputs))}{hands_on}"])


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(shape, value))})"
    return "none" if value is None else str(value)


def count(layer: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in layer.parameters()):,}"


def lr_find(
    module: SupervisedModule,
    batches: Iterable[Any],
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> tuple[list[float], list[float], float | None]:
    """Trains a copy of the model at a rate that rises from step to step (Smith 2015, arXiv 1506.01186).

    The module, its states and the random generators are afterwards as they were. The copy of a recurrent
    model carries a state of its own along the stream; where a pass ends it starts from zeros.

    Returns:
        The rates, the losses (smoothed: a moving average, 0.9 old and 0.1 new, unbiased) until they are four times the
        lowest, and the suggested rate: where the loss falls most steeply over the logarithm of the rate, or None if it
        does not fall.
    """
    before = rng.state()
    trial = Rehearsal(module)
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    try:
        for start, batch in endless(batches):
            if start:
                trial.module.start("train")
            rate = lowest * (highest / lowest) ** (len(rates) / (steps - 1))
            for group in trial.stepper.param_groups:
                group["lr"] = rate
            average = 0.9 * average + 0.1 * trial.train_on(batch).item()
            smooth = average / (1 - 0.9 ** (len(rates) + 1))
            if not smooth < 4 * min(losses, default=float("inf")):  # nan too
                break
            rates.append(rate)
            losses.append(smooth)
            if len(rates) == steps:
                break
    finally:
        rng.restore(before)
    falls = [losses[at] - losses[at + 1] for at in range(len(losses) - 1)]
    best = max(range(len(falls)), key=falls.__getitem__, default=0)
    return rates, losses, rates[best] if falls and falls[best] > 0 else None


def endless(batches: Iterable[Any]) -> Iterator[tuple[bool, Any]]:
    """One pass after the other; True with the first batch of each."""
    while True:
        for number, batch in enumerate(batches):
            yield number == 0, batch


def draw_lr_find(path: Path, rates: list[float], losses: list[float], suggestion: float | None) -> None:
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


@torch.no_grad()
def evaluate(module: SupervisedModule, batches: Iterable[Any]) -> dict[str, float]:
    """What a validation logs, over a whole pass; sums, divided once."""
    module.eval().start("valid")
    for number, batch in enumerate(batches):
        module.validation_step(batch, number)
    totals = module.totals["valid"]
    return {**module.figures("valid", totals), f"valid/{module.unit}": totals.targets}


def batch_sizes(chosen: int) -> list[int]:
    return sorted({max(1, chosen // 2), chosen, 2 * chosen, 4 * chosen})


def device(trainer: Any) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and trainer.accelerator != "cpu" else "cpu")


def run(task: str, config: Any, data: Data, module: SupervisedModule, folder: Path) -> None:
    """Does one of the verbs and prints its answer."""
    if task == "show_batch":
        print(data.show(folder))
    elif task == "summary":
        print(summary(module, data))
    elif task == "lr_find":
        rates, losses, suggestion = lr_find(module, data.train)
        for rate, loss in list(zip(rates, losses, strict=True))[::10]:
            print(f"{rate:>10.1e}  {loss:.4f}")
        draw_lr_find(folder / "lr_find.png", rates, losses, suggestion)
        if suggestion is None:
            print("\nThe loss does not fall at any rate.")
        else:
            print(f"\nIt falls most steeply at optimizer.lr={suggestion:.1e}")
        print(f"The curve is in {folder / 'lr_find.png'}")
    elif task == "plan":
        trials = plan.plan(module, data, batch_sizes(data.batch_size), device(config.trainer))
        print(plan.table(trials))
        print(f"\n{plan.advice(trials, data.batch_size, device(config.trainer))}")
    elif task == "evaluate":

        def arguments(metadata: Mapping[str, Any]) -> dict[str, int]:
            refuse_other_targets(config.ckpt, metadata, data.description())
            return data.model_arguments()

        model, metadata = rebuild(Path(config.ckpt), module.models, arguments)
        for name, value in evaluate(type(module)(model, metadata=metadata), data.valid).items():
            print(f"{name:<16}  {value:,}" if isinstance(value, int) else f"{name:<16}  {value:.4f}")
