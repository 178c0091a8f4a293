"""Pictures in, batches out: what is moved, mirrored and normalised, and in which order it comes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.errors import UserError
from vision.checkpoint import TrainedImageClassifier
from vision.data import ImageBatches, Images, draw_shapes
from vision.data.batches import move
from vision.data.data_modules import Shapes, channel_statistics
from vision.data.shapes import NAMES
from vision.learner import ImageClassifier, copies
from vision.models.whitened import DIRECTIONS


def some(count, size=8):
    torch.manual_seed(0)
    pixels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    return Images(pixels, torch.arange(count))


class TestMoved:
    @settings(deadline=None)
    @given(down=st.integers(-4, 4), right=st.integers(-4, 4), mirrored=st.booleans())
    def test_it_is_padding_cropping_and_flipping(self, down, right, mirrored):
        pixels = some(1).pixels
        padded = F.pad(pixels.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
        cropped = padded[:, :, 4 - down : 12 - down, 4 - right : 12 - right]
        wanted = cropped.flip(-1) if mirrored else cropped
        assert torch.equal(move(pixels, torch.tensor([[down, right, int(mirrored)]])), wanted)

    def test_each_image_moves_by_itself(self):
        pixels = some(3).pixels
        moves = torch.tensor([[0, 0, 0], [2, -1, 0], [0, 0, 1]])
        given = move(pixels, moves)
        assert torch.equal(given[0], pixels[0])
        assert torch.equal(given[2], pixels[2].flip(-1))
        assert all(torch.equal(given[at], move(pixels[at : at + 1], moves[at : at + 1])[0]) for at in range(3))
        assert given.is_contiguous(memory_format=torch.channels_last)


class TestBatches:
    def batches(self, count=23, **settings):
        return ImageBatches(some(count), **{"batch_size": 4, "shuffle": True, "pad": 2, "flip": True, **settings})

    def test_each_image_comes_once_in_an_epoch_with_its_label(self):
        batches = self.batches()
        labels = torch.cat([labels for _, labels, _ in batches])
        assert len(batches) == 6
        assert sorted(labels.tolist()) == list(range(23))
        assert all(torch.equal(pixels, batches.pixels[labels]) for pixels, labels, _ in batches)

    def test_order_and_moves_are_those_of_seed_and_epoch(self):
        def epoch(seed, number):
            batches = self.batches(seed=seed)
            batches.set_epoch(number)
            return [part.tolist() for _, *rest in batches for part in rest]

        assert epoch(0, 0) == epoch(0, 0)
        assert epoch(0, 0) != epoch(0, 1) != epoch(1, 1)

    def test_a_image_is_moved_otherwise_in_each_epoch_and_by_each_seed(self):
        first, later, other = self.batches(), self.batches(), self.batches(seed=1)
        later.set_epoch(1)
        assert torch.equal(first.moves(), self.batches().moves())
        assert not torch.equal(first.moves(), later.moves())
        assert not torch.equal(first.moves(), other.moves())

    def test_moves_reach_as_far_as_they_may(self):
        moves = torch.cat([moves for *_, moves in self.batches(2000)])
        assert moves[:, :2].unique().tolist() == [-2, -1, 0, 1, 2]
        assert moves[:, 2].float().mean().item() == pytest.approx(0.5, abs=0.05)
        assert not torch.cat([moves for *_, moves in self.batches(200, flip=False)])[:, 2].any()

    def test_an_image_that_was_mirrored_is_not_in_the_next_epoch(self):
        batches = self.batches(200, flip="alternate")
        epochs = []
        for epoch in range(4):
            batches.set_epoch(epoch)
            epochs.append(batches.moves()[:, 2])
        assert epochs[0].float().mean().item() == pytest.approx(0.5, abs=0.1)
        assert torch.equal(epochs[1], 1 - epochs[0])
        assert torch.equal(epochs[2], epochs[0])
        assert torch.equal(epochs[3], epochs[1])

    def test_a_pass_goes_on_where_it_was_left(self):
        whole = [labels.tolist() for _, labels, _ in self.batches()]
        stopped = self.batches()
        taken = [next(stopped_pass)[1].tolist() for stopped_pass in [iter(stopped)] for _ in range(2)]
        again = self.batches()
        again.load_state_dict(stopped.state_dict())
        rest = [(labels.tolist(), moves.tolist()) for _, labels, moves in again]
        assert taken + [labels for labels, _ in rest] == whole
        assert [moves for _, moves in rest] == [moves.tolist() for *_, moves in self.batches()][2:]

    def test_processes_share_a_batch_and_its_moves(self):
        whole = list(self.batches())
        shares = [list(self.batches().shard(rank, 2)) for rank in range(2)]
        for batch, *parts in zip(whole, *shares, strict=True):
            for together, *mine in zip(batch, *parts, strict=True):
                assert torch.equal(together, torch.cat(mine))

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"batch_size": 24}, "larger than the data: there are 23 images"),
            ({"batch_size": 0}, "must be a whole number, 1 or more"),
            ({"pad": 8}, "data.pad=8: images of 8 pixels can be shifted by 7 at most"),
        ],
    )
    def test_what_cannot_be_is_refused(self, settings, words):
        with pytest.raises(UserError, match=words):
            self.batches(**settings)

    def test_what_cannot_be_shared_is_refused(self):
        with pytest.raises(UserError, match=r"the last batch has 1 images, too few for 2 processes"):
            self.batches(21).shard(0, 2)


class TestShapes:
    def test_the_same_seed_draws_the_same_images(self):
        first, again, other = draw_shapes(50, 0), draw_shapes(50, 0), draw_shapes(50, 1)
        assert torch.equal(first.pixels, again.pixels)
        assert not torch.equal(first.pixels, other.pixels)

    def test_ten_classes_equally_often(self):
        images = draw_shapes(200, 0)
        assert images.labels.bincount().tolist() == [20] * len(NAMES)
        assert (images.pixels.dtype, images.pixels.shape) == (torch.uint8, (200, 3, 32, 32))

    def test_training_and_validation_are_different_images(self):
        data = Shapes(train_images=30, valid_images=20, batch_size=10, pad=4, flip=True)
        assert (len(data.train.labels), len(data.valid.labels)) == (30, 20)
        differences = (data.train.pixels[:, None].int() - data.valid.pixels[None].int()).abs().amax((2, 3, 4))
        assert differences.min() > 0


def test_statistics_are_those_of_all_pixels():
    pixels = some(20).pixels
    means, stds = channel_statistics(pixels)
    values = pixels.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(means, dtype=torch.float64), values.mean(1))
    torch.testing.assert_close(torch.tensor(stds, dtype=torch.float64), values.std(1, correction=0))


def test_a_channel_of_one_shade_can_be_normalised():
    means, stds = channel_statistics(torch.full((2, 3, 4, 4), 51, dtype=torch.uint8))
    assert means == pytest.approx([0.2] * 3)
    assert all(std > 0 for std in stds)


def test_what_the_model_reads_is_normalised_by_the_training_images():
    data = Shapes(train_images=200, valid_images=20, batch_size=200, pad=0, flip=False)
    module = ImageClassifier(torch.nn.Identity(), **data.learner_arguments())
    (images,) = module.inputs(next(iter(data.train)))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


class Corner(torch.nn.Module):
    """Scores that depend on a corner of the image alone."""

    def forward(self, images):
        return images[:, :2, 0, 0]


class TestTestTimeAugmentation:
    def predicted(self, split, tta):
        data = Shapes(train_images=20, valid_images=20, batch_size=20, pad=0, flip=False)
        module = ImageClassifier(Corner(), **data.learner_arguments(), tta=tta)
        return module, next(data.valid.batches(0)), module.read(split, next(data.valid.batches(0)))[0]

    def test_the_probabilities_of_mirrored_and_shifted_copies_are_averaged(self):
        module, batch, outputs = self.predicted("valid", tta=True)
        (images,) = module.inputs(batch)
        corners = [images[:, :2, y, x] for y, x in ((0, 0), (1, 1), (0, 31), (1, 30), (1, 1), (1, 30))]
        expected = torch.stack([corner.softmax(1) for corner in corners]).mean(0)
        torch.testing.assert_close(outputs.exp(), expected)

    def test_copies_are_six_and_the_first_is_the_image_itself(self):
        images = torch.randn(2, 3, 8, 8)
        first, mirrored, *others = copies(images)
        assert torch.equal(first, images)
        assert torch.equal(mirrored, images.flip(3))
        assert torch.equal(others[0][:, :, :-1, :-1], images[:, :, 1:, 1:])
        assert torch.equal(others[2][:, :, 1:, 1:], images[:, :, :-1, :-1])
        assert len(others) == 4

    def test_training_does_not_average(self):
        module, batch, outputs = self.predicted("train", tta=True)
        torch.testing.assert_close(outputs, module.inputs(batch)[0][:, :2, 0, 0])


def test_a_model_prepares_itself_from_the_training_images(train, tmp_path):
    short = [
        "model=whitened_net",
        "data=shapes",
        "data.train_images=200",
        "data.valid_images=20",
        "model.widths=[4,4,4]",
        "logger=none",
        "trainer.precision=32-true",
    ]
    assert train(*short, "trainer.max_epochs=1", "hydra.run.dir=run").returncode == 0
    trained = TrainedImageClassifier.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    data = Shapes(train_images=200, valid_images=20, batch_size=20, pad=0, flip=False)
    with torch.no_grad():
        whitened = trained.model.first(trained.normalise(data.splits.train.pixels))[:, :DIRECTIONS]
    covariance = whitened.transpose(0, 1).flatten(1).cov()
    torch.testing.assert_close(covariance, torch.eye(DIRECTIONS), atol=0.01, rtol=0)
