"""How the numbers of a series are read: standardised, or their logarithms, and what becomes of forecasts and errors."""

import math

import hypothesis
import numpy
import polars
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import strategies

from series.backtest import Backtest
from series.checkpoint import TrainedForecaster
from series.data import SeriesFiles
from series.files import Series, read_series
from series.forecast import forecast
from series.learner import ForecastLearner
from series.model import Forecaster
from series.scale import Scale, changes_with_level
from unroll.errors import UserError

STEPS = 300
WALK = numpy.random.default_rng(0).normal(size=STEPS).cumsum()
SEASON = numpy.sin(numpy.arange(STEPS) * 2 * math.pi / 12)
GROWING = numpy.exp(0.1 * WALK + SEASON)  # moves in proportion to its level
EVEN = 100 + WALK + 5 * SEASON


def read(tmp_path, table, **settings):
    polars.DataFrame(table).write_csv(tmp_path / "a.csv")
    return SeriesFiles(train=str(tmp_path / "a.csv"), **{"bptt": 20, "season": 12, "horizon": 4} | settings)


def forecaster(data, **settings):
    torch.manual_seed(0)
    model = Forecaster(**data.model_arguments(), **{"hidden_size": 8} | settings).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


def trained(data, model):
    return TrainedForecaster.of(model, {"data": data.description(), "model": {"arguments": data.model_arguments()}})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(GROWING, True, id="growing"),
        pytest.param(1e-9 * GROWING, True, id="small"),
        pytest.param(EVEN, False, id="even"),
        pytest.param(GROWING - GROWING.min(), False, id="zero"),
        pytest.param(GROWING - 2, False, id="negative"),
        pytest.param(numpy.full(STEPS, 7.0), False, id="constant"),
        pytest.param(GROWING[:12], False, id="short"),
        pytest.param(numpy.where(numpy.arange(STEPS) % 7, GROWING, numpy.nan), True, id="missing"),
        pytest.param(numpy.full(STEPS, numpy.nan), False, id="nothing"),
    ],
)
def test_logarithms_are_read_of_what_moves_in_proportion_to_its_level(values, expected):
    assert changes_with_level(values, 12) is expected


def test_each_target_of_each_series_is_read_as_it_moves(tmp_path):
    columns = {"name": ["a"] * STEPS + ["b"] * STEPS, "x": [*GROWING, *EVEN], "y": [*EVEN, *EVEN], "z": [*GROWING] * 2}
    data = read(tmp_path, columns, series="name", targets=["x", "y"], columns=["x", "y", "z"])
    assert [data.scales[name].log for name in ("a", "b")] == [[True, False, False], [False, False, False]]
    assert "reads logarithms of x in 1 of 2 series" in data.summary()
    span = data.valid_spans[0]
    numpy.testing.assert_allclose(span.scale.in_units(span.values)[:, 0], GROWING, rtol=1e-5)
    assert "logarithms" not in read(tmp_path, columns, series="name", targets=["x"], log=False).summary()
    assert read(tmp_path, columns, series="name", targets=["x"], log=True).summary().endswith("reads logarithms of x")
    # The mean of logarithms is not that of numbers.
    assert "logarithms" not in read(tmp_path, columns, series="name", targets=["x"], objective="mse").summary()


@hypothesis.settings(max_examples=8)
@hypothesis.given(factor=strategies.floats(1e-6, 1e6), steps=strategies.sampled_from([3, 9]))
def test_forecasts_of_a_series_that_is_multiplied_are_multiplied_and_positive(tmp_path_factory, factor, steps):
    data = read(tmp_path_factory.mktemp("a"), {"x": GROWING}, log=True)
    model, found = trained(data, forecaster(data, objective="normal")), []
    for values in (GROWING, factor * GROWING):
        torch.manual_seed(2)
        found.append(forecast(model, Series("new", values[:, None]), steps, [0.01, 0.99]).numpy())
    assert (found[0] > 0).all()
    numpy.testing.assert_allclose(found[1], factor * found[0], rtol=2e-3)


def test_errors_are_in_deviations_of_the_numbers_themselves(tmp_path):
    data = read(tmp_path, {"x": GROWING}, log=True, context=12)
    learner = ForecastLearner(forecaster(data, objective="quantiles"))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    pl.Trainer(**quiet).validate(learner, datamodule=data, verbose=False)
    metrics = learner.total("valid")
    model, deviation = trained(data, learner.model), GROWING[: 300 - 60].std()
    apart, naive = [], []
    for origin in range(239, 296):
        truth = GROWING[origin + 1 : origin + 5]
        apart.append(forecast(model, Series("", GROWING[: origin + 1, None]), 4)[:, 0, 0].numpy() - truth)
        naive.append(GROWING[origin] - truth)
    assert metrics["mse"] == pytest.approx(numpy.square(apart).mean() / deviation**2, rel=1e-3)
    assert metrics["mae"] == pytest.approx(numpy.abs(apart).mean() / deviation, rel=1e-3)
    assert metrics["naive_mse"] == pytest.approx(numpy.square(naive).mean() / deviation**2, rel=1e-3)
    tested = Backtest(str(tmp_path))(learner, data)
    assert tested["backtest/mse"] == pytest.approx(metrics["mse"], rel=1e-4)
    usual = numpy.abs(GROWING[12:240] - GROWING[:228]).mean()
    assert tested["backtest/mase"] == pytest.approx(numpy.abs(apart).mean() / usual, rel=1e-3)


def test_a_number_without_a_logarithm_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data.log=true: logarithms are read of numbers above 0; there is -"):
        read(tmp_path, {"x": WALK}, log=True).train  # noqa: B018
    with pytest.raises(UserError, match="counts are read as they are"):
        read(tmp_path, {"x": WALK}, log=True, objective="negative_binomial")
    data = read(tmp_path, {"x": GROWING})
    model = trained(data, forecaster(data))
    later = numpy.append(GROWING, 0.0)[:, None]
    with pytest.raises(UserError, match=r"had numbers above 0 alone in training; now there is 0; .*data.log=false"):
        forecast(model, Series("", later), 4)
    assert forecast(model, Series("new", later), 4).isfinite().all()  # is read as it is
    late_zero = numpy.append(GROWING, [0.0] * 9)  # in the split that validates
    assert not read(tmp_path, {"x": late_zero}).scales[""].log[0]


def test_a_scale_reads_numbers_back():
    values = numpy.stack([GROWING, EVEN, WALK], 1)
    scale = Scale.of(values, [0])
    found = torch.from_numpy(scale.standardised(values))
    numpy.testing.assert_allclose(scale.in_units(found), values, rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(scale.in_units(found[:, [2, 0]], [2, 0]), values[:, [2, 0]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("values", [[1e308, -1e308], [1e200, 2e200], [1, 1e151]])
def test_numbers_whose_squares_are_none_are_refused(tmp_path, values):
    (tmp_path / "some.csv").write_text("a,b\n" + "".join(f"{value},1.5\n" for value in values * 10))
    with pytest.raises(UserError, match=r"some\.csv, line \d: the column a has 1e\+\d+; the squares of such numbers"):
        read_series(str(tmp_path / "some.csv"))


def test_numbers_whose_squares_are_zero_are_read_as_one_number():
    values = numpy.array([[5e-324, 1e-200], [1e-323, 2e-200]] * 10)
    assert Scale.of(values).std == [1.0, 1.0]


def test_a_model_in_double_precision_reads_the_same_numbers():
    """Lightning does not convert what a plot or a backtest gives to the model."""
    model = Forecaster(2, 3, [0], context=5, hidden_size=4)
    inputs = torch.rand(1, 30, 2)
    outputs, _ = model(inputs)
    torch.testing.assert_close(model.double()(inputs)[0].float(), outputs)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("factor", [1, 1000])
def test_losses_are_in_what_the_owa_is_in(tmp_path, log, factor):
    """Half by the error of the seasonal naive forecast, half by the level, a 13th of which is as bad in M4's hours."""
    data = {
        unit: read(tmp_path, {"value": factor * GROWING}, log=log, season=12, unit=unit, valid_fraction=0.2)
        for unit in ("mase", "owa")
    }
    (usual,), (both,) = (data[unit].train_spans[0].unit for unit in ("mase", "owa"))
    values = GROWING[: data["mase"].train_spans[0].stop + 4]
    read_as = numpy.log(values) if log else values
    seasonal = numpy.abs(read_as[12:] - read_as[:-12]).mean() / read_as.std()
    level = (1 if log else values.mean()) / read_as.std()
    assert usual == pytest.approx(seasonal, rel=1e-3)
    assert both == pytest.approx(2 / (1 / seasonal + 13.03 / max(level, seasonal)), rel=1e-3)
