"""What a run of a forecaster shows and keeps, beside what every run does."""

from pathlib import Path

import torch

from series.data import SeriesFiles
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import save_plot
from unroll.training.learner import Learner

READ, SHOWN = 2000, 200  # steps


class ForecastPlot(pl.Callback):
    """`forecast.png`: forecasts beside the truth and the naive forecast, on steps of the validation split.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @torch.no_grad()
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from series.plots import forecasts

        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SeriesFiles)
        assert isinstance(pl_module, Learner)
        inputs, targets = data.first_of_validation(READ)
        model = pl_module.model
        was_training = model.training
        outputs, _ = model.eval()(inputs[None].to(pl_module.device))
        model.train(was_training)
        shown = torch.cat([outputs[0, :, :, None].cpu(), targets], -1)[-SHOWN:]
        mean, std = (torch.tensor(values)[:, None] for values in data.statistics_of(data.targets))
        pixels = forecasts((shown * std + mean).double().numpy(), data.targets, data.horizon)
        save_plot(trainer, self.folder, "forecast", pixels)
