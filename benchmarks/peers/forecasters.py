"""A recurrent forecaster of darts or neuralforecast, trained for a time: writes its forecasts as CSV.

    python forecasters.py JOB

JOB is JSON: `model` (a name of `MODELS`), `train`, a file of numbers to train on with a row for each step of a series
(`series,step,value`), `whole`, a file that goes on, `origins`, the steps of it to forecast from (the numbers before
them are known), or null: the end of each series; `horizon`, `context`, `seed`, `seconds` (of processor time) and `out`,
the file to write (`series,origin,step,value`). Prints `fit STEPS SECONDS`. It runs in an environment that has both
libraries, and not this project.

What isn't named is the library's default; the steps that the library makes by default are the most that are made. No
part is set aside for validation: nothing is chosen by it, and to validate takes most of neuralforecast's time.
"""

import json
import logging
import sys
import time
import warnings

import numpy
import pandas
import pytorch_lightning as pl
import torch

UNITS = 128  # as ours


class Until(pl.Callback):
    """Stops training after so many seconds of processor time."""

    def __init__(self, seconds):
        self.seconds, self.ended = seconds, 0.0

    def on_train_start(self, trainer, module):
        self.started = time.process_time()

    def on_train_batch_end(self, trainer, module, *_):
        if time.process_time() - self.started > self.seconds:
            trainer.should_stop = True

    def on_train_end(self, trainer, module):
        self.ended, self.steps = time.process_time() - self.started, trainer.global_step

    def __deepcopy__(self, memo):
        return self  # darts copies models; what is measured stays one


def darts(job, train, whole, until):
    """Each series by itself, scaled by its mean and deviation, forecast by one model of all."""
    from darts import TimeSeries
    from darts.models import BlockRNNModel, RNNModel

    horizon, context = job["horizon"], job["context"]
    cell = {"n_epochs": 100, "hidden_dim": UNITS, "random_state": job["seed"]}
    settings = {"accelerator": "cpu", "callbacks": [until], "enable_progress_bar": False}
    cell |= {"model": "GRU", "input_chunk_length": context, "pl_trainer_kwargs": settings}
    if job["model"] == "BlockRNNModel":
        model = BlockRNNModel(output_chunk_length=horizon, **cell)
    else:
        model = RNNModel(training_length=context + horizon, **cell)

    def scaled(values, name):
        mean, std = scales[name]
        return TimeSeries.from_values(((values - mean) / std).astype("float32"))

    scales = {name: (values.mean(), values.std() or 1.0) for name, values in train.items()}
    least = context + horizon
    model.fit([scaled(values, name) for name, values in train.items() if len(values) > least])
    asked = [(name, origin) for name in whole for origin in job["origins"] or [len(whole[name])]]
    asked = [(name, origin) for name, origin in asked if origin >= context]
    before = [scaled(whole[name][origin - context : origin], name) for name, origin in asked]
    made = model.predict(horizon, series=before, batch_size=256, verbose=False)
    for (name, origin), forecast in zip(asked, made, strict=True):
        mean, std = scales[name]
        yield name, origin, forecast.values()[:, 0] * std + mean


def neuralforecast(job, train, whole, until):
    """All series by one model; of a file with origins, by its own cross-validation."""
    from neuralforecast import NeuralForecast
    from neuralforecast.models import LSTM, DeepAR

    horizon = job["horizon"]
    units = {"encoder_hidden_size": UNITS} if job["model"] == "LSTM" else {"lstm_hidden_size": UNITS}
    settings = {"accelerator": "cpu", "callbacks": [until], "enable_progress_bar": False, "logger": False}
    kind = {"LSTM": LSTM, "DeepAR": DeepAR}[job["model"]]
    model = kind(h=horizon, input_size=job["context"], random_seed=job["seed"], **units, **settings)
    forecaster = NeuralForecast(models=[model], freq=1, local_scaler_type="standard")
    if job["origins"]:
        first, every = job["origins"][0], job["origins"][1] - job["origins"][0]
        of_test = len(next(iter(whole.values()))) - first
        made = forecaster.cross_validation(table(whole), test_size=of_test, n_windows=None, step_size=every)
        for (name, cutoff), rows in made.groupby(["unique_id", "cutoff"]):
            yield name, int(cutoff) + 1, rows[job["model"]].to_numpy()
    else:
        forecaster.fit(table(train))
        for name, rows in forecaster.predict().groupby("unique_id"):
            yield name, len(train[name]), rows[job["model"]].to_numpy()


def table(series):
    parts = [
        pandas.DataFrame({"unique_id": name, "ds": numpy.arange(len(values)), "y": values.astype("float32")})
        for name, values in series.items()
    ]
    return pandas.concat(parts, ignore_index=True)


MODELS = {"RNNModel": darts, "BlockRNNModel": darts, "LSTM": neuralforecast, "DeepAR": neuralforecast}


def main():
    job = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # else the gradients of the LSTM, which fade, take twenty times as long
    files = [pandas.read_csv(job[part], dtype={"series": str}) for part in ("train", "whole")]
    train, whole = ({name: rows["value"].to_numpy() for name, rows in file.groupby("series")} for file in files)
    until = Until(job["seconds"])
    with open(job["out"], "w") as out:
        print("series,origin,step,value", file=out)
        for name, origin, values in MODELS[job["model"]](job, train, whole, until):
            for step, value in enumerate(values):
                print(f"{name},{origin},{step},{value}", file=out)
    print(f"fit {until.steps} {until.ended}")


if __name__ == "__main__":
    main()
