"""The embedding of a language model in TensorBoard's projector."""

from pathlib import Path
from typing import Any

from torch import nn

from lm.text.vocabulary import Vocabulary
from unroll.files import write_text
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import tensorboard_writers
from unroll.training.learner import Learner


class Embedding(pl.Callback):
    """Writes the embedding and its tokens at the end of a run, for TensorBoard's projector."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, Learner)
        for writer in tensorboard_writers(trainer):
            write_projector(Path(writer.log_dir), pl_module.model, data.vocabulary)


def write_projector(folder: Path, model: nn.Module, vocabulary: Vocabulary) -> None:
    """The files that the projector looks for in a log directory."""
    embedding = next((layer for layer in model.modules() if isinstance(layer, nn.Embedding)), None)
    if embedding is None:
        return
    vectors = folder / "projector"
    vectors.mkdir(exist_ok=True)
    rows = ("\t".join(f"{value:.6g}" for value in row) for row in embedding.weight.tolist())
    write_text(vectors / "embedding.tsv", "\n".join(rows) + "\n")
    names = (token if token.strip() else repr(token) for token in vocabulary.entries)
    write_text(vectors / "tokens.tsv", "\n".join(names) + "\n")
    write_text(
        folder / "projector_config.pbtxt",
        'embeddings {\n  tensor_name: "embedding"\n  tensor_path: "projector/embedding.tsv"\n'
        '  metadata_path: "projector/tokens.tsv"\n}\n',
    )
