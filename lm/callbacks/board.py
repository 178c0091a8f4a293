"""What a run of a recurrent model shows in TensorBoard besides: its state, and its embedding."""

from pathlib import Path

import numpy
import pytorch_lightning as pl
from torch import nn

from lm.data.module import TextData
from lm.data.vocabulary import Vocabulary
from lm.module import LanguageModel
from lm.state import output
from training import callbacks
from training.module import SupervisedModule

BINS = 64  # TensorBoard's own 1,549 take some milliseconds
SATURATED = 0.95  # of what a unit of a tanh, a GRU or an LSTM can reach, which is 1


class Board(callbacks.Board):
    """The hidden state after each epoch; the embedding, and `activations.png`, at the end."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        state = pl_module.states["train"]
        if state is None:
            return
        hidden = output(state).float()
        for writer in self.writers:
            for number, layer in enumerate(hidden):
                writer.add_histogram(f"hidden_state/layer_{number}", layer, trainer.global_step, bins=BINS)
            if hidden.abs().max() <= 1:  # a ReLU has no such bound
                share = (hidden.abs() > SATURATED).float().mean()
                writer.add_scalar("saturation", share, trainer.global_step)

    def pictures(self, trainer: pl.Trainer, module: SupervisedModule) -> dict[str, numpy.ndarray]:
        from lm import pictures

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TextData)
        model = module.model.eval()
        for writer in self.writers:
            write_projector(Path(writer.log_dir), model, data.vocabulary)
        stretch = data.start_of_validation(pictures.TOKENS)
        states = pictures.read_states(model, stretch.to(next(model.parameters()).device), data.bptt)
        if states is None:
            return {}
        words = [data.vocabulary.textify([index]) for index in stretch.tolist()]
        return {"activations": pictures.activations(states, words, data.vocabulary.tokenizer.name)}


def write_projector(folder: Path, model: nn.Module, vocabulary: Vocabulary) -> None:
    """The embedding and its tokens where TensorBoard's projector looks for them."""
    embedding = next((layer for layer in model.modules() if isinstance(layer, nn.Embedding)), None)
    if embedding is None:
        return
    vectors = folder / "projector"
    vectors.mkdir(exist_ok=True)
    rows = ("\t".join(f"{value:.6g}" for value in row) for row in embedding.weight.tolist())
    (vectors / "embedding.tsv").write_text("\n".join(rows) + "\n")
    names = (token if token.strip() else repr(token) for token in vocabulary.entries)
    (vectors / "tokens.tsv").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "embedding"\n  tensor_path: "projector/embedding.tsv"\n'
        '  metadata_path: "projector/tokens.tsv"\n}\n'
    )
