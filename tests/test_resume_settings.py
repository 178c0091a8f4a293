"""A fit that is resumed with other data or settings: refused where its place would be another, else said."""

from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unroll import CarriesState, IndependentWindows, LastCheckpoint, Stream, count_steps, one_cycle, sgdr
from unroll.errors import UserError
from unroll.resume.settings import compare, of_loader
from unroll.streams import WholeSequences
from unroll.streams.fingerprint import fingerprint

WAVES = (torch.arange(61.0) * 0.3).sin().unsqueeze(1)
QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Module(CarriesState, pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1)

    def training_step(self, window, index):
        outputs, state = self.rnn(window.inputs, self.state(window))
        self.carry(state)
        return nn.functional.mse_loss(self.head(outputs), window.targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def fit(folder, stream=None, steps=-1, ckpt_path=None, **settings):
    last = LastCheckpoint(str(folder))
    trainer = pl.Trainer(**QUIET | {"max_epochs": 2, "max_steps": steps} | settings, callbacks=[last])
    trainer.fit(Module(), stream or Stream(WAVES, 3, 5), ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.fixture(scope="module")
def in_the_middle(tmp_path_factory):
    """A fit of five batches an epoch that `max_steps` has stopped behind the second."""
    folder = tmp_path_factory.mktemp("middle")
    fit(folder, steps=2)
    return folder


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stream": Stream(WAVES, 3, 10)}, r"bptt=10 \(5 before\)"),
        ({"stream": Stream(WAVES, 6, 5)}, r"batch_size=6 \(3 before\)"),
        ({"stream": Stream(WAVES, 3, 5, jitter=True)}, r"jitter=True \(False before\)"),
        ({"stream": Stream(WAVES + 1, 3, 5)}, "other data"),
        ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2 \(1 before\)"),
        ({"limit_train_batches": 3}, r"limit_train_batches=3 \(1.0 before\)"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_in_the_middle_of_an_epoch_its_place_must_be_the_same(in_the_middle, settings, words):
    before = (in_the_middle / "last.ckpt").read_bytes()
    with pytest.raises(
        UserError, match=rf"behind batch 2 of an epoch, .*: {words}.*; give the fit what it had"
    ) as error:
        fit(in_the_middle, **settings, ckpt_path="last")
    assert "\n" not in str(error.value)
    assert (in_the_middle / "last.ckpt").read_bytes() == before


@pytest.mark.filterwarnings("ignore")
def test_the_rest_is_said_in_a_line(in_the_middle, tmp_path):
    with pytest.warns(UserWarning, match="of one with other settings: val_check_interval=2 "):
        fit(tmp_path, ckpt_path=in_the_middle / "last.ckpt", val_check_interval=2)


@pytest.mark.filterwarnings("ignore")
def test_validations_by_the_clock_are_told_of(in_the_middle, tmp_path):
    with pytest.warns(UserWarning, match="validations come 60 seconds after one another by the clock"):
        fit(tmp_path, steps=4, ckpt_path=in_the_middle / "last.ckpt", val_check_interval={"minutes": 1})
    assert (tmp_path / "last.ckpt").exists()


@pytest.mark.filterwarnings("ignore")
def test_at_an_epochs_end_all_can_change(tmp_path):
    fit(tmp_path, max_epochs=1)
    with pytest.warns(UserWarning, match="with other settings") as said:
        trainer = fit(tmp_path, Stream(WAVES + 1, 3, 10), ckpt_path="last", accumulate_grad_batches=2)
    assert trainer.global_step == 5 + 2
    lines = [str(one.message) for one in said if "with other settings" in str(one.message)]
    assert [line.partition(" settings: ")[2] for line in lines] == [
        "accumulate_grad_batches=2 (1 before)",
        "bptt=10 (5 before), other data, batches_per_epoch=3 (5 before)",
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("schedule", "refused"), [(one_cycle, True), (sgdr, False)])
def test_a_schedule_over_all_steps_needs_epochs_of_one_length(tmp_path, monkeypatch, schedule, refused):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-2, momentum=0.9)
        per_epoch, total = count_steps(self.trainer)
        return [optimizer], [{"scheduler": schedule(optimizer, total, per_epoch), "interval": "step"}]

    monkeypatch.setattr(Module, "configure_optimizers", configure_optimizers)
    fit(tmp_path, max_epochs=2)
    assert fit(tmp_path, max_epochs=3, ckpt_path="last").global_step == 15
    words = r"OneCycle is laid out over 8 steps, .* batches_per_epoch=2 \(5 before\); leave that as it was"
    with pytest.raises(UserError, match=words) if refused else nullcontext():
        fit(tmp_path, max_epochs=4, ckpt_path="last", limit_train_batches=2)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.filterwarnings("ignore")
def test_carried_states_go_on_in_another_precision(in_the_middle, tmp_path, precision):
    with pytest.warns(UserWarning, match=rf"precision={precision} \(32-true before\)"):
        trainer = fit(tmp_path, ckpt_path=in_the_middle / "last.ckpt", precision=precision)
    assert trainer.global_step == 10


def test_nothing_is_said_of_the_same(recwarn):
    compare({"loaders": [Stream(WAVES, 3, 5).settings]}, {"loaders": [Stream(WAVES.clone(), 3, 5).settings]}, batch=2)
    assert not recwarn


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (
            Stream(list(WAVES[:60].split(20)), 3, 5, shuffle=True),
            Stream(list(WAVES[:60].split(20)), 3, 5, shuffle=True, seed=1),
            "seed=1 (0 before)",
        ),
        (Stream(WAVES, 3, 5), IndependentWindows(WAVES[:, 0].long(), 3, 5), "kind=IndependentWindows (Stream before)"),
        (
            IndependentWindows(torch.arange(40), 2, 5),
            IndependentWindows(torch.arange(40), 2, 5, chosen=torch.arange(1, 37)),
            "other data",
        ),
        (
            WholeSequences([torch.arange(9)] * 4, torch.arange(4), 2),
            WholeSequences([torch.arange(9)] * 4, torch.arange(4), 2, crop=3),
            "crop=3 (None before)",
        ),
        (
            DataLoader(TensorDataset(WAVES), batch_size=3),
            DataLoader(TensorDataset(WAVES * 2), batch_size=4),
            "batch_size=4 (3 before), batches=16 (21 before), other data",
        ),
    ],
    ids=["shuffled", "windows", "chosen", "whole", "loader"],
)
def test_what_is_different_in_two_loaders(before, now, words):
    with pytest.raises(UserError) as error:
        compare({"loaders": [of_loader(before)]}, {"loaders": [of_loader(now)]}, batch=2)
    assert f" now: {words}; give" in str(error.value)


def test_the_share_of_a_process_is_of_the_same_stream():
    stream = Stream(torch.arange(100), 4, 5)
    assert stream.shard(1, 2).settings == stream.settings


class TestFingerprint:
    def test_one_number_of_many_that_is_read_tells(self):
        data = torch.arange(100_000)
        other = data.clone()
        other[77_777] += 1
        assert fingerprint(data) == fingerprint(data.clone()) != fingerprint(other)

    @pytest.mark.parametrize("change", [lambda data: data.double(), lambda data: data.view(2, -1), lambda data: -data])
    def test_type_shape_and_numbers_tell(self, change):
        data = torch.linspace(1, 2, 1_000_000)
        assert fingerprint(change(data)) != fingerprint(data)

    def test_sequences_are_the_same_held_as_parts_of_one_or_each_by_itself(self):
        parts = torch.arange(1_000).split([300, 7, 693])
        of_one, each = Stream(parts, 2, 5), Stream([part.clone() for part in parts], 2, 5)
        assert of_one.settings == each.settings != Stream([part + 1 for part in parts], 2, 5).settings
