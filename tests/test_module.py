"""Training on windows: the state that is carried, and metrics that are what they say."""

import math
import signal
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from helpers.fits import Numbers, fit, text
from pytorch_lightning import Trainer
from torch import nn

import lm.language
from lm.language.learner import LanguageModel, NextToken
from unroll import IndependentWindows, LastCheckpoint, MeanSquaredError, Stream, UserError, Window, WindowLearner
from unroll.state import forget, keep_rows
from unroll.training.callbacks import Progress


class StopAt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step == self.step


class SaveAt(pl.Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [3, 17])
def test_a_checkpoint_that_lightning_takes_in_mid_epoch_resumes_stream_and_state(tmp_path, step):
    def stream():
        return Stream(text(500), 4, 10, jitter=True)

    whole, record = fit(train=stream(), callbacks=[SaveAt(step, tmp_path / "some.ckpt")])
    resumed, rest = fit(train=stream(), ckpt_path=tmp_path / "some.ckpt")
    assert rest.losses == record.losses[step:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


class TestState:
    def test_it_is_reset_when_a_pass_starts_and_carried_within(self):
        _, record = fit()
        per_epoch = len(record.states) // 2
        for step, state in enumerate(record.states):
            assert (state is None) == (step % per_epoch == 0)

    def test_the_carried_state_is_the_one_of_reading_the_row_from_its_start(self):
        stream = Stream(text(503), 4, 10)
        module, _ = fit(train=stream, epochs=1)
        module.eval()
        module.start("train")
        for window in stream:
            module.step("train", window)
        # The last row has ended before; the others have read all of theirs.
        rows = stream.layout.sequence[: 3 * stream.layout.row_length].view(3, -1)
        _, whole = module.model(rows)
        torch.testing.assert_close(module.states["train"], whole, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("model", ["GRU", "Stateful"])
    def test_validation_in_the_middle_of_an_epoch_changes_no_training_loss(self, model):
        _, often = fit(model, val_check_interval=0.5)
        _, once = fit(model, val_check_interval=1.0)
        _, never = fit(model, limit_val_batches=0)
        assert often.losses == once.losses == never.losses


@pytest.mark.parametrize("split", ["train", "valid"])
def test_no_state_goes_from_one_independent_window_into_the_next(split):
    given = []
    module = LanguageModel(lm.language.CharGRU(vocab_size=9))
    features = module.model.features
    module.model.features = lambda tokens, state: given.append(state) or features(tokens, state)
    module.start(split)
    windows = list(IndependentWindows(text(200), 4, 8, shuffle=True))
    losses = [module.step(split, window).loss for window in windows]
    assert given == [None] * len(windows)
    alone, _ = module.model(windows[-1].inputs, None)
    torch.testing.assert_close(losses[-1], F.cross_entropy(alone.flatten(0, 1), windows[-1].targets.flatten()))


class TestForgetting:
    def test_the_share_of_rows_is_drawn_anew_and_only_theirs_are_zeros(self):
        torch.manual_seed(0)
        state = torch.ones(2, 1000, 3), torch.ones(2, 1000, 3)
        hidden, cell = forget(state, 0.1)
        rows = hidden[0, :, 0] == 0
        assert 70 < rows.sum() < 130
        assert torch.equal(hidden, (~rows).float()[None, :, None].expand(2, -1, 3))
        assert torch.equal(hidden, cell)
        assert not torch.equal(forget(state, 0.1)[0], hidden)

    def test_it_is_for_training_windows_alone(self):
        states = []
        module = LanguageModel(lm.language.GRU(vocab_size=9), forget=0.999)
        features = module.model.features
        module.model.features = lambda tokens, state: states.append(state) or features(tokens, state)
        for split, zeros in (("train", True), ("valid", False)):
            states.clear()
            module.start(split)
            for window in Stream(text(61), 4, 5):
                module.step(split, window)
            assert states[0] is None
            assert len(states) > 2
            assert all(zeros != bool(state.any()) for state in states[1:])

    def test_nothing_is_drawn_where_nothing_is_forgotten(self):
        before = torch.get_rng_state()
        forget(torch.ones(1, 4, 2), 0)
        assert torch.equal(torch.get_rng_state(), before)


def test_smoothed_labels_are_minimised_and_in_no_metric():
    module = LanguageModel(lm.language.GRU(vocab_size=9).eval(), objective=NextToken(label_smoothing=0.1))
    window = Window(text(12).view(4, 3), text(12, 1).view(4, 3), torch.ones(4, dtype=torch.bool))
    for split in ("train", "valid"):
        module.start(split)
        step = module.step(split, window)
        log_p = module.model.head(step.features).flatten(0, 1).log_softmax(-1)
        plain = -log_p.gather(1, window.targets.flatten()[:, None]).mean()
        torch.testing.assert_close(step.loss, plain)
        assert module.passes[split].means()["loss"] == pytest.approx(plain.item(), rel=1e-6)
        torch.testing.assert_close(step.minimised, 0.9 * plain - 0.1 * log_p.mean())


def test_gradients_are_clipped_in_mixed_precision_with_a_fused_optimizer():
    torch.manual_seed(0)
    module = LanguageModel(lm.language.GRU(vocab_size=9), optimizer=partial(torch.optim.AdamW, lr=1e-3, fused=True))
    norms = []
    module.on_before_zero_grad = lambda optimizer: norms.append(
        [parameter.grad.norm() for parameter in module.parameters() if parameter.grad is not None]
    )
    pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, precision="bf16-mixed", gradient_clip_val=1e-3,
    ).fit(module, Stream(text(61), 4, 5))  # fmt: skip
    totals = [torch.stack(norm).norm().item() for norm in norms if norm]
    assert totals == pytest.approx([1e-3] * len(totals), rel=1e-2)
    assert len(totals) >= 2


class TestMetrics:
    def test_validation_is_per_token_however_the_windows_lie(self):
        ragged = Stream(text(301, 1), 7, 16)
        assert len({inputs.numel() for inputs, *_ in ragged}) > 1
        module, _ = fit(valid=ragged)
        model = module.model.eval()

        loss = correct = 0.0
        state = None
        with torch.no_grad():
            for inputs, targets, *_ in ragged:
                logits, state = model(inputs, keep_rows(state, len(inputs)))
                loss += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
                correct += (logits.argmax(-1) == targets).sum().item()
        metrics = module.trainer.callback_metrics
        assert metrics["valid/loss"].item() == pytest.approx(loss / 300, rel=1e-6)
        assert metrics["valid/accuracy"].item() == pytest.approx(correct / 300, rel=1e-6)
        assert metrics["valid/perplexity"].item() == pytest.approx(math.exp(loss / 300), rel=1e-5)

    def test_training_loss_is_per_token_over_the_last_epoch(self):
        stream = Stream(text(301), 7, 16)
        module, record = fit(train=stream, epochs=2)
        last = record.losses[len(stream) :]
        sizes = [inputs.numel() for inputs, *_ in stream]
        mean = sum(loss * size for loss, size in zip(last, sizes, strict=True)) / sum(sizes)
        assert module.trainer.callback_metrics["train/loss"].item() == pytest.approx(mean, rel=1e-6)

    def test_a_model_of_the_last_word_is_compared_with_the_last_target(self):
        module = LanguageModel(lm.language.Loop(vocab_size=9).eval())
        module.start("valid")
        window = Window(text(12).view(4, 3), text(12, 1).view(4, 3), torch.ones(4, dtype=torch.bool))
        loss = module.step("valid", window).loss
        expected = F.cross_entropy(module.model(window.inputs)[0][:, 0], window.targets[:, -1])
        torch.testing.assert_close(loss, expected)
        assert module.passes["valid"].targets == 4

    def test_masked_steps_count_in_no_metric(self):
        module = LanguageModel(lm.language.GRU(vocab_size=9).eval())
        starts = torch.ones(4, dtype=torch.bool)
        mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [False, False, False]])
        window = Window(text(12).view(4, 3), text(12, 1).view(4, 3), starts, mask)
        module.start("valid")
        loss = module.step("valid", window).loss
        logits, _ = module.model(window.inputs)
        counted = [(row, step) for row in range(4) for step in range(3) if mask[row, step]]
        losses = [F.cross_entropy(logits[row, step], window.targets[row, step]) for row, step in counted]
        torch.testing.assert_close(loss, torch.stack(losses).mean())
        assert module.passes["valid"].targets == 6


class TestOneCycle:
    def test_the_lessons_course_of_learning_rate_and_momentum(self):
        _, record = fit(epochs=10)
        steps, peak = len(record.rates), max(record.rates)
        assert record.rates[0] == pytest.approx(1e-2 / 25)
        assert peak == pytest.approx(1e-2, rel=1e-2)
        assert record.rates[-1] == pytest.approx(1e-2 / 25e4, rel=1e-2)
        assert record.rates.index(peak) == pytest.approx(0.3 * steps, abs=1)
        assert (record.momenta[0], min(record.momenta), record.momenta[-1]) == pytest.approx(
            (0.95, 0.85, 0.95), rel=1e-2
        )
        halfway_up = record.rates[round(0.15 * steps)]
        assert halfway_up == pytest.approx((1e-2 + 1e-2 / 25) / 2, rel=0.1)  # cosine: halfway at half time

    @pytest.mark.parametrize(
        ("epochs", "trainer"),
        [
            (3, {"accumulate_grad_batches": 3}),
            (3, {"limit_train_batches": 5}),
            (3, {"limit_train_batches": 0.5}),
            (3, {"max_steps": 7}),
            (1, {"max_steps": 1000}),
            (None, {"max_steps": 17}),  # Lightning sets max_epochs to -1
            (-1, {"max_steps": 17, "accumulate_grad_batches": 3}),
        ],
    )
    def test_it_lasts_as_long_as_training(self, epochs, trainer):
        module, _ = fit(epochs=epochs, **trainer)
        assert module.lr_schedulers().total_steps == module.trainer.global_step

    def test_without_any_limit_it_says_that_it_needs_one(self):
        with pytest.raises(UserError, match=r"trainer\.max_epochs or trainer\.max_steps") as caught:
            fit(epochs=-1, max_time="00:00:00:09")
        assert "\n" not in str(caught.value)

    def test_without_a_schedule_no_limit_is_needed(self):
        module, _ = fit(epochs=-1, schedule=None, callbacks=[StopAt(17)])
        assert module.trainer.global_step == 17


def test_an_epoch_without_validation_shows_no_metric_of_an_earlier_one(capsys):
    fit(epochs=3, check_val_every_n_epoch=2, callbacks=[Progress()])
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[2:4] == ["–", "–"] for row in rows] == [True, False, True]


def test_an_epoch_that_is_gone_on_with_has_its_row(tmp_path, capsys):
    kept = {"schedule": None, "enable_checkpointing": True}
    fit(max_steps=5, callbacks=[LastCheckpoint(tmp_path)], **kept)
    module, _ = fit(callbacks=[Progress(), LastCheckpoint(tmp_path)], ckpt_path=tmp_path / "last.ckpt", **kept)
    assert module.trainer.num_training_batches > 5
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()] == ["epoch", "1", "2"]


def test_a_signal_in_the_sanity_check_is_as_before_the_fit(tmp_path):
    """There is nothing to save yet; Lightning's handler would end the program with the status of success."""
    numbers = signal.SIGINT, signal.SIGTERM
    before, during = [signal.getsignal(number) for number in numbers], []

    class Look(pl.Callback):
        def on_validation_start(self, trainer, module):
            if trainer.sanity_checking:
                during.extend(signal.getsignal(number) for number in numbers)

    fit(callbacks=[Look(), LastCheckpoint(tmp_path)], enable_checkpointing=True, num_sanity_val_steps=1)
    assert before == during == [signal.getsignal(number) for number in numbers]


def test_layer_groups_reach_the_optimizer_and_the_schedule():
    torch.manual_seed(0)
    module, _ = fit(groups={"embed": {"lr": 1e-4, "weight_decay": 0.0}})
    rest, embed = module.trainer.optimizers[0].param_groups
    assert (rest["max_lr"], embed["max_lr"]) == (1e-2, 1e-4)
    assert (rest["weight_decay"], embed["weight_decay"]) == (0.01, 0.0)


def test_jitter_differs_from_epoch_to_epoch():
    stream = Stream(text(2000), 4, 20, jitter=True)
    _, record = fit(train=stream)
    per_epoch = len(stream)
    assert record.windows[:per_epoch] != record.windows[per_epoch:]


def test_metrics_over_documents_are_those_of_each_read_by_itself():
    torch.manual_seed(0)
    documents = list(torch.randn(300, 1).split([90, 7, 33, 120, 2, 48]))
    module = WindowLearner(Numbers(), MeanSquaredError(), optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0))
    warm_up = 25  # some windows are masked whole
    trainer = Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(module, *(Stream(documents, 4, 8, warm_up=warm_up) for _ in range(2)))
    with torch.no_grad():
        pairs = [(module.model(one[None, :-1])[0][0, warm_up:], one[1 + warm_up :]) for one in documents]
    outputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    metrics = trainer.callback_metrics
    for loss in ("train/loss", "valid/loss"):
        assert metrics[loss].item() == pytest.approx(nn.functional.mse_loss(outputs, targets).item(), rel=1e-5)
    assert metrics["valid/mae"].item() == pytest.approx(nn.functional.l1_loss(outputs, targets).item(), rel=1e-5)
    assert module.passes["valid"].targets == len(targets)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
