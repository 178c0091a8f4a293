"""The verbs beside training: `task=show_batch`, `task=summary`, `task=lr_find`, `task=plan`, `task=evaluate`.

Each prints what it finds to standard output.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lm import plan, rng
from lm.data.module import TextData
from lm.data.windows import WindowBatches
from lm.errors import UserError
from lm.module import LanguageModel, perplexity
from lm.rehearsal import Rehearsal

ROWS, BATCHES, WIDTH = 4, 3, 36


def show_batch(data: TextData) -> str:
    """The first rows of the first batches in words, a column for each batch."""
    batches = [batch for batch, _ in zip(data.train, range(BATCHES), strict=False)]
    words = data.vocabulary.textify
    lines = [f"{'':6}" + "".join(f"batch {number}".ljust(WIDTH + 3) for number in range(len(batches))).rstrip()]
    for row in range(min(ROWS, len(batches[0][0]))):
        for name, part in (("reads", 0), ("guess", 1)):
            cells = [shorten(words(batch[part][row])) if row < len(batch[part]) else "" for batch in batches]
            lines.append(
                f"{name if part else f'row {row}':6}" + " | ".join(cell.ljust(WIDTH) for cell in cells).rstrip()
            )
    inputs, _ = batches[0]
    lines.append(f"\n{len(data.train):,} batches of {inputs.size(0)} rows and {inputs.size(1)} steps in an epoch.")
    if isinstance(data.train, WindowBatches):
        lines.append("Windows are drawn anew in each epoch; none continues another.")
    else:
        joined = all(
            torch.equal(targets[: following.size(0), -1], following[:, 0])
            for (_, targets), (following, _) in pairwise(batches)
        )
        lines.append(f"Each row goes on in the next batch: {'yes' if joined else 'no'} (the last guess is read next).")
    return "\n".join(lines)


def shorten(text: str) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= WIDTH else f"{text[: WIDTH // 2 - 1]} … {text[-WIDTH // 2 + 2 :]}"


def summary(model: nn.Module, data: TextData) -> str:
    """The layers with the shapes of what they give for one batch, and their parameters."""
    shapes: dict[str, str] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, inputs: Any, output: Any) -> None:
            shapes.setdefault(name, shape(output))

        return note

    layers = {name: layer for name, layer in model.named_modules() if name and not list(layer.children())}
    handles = [layer.register_forward_hook(noting(name)) for name, layer in layers.items()]
    inputs, _ = next(iter(data.train))
    with torch.no_grad():
        logits, state = model.eval()(inputs)
    model.train()
    for handle in handles:
        handle.remove()
    rows = [("layer", "kind", "gives", "parameters")]
    rows += [(name, type(layer).__name__, shapes.get(name, ""), count(layer)) for name, layer in layers.items()]
    rows.append((type(model).__name__, "", shape(logits), count(model)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"reads {shape(inputs)} and hands on the state {shape(state)}"])


def shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(shape, value))})"
    return "none" if value is None else str(value)


def count(layer: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in layer.parameters()):,}"


def lr_find(
    module: LanguageModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> tuple[list[float], list[float], float | None]:
    """Trains a copy of the model at a rate that rises from step to step (Smith 2015, arXiv 1506.01186).

    The module, its states and the random generators are afterwards as they were. The copy carries a state of its own
    along the stream; where a pass ends it starts from zeros.

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
                trial.start("train")
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


def endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[bool, tuple[Tensor, Tensor]]]:
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
def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Loss (nats per token), accuracy and perplexity over a whole pass, the state carried; sums, divided once."""
    module = LanguageModel(model.eval())
    module.start("valid")
    for number, batch in enumerate(batches):
        module.validation_step(batch, number)
    totals = module.totals["valid"]
    loss = totals.mean_loss()
    return {"loss": loss, "accuracy": totals.accuracy(), "perplexity": perplexity(loss), "tokens": totals.targets}


def batch_sizes(chosen: int) -> list[int]:
    return sorted({max(1, chosen // 2), chosen, 2 * chosen, 4 * chosen})


def device(trainer: Any) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and trainer.accelerator != "cpu" else "cpu")


def run(task: str, config: Any, data: TextData, module: LanguageModel, folder: Path) -> None:
    """Does one of the verbs and prints its answer."""
    if task == "show_batch":
        print(show_batch(data))
    elif task == "summary":
        print(summary(module.model, data))
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
        trials = plan.plan(module, len(data.vocabulary), batch_sizes(config.data.batch_size), device(config.trainer))
        print(plan.table(trials))
        print(f"\n{plan.advice(trials, config.data.batch_size, device(config.trainer))}")
    elif task == "evaluate":
        from lm.checkpoint import load_model

        loaded = load_model(config.ckpt)
        if loaded.vocabulary.entries != data.vocabulary.entries:
            raise UserError(
                f"{config.ckpt}: it has another vocabulary than the data; choose the data it was trained on"
            )
        for name, value in evaluate(loaded.model, data.valid).items():
            print(f"valid/{name:<10}  {value:,}" if isinstance(value, int) else f"valid/{name:<10}  {value:.4f}")
