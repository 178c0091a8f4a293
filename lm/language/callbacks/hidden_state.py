"""The hidden state of a recurrent model, in TensorBoard and as a plot."""

from pathlib import Path
from typing import Any

from unroll.lightning import pl
from unroll.state import hidden_units
from unroll.training.callbacks.tensorboard import save_plot, writers
from unroll.training.learner import WindowLearner

BINS = 64  # TensorBoard's default of 1,549 takes some milliseconds
SATURATED = 0.95  # of what a unit of a tanh, a GRU or an LSTM can reach, which is 1


class HiddenState(pl.Callback):
    """After each epoch histograms of the hidden state and the share of saturated units; at the end `activations.png`.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, WindowLearner)
        state = pl_module.states.get("train")
        if state is None:
            return
        hidden = hidden_units(state).float()
        for writer in writers(trainer):
            for number, layer in enumerate(hidden):
                writer.add_histogram(f"hidden_state/layer_{number}", layer, trainer.global_step, bins=BINS)
            if hidden.abs().max() <= 1:  # a ReLU has no such bound
                share = (hidden.abs() > SATURATED).float().mean()
                writer.add_scalar("saturation", share, trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from lm.language import plots

        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, WindowLearner)
        model = pl_module.model.eval()
        tokens = data.start_of_validation(plots.TOKENS)
        states = plots.read_states(model, tokens.to(next(model.parameters()).device), data.bptt)
        if states is not None:
            texts = [data.vocabulary.textify([index]) for index in tokens.tolist()]
            pixels = plots.activations(states, texts, data.vocabulary.tokenizer.name)
            save_plot(trainer, self.folder, "activations", pixels)
