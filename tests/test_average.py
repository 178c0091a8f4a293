"""Averaged weights: which steps count, where they stand in, and that a run that was stopped loses none of them."""

import json

import pytest
import pytorch_lightning as pl
import torch
from helpers.fits import fit, text

from lm.language.checkpoint import TrainedLanguageModel
from unroll import Stream
from unroll.training.callbacks import Average, NonMonotonicAverage
from unroll.training.schedules import constant


class Watch(pl.Callback):
    """The weights after each step, and those that each validation saw."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps.append(weights(module))

    def on_validation_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 0:
            self.validated.append(weights(module))


def weights(module):
    return module.model.head.weight.detach().clone()


def run(average, callbacks=(), **settings):
    watch = Watch()
    module, _ = fit(callbacks=[average, watch, *callbacks], **settings)
    return module, watch


def test_the_mean_is_that_of_the_last_part_and_stands_in_for_the_weights():
    module, watch = run(Average(start=0.75), epochs=4)
    per_epoch = len(watch.steps) // 4
    mean = torch.stack(watch.steps[3 * per_epoch :]).mean(0)
    torch.testing.assert_close(watch.validated[3], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights(module), mean, atol=1e-6, rtol=0)


def test_before_the_last_part_the_weights_stand_for_themselves():
    _, watch = run(Average(start=0.75), epochs=4)
    per_epoch = len(watch.steps) // 4
    for epoch in range(3):
        assert torch.equal(watch.validated[epoch], watch.steps[(epoch + 1) * per_epoch - 1])


def test_a_moving_average_forgets():
    module, watch = run(Average(start=0.5, decay=0.9), epochs=2)
    average = watch.steps[len(watch.steps) // 2]
    for step in watch.steps[len(watch.steps) // 2 + 1 :]:
        average = 0.9 * average + 0.1 * step
    torch.testing.assert_close(weights(module), average, atol=1e-6, rtol=0)


def test_training_does_not_notice():
    plain, averaged = Watch(), Watch()
    fit(callbacks=[plain], epochs=3)
    fit(callbacks=[Average(start=0.3), averaged], epochs=3, val_check_interval=0.5)
    for without, with_it in zip(plain.steps, averaged.steps, strict=True):
        assert torch.equal(without, with_it)


@pytest.mark.slow
def test_the_checkpoint_and_the_result_are_of_the_average(train, tmp_path):
    run = train("average=mean", "trainer.limit_train_batches=12", "trainer.max_epochs=2", "hydra.run.dir=run")
    assert run.returncode == 0, run.stderr
    metrics = json.loads((tmp_path / "run/result.json").read_text())["metrics"]
    for name in ("best", "last"):
        path = tmp_path / f"run/checkpoints/{name}.ckpt"
        evaluated = train("task=evaluate", f"ckpt={path}")
        assert f"{metrics['valid/loss']:.4f}" in evaluated.stdout
        assert f"{metrics['valid/accuracy']:.4f}" in evaluated.stdout
        trained = torch.load(path, weights_only=True)["current_model_state"]["model.head.weight"]
        assert not torch.equal(TrainedLanguageModel.load(path).model.head.weight, trained)


class Worsening(pl.Callback):
    """Puts metrics in the place of the validation's."""

    def __init__(self, metrics):
        self.metrics = iter(metrics)

    def on_validation_epoch_end(self, trainer, module):
        trainer.callback_metrics["valid/loss"] = torch.tensor(next(self.metrics))


def test_a_non_monotonic_average_begins_when_validation_has_stopped_getting_better():
    # 0.7 is worse than 0.6, the best of all but the last two before it; 0.65 was not
    metrics = [0.9, 0.6, 0.5, 0.65, 0.7, 0.8]
    module, watch = run(NonMonotonicAverage(patience=2), epochs=5, callbacks=[Worsening(metrics)], schedule=constant)
    per_epoch = len(watch.steps) // 5
    for epoch in range(4):
        assert torch.equal(watch.validated[epoch], watch.steps[(epoch + 1) * per_epoch - 1])
    torch.testing.assert_close(weights(module), torch.stack(watch.steps[4 * per_epoch :]).mean(0), atol=1e-6, rtol=0)


def test_after_the_fit_the_trainer_validates_the_average():
    module, watch = run(Average(start=0.5), epochs=2)
    average = weights(module)
    assert not torch.equal(average, watch.steps[-1])
    module.trainer.validate(module, Stream(text(300, 1), 4, 10), verbose=False)
    assert torch.equal(watch.validated[-1], average)
    assert torch.equal(weights(module), average)


@pytest.mark.parametrize("average", [Average(start=0.0), NonMonotonicAverage(patience=1)], ids=["all", "triggered"])
@pytest.mark.few(1)
def test_a_second_fit_begins_its_own_average(average):
    losses = [0.5, 0.6, 0.7, 0.8]  # worse than the best but the last one from the third on
    first, _ = run(average, epochs=4, callbacks=[Worsening(losses)], schedule=constant)
    second, watch = run(average, epochs=4, callbacks=[Worsening(losses)], schedule=constant)
    assert torch.equal(weights(second), weights(first))
    assert not torch.equal(weights(second), watch.steps[-1])
