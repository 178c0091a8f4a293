"""What a run of a forecaster shows and keeps, beside what every run does."""

from pathlib import Path

import torch

from series.covariates import with_known
from series.data import SeriesFiles
from series.distributions import Outlook
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import save_plot
from unroll.training.learner import Learner

READ, SHOWN = 2000, 300  # steps
BAND = (0.1, 0.9)


class ForecastPlot(pl.Callback):
    """`forecast.png`: forecasts beside the truth, on the last steps of the validation split.

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
        model, span = pl_module.model, data.longest_of_validation()
        values = span.values[-READ:]
        was_training = model.training
        inputs = with_known(values, data.known_at, data.horizon)[None].to(pl_module.device)
        outputs = model.eval()(inputs)[0][0].cpu()  # [steps, targets, horizon, …]
        model.train(was_training)
        outlook = model.outlook
        assert isinstance(outlook, Outlook)
        origins = range(
            len(values) - 1 - data.horizon, max(0, len(values) - 1 - max(SHOWN, 2 * data.horizon)), -data.horizon
        )
        parts = [outlook.point(outputs)[list(origins)]]
        if outlook.spread:
            parts += [outlook.quantile(outputs, torch.tensor(level))[list(origins)] for level in BAND]
        made = [span.scale.in_units(part.transpose(1, 2), data.at).numpy() for part in parts]
        truth = span.scale.in_units(values[:, data.at], data.at).numpy()
        save_plot(trainer, self.folder, "forecast", forecasts(truth, list(origins), made, data.targets, data.horizon))
