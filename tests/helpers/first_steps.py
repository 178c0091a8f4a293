"""The first steps of every recipe that asks for `trainer.precision=auto`, in this process; prints what came of each."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from helpers.configuration import CONFIG_DIR, composed
from helpers.samples import reviews, some_text
from unroll import CarriesState, Stream, Window, fitting_precision
from unroll.cli import build
from unroll.precision import cpu_has_bfloat16

RECIPES = [
    file for file in sorted(CONFIG_DIR.rglob("*.yaml")) if "precision: auto  # bf16-mixed, " in file.read_text("utf-8")
]


def command_line(file: Path, folder: Path) -> list[str]:
    """The command line of a recipe, with small data of the kind that it is for, and fewer units."""
    small = ["model.hidden_size=16", "data.batch_size=8"]
    if file.parent.name == "experiment":
        sizes = [] if "blocks" in file.read_text("utf-8") else ["model.embedding_size=16", "model.last_size=null"]
        return [*small, *sizes, f"experiment={file.stem}", "data=text", f"data.train={folder / 'text.txt'}"]
    recipe = [f"model={file.stem}", f"recipe={file.parent.name}/{file.stem}"]
    if file.parent.name == "movie_reviews":
        return [*small, *recipe, "data=documents", f"data.train={folder / 'reviews.jsonl'}"]
    return [
        *recipe,
        "model.widths=[8,8,8]",
        "data=shapes",
        "data.train_images=64",
        "data.valid_images=16",
        "data.batch_size=16",
    ]


def outcome(fit: Callable[..., dict[str, Any]], *arguments: Any) -> Any:
    """What a fit returns, or the error that it raises."""
    try:
        return fit(*arguments)
    except Exception as error:
        return repr(error)


def first_steps(file: Path, folder: Path, precision: str) -> dict[str, Any]:
    typed = f"trainer.precision={precision}"
    config = composed(*command_line(file, folder), f"run_dir={folder}", *([] if precision == "auto" else [typed]))
    torch.manual_seed(0)
    data = build.data(config)
    learner = build.learner(config, data)
    quiet = {"logger": False, "callbacks": [], "enable_checkpointing": False}
    trainer = build.trainer(config, max_steps=2, limit_val_batches=1, check_val_every_n_epoch=1, **quiet)
    trainer.fit(learner, datamodule=data)
    return {"precision": trainer.precision, "loss": float(trainer.callback_metrics["train/loss"])}


class Forecaster(CarriesState, pl.LightningModule):
    """A library user's module, with PyTorch's own LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 8, 2, batch_first=True), nn.Linear(8, 1)

    def training_step(self, window: Window, index: int) -> Tensor:
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        loss = nn.functional.mse_loss(self.head(outputs), window.targets)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


def of_a_library_user(precision: str) -> dict[str, Any]:
    trainer = pl.Trainer(max_steps=2, precision=precision, logger=False, enable_checkpointing=False)
    trainer.fit(Forecaster(), Stream(torch.arange(400.0).mul(0.1).sin().unsqueeze(1), 4, 10))
    return {"precision": trainer.precision, "loss": float(trainer.callback_metrics["train/loss"])}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    (folder / "text.txt").write_text(some_text(16_000))
    documents = [{"text": text, "label": label} for text, label in reviews(160)]
    (folder / "reviews.jsonl").write_text("\n".join(map(json.dumps, documents)))
    found: dict[str, Any] = {"cpu_has_bfloat16": cpu_has_bfloat16()}
    for recipe in RECIPES:
        name = str(recipe.relative_to(CONFIG_DIR).with_suffix(""))
        for precision in ("auto", "bf16-mixed"):
            found[f"{name} {precision}"] = outcome(first_steps, recipe, folder, precision)
    found["library auto"] = outcome(of_a_library_user, fitting_precision())
    found["library bf16-mixed"] = outcome(of_a_library_user, "bf16-mixed")
    print(json.dumps(found))
