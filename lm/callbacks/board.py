"""What TensorBoard shows beside the logged figures, and the pictures that a run leaves."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn
from torch.utils.tensorboard.summary import hparams

from lm.callbacks.result import latest_metrics
from lm.data.module import TextData
from lm.data.vocabulary import Vocabulary
from lm.loggers import MetricsFile
from lm.module import LanguageModel
from lm.state import output

BINS = 64  # TensorBoard's own 1,549 take some milliseconds
SATURATED = 0.95  # of what a unit of a tanh, a GRU or an LSTM can reach, which is 1


class Board(pl.Callback):
    """Speed while training; the hidden state after each epoch; settings, embedding and pictures at the end.

    The pictures are `curves.png` and `activations.png`. Nothing here is in `metrics.csv`, which is the same
    for the same run.

    Args:
        folder: the run's directory.
        settings: the parts of the configuration that the HParams tab is to show.
    """

    def __init__(self, folder: str, settings: DictConfig) -> None:
        self.folder = Path(folder)
        self.settings = flat(OmegaConf.to_container(settings, resolve=True))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        self.writers = [board.experiment for board in boards if trainer.is_global_zero]
        self._start_clock()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock()

    def _start_clock(self) -> None:
        self.started, self.tokens = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.tokens += batch[0].numel() * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            speed = self.tokens / (time.perf_counter() - self.started)
            for writer in self.writers:
                writer.add_scalar("tokens_per_second", speed, trainer.global_step)
            self._start_clock()

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

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, LanguageModel)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TextData)
        for writer in self.writers:
            for summary in hparams(self.settings, latest_metrics(trainer)):
                writer.file_writer.add_summary(summary)
            write_projector(Path(writer.log_dir), pl_module.model, data.vocabulary)
        self._draw(trainer, pl_module.model, data)

    def _draw(self, trainer: pl.Trainer, model: nn.Module, data: TextData) -> None:
        from PIL import Image

        from lm import pictures  # matplotlib takes a while

        drawn = {}
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                drawn["curves"] = pictures.curves(logger.read())
        stretch = data.start_of_validation(pictures.TOKENS)
        states = pictures.read_states(model.eval(), stretch.to(next(model.parameters()).device), data.bptt)
        if states is not None:
            words = [data.vocabulary.textify([index]) for index in stretch.tolist()]
            drawn["activations"] = pictures.activations(states, words, data.vocabulary.tokenizer.name)
        for name, pixels in drawn.items():
            Image.fromarray(pixels).save(self.folder / f"{name}.png", compress_level=1)
            for writer in self.writers:
                writer.add_image(name, pixels, trainer.global_step, dataformats="HWC")


def flat(settings: Any, prefix: str = "") -> dict[str, bool | str | float]:
    """Nested settings as `{"data.bptt": 20, …}`; the HParams tab knows numbers, words and yes or no."""
    if isinstance(settings, Mapping):
        parts = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in settings.items())
        return {key: value for part in parts for key, value in part.items()}
    if prefix.endswith("._target_"):
        return {prefix.removesuffix("._target_"): str(settings).rpartition(".")[2]}
    if prefix.endswith("._partial_") or settings is None:
        return {}
    return {prefix: settings if isinstance(settings, (bool, int, float)) else str(settings)}


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
