"""A checkpoint as a folder for a model hub: weights as safetensors, settings as JSON, and a card with its results.

The folder has the files of `huggingface_hub.PyTorchModelHubMixin`, and every command reads it in a checkpoint's place.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lm.export.steps import Step, load_step
from unroll.checks import is_number, is_of
from unroll.errors import UserError, require
from unroll.files import read_json, write_json
from unroll.resume.checkpoint import HUB_METADATA, HUB_WEIGHTS, metadata_of, read
from unroll.terminal import in_markdown, one_line

CARD = "README.md"
CONFIG = "config.json"  # the arguments alone: the mixin passes on all that it finds there
KINDS = {  # what a card says, the class that loads it, and the command that uses it
    "language_model": (
        "text-generation",
        "a language model",
        "lm.language.checkpoint.TrainedLanguageModel",
        "generate",
    ),
    "tagger": ("token-classification", "a tagger", "lm.tagging.checkpoint.TrainedTagger", "tag"),
    "classifier": (
        "text-classification",
        "a document classifier",
        "lm.documents.checkpoint.TrainedClassifier",
        "classify",
    ),
}


def export_to_hub(step: Step, checkpoint: Path, folder: Path, model: type[torch.nn.Module] | None = None) -> list[str]:
    """Writes the folder, and reads it again.

    Args:
        step: the checkpoint's model.
        checkpoint: the file. Metrics are those of the run around it.
        folder: where the files go; files of these names are replaced.
        model: the class, for a model of your own.

    Returns:
        What to tell the user, in lines.

    Raises:
        UserError: what is read again is not what was written, or a library is missing.
    """
    require("this", "export", "safetensors")
    from safetensors.torch import save_file

    metadata = metadata_of(read(checkpoint), checkpoint)
    weights = step.model.state_dict()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        unfinished = Path(name)
        save_file({key: tensor.clone() for key, tensor in weights.items()}, unfinished / HUB_WEIGHTS)
        for file, content in ((HUB_METADATA, metadata), (CONFIG, metadata["model"]["arguments"])):
            write_json(unfinished / file, content)
        (unfinished / CARD).write_text(card(step, read_json(checkpoint.parents[1] / "result.json")), encoding="utf-8")
        found = load_step(unfinished / HUB_WEIGHTS, model, None)
        again = found.model.state_dict()
        if found.about != step.about or not all(torch.equal(again[key], tensor) for key, tensor in weights.items()):
            raise UserError(f"{checkpoint}: is another model when it is read again; nothing was written")
        folder.mkdir(exist_ok=True)
        for path in unfinished.iterdir():
            (folder / path.name).unlink(missing_ok=True)  # a link may lead elsewhere
            shutil.move(path, folder / path.name)
    return [
        "reads as the same model",
        f"to publish it: hf upload NAME {folder}",
    ]


def card(step: Step, result: Mapping[str, Any]) -> str:
    """The page that a hub shows: what it is, how well it does, and how it is used.

    Args:
        step: the model.
        result: of its run (`result.json`); empty if there is none.
    """
    tag, what, loader, command = KINDS[step.about["kind"]]
    module, _, name = loader.rpartition(".")
    parameters = sum(parameter.numel() for parameter in step.model.parameters())
    lines = [
        *("---", "library_name: unroll", f"pipeline_tag: {tag}", "tags: [unroll, recurrent]", "---", ""),
        f"# {step.about['model']}: {what}",
        "",
        f"{parameters:,} parameters, a vocabulary of {len(step.about['vocabulary']):,}. Trained with unroll.",
        "",
    ]
    lines += lines_of(result)
    lines += [
        *("## Use", "", "From a checkout of unroll:", "", "```python", "from huggingface_hub import snapshot_download"),
        *("", f"from {module} import {name}", "", f'trained = {name}.load(snapshot_download("NAME"))', "```", ""),
        *("```", "hf download NAME --local-dir FOLDER", f"python -m lm.{command} FOLDER", "```", ""),
    ]
    return "\n".join(lines)


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """How well the run did, and what was typed; nothing if the file is not a run's."""
    metrics: Any = result.get("metrics")
    typed: Any = result.get("overrides")
    numbers = [result.get("epochs"), result.get("seed")]
    if not (is_of(metrics, dict[str, Any]) and is_of(typed, list[str]) and is_of(numbers, list[int])):
        return []
    shown = {in_markdown(name): value for name, value in metrics.items() if is_number(value)}
    words = [one_line(word) for word in typed if not {"/", "`"} & set(word)]  # a path is nobody else's business
    return [
        *("| metric | last epoch |", "|---|---|", *(f"| {name} | {value:.4f} |" for name, value in shown.items()), ""),
        f"Epochs: {numbers[0]}; seed: {numbers[1]}; losses in nats per target.",
        *(f"Typed: `python train.py {' '.join(words)}`.".replace(" `.", "`."), ""),
    ]
