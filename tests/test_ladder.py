"""The models of images: what each is made of, and batch norm against torch's."""

import pytest
import torch
from torch import nn

import vision.models
from vision.models.ladder import ConvLayer, PreActBlock, ResLayer
from vision.models.layers import BatchNorm
from vision.models.whitened import Whitening

MODELS = vision.models.__all__


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    @pytest.fixture
    def model(self, name):
        torch.manual_seed(0)
        narrow = {"widths": (8, 16, 32)} if name in ("PreActResNet", "WhitenedNet") else {}
        return getattr(vision.models, name)(classes=7, **narrow)

    def test_it_gives_a_score_for_each_class(self, model):
        assert model(torch.randn(5, 3, 32, 32)).shape == (5, 7)

    def test_every_parameter_takes_part(self, model):
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())

    def test_a_single_image_can_be_trained_on(self, model):
        scores = model.train()(torch.randn(1, 3, 32, 32))
        scores.sum().backward()
        assert scores.isfinite().all()
        assert all(value.isfinite().all() for value in model.state_dict().values())

    def test_images_of_a_batch_do_not_meet_in_eval(self, model):
        images = torch.randn(3, 3, 32, 32)
        model.eval()
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    @pytest.mark.few(2)
    def test_it_can_be_overfitted(self, model):
        images, labels = torch.randn(7, 3, 32, 32), torch.arange(7)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        assert (model(images).argmax(1) == labels).all()


def sizes(model, kind):
    """Height of what each layer of a kind gives, for an image of 32 by 32."""
    found = []
    for layer in model.modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(lambda layer, inputs, output: found.append(output.size(-1)))
    model(torch.randn(2, 3, 32, 32))
    return found


class TestTheLessonsSizes:
    def test_one_hidden_layer_of_40(self):
        assert vision.models.SimpleNet(10).hidden.weight.numel() == 122_880

    def test_without_padding_and_with_it(self):
        assert sizes(vision.models.ConvNet(10), nn.Conv2d) == [15, 7, 3]
        assert sizes(vision.models.ConvLayers(10), ConvLayer) == [16, 8, 4]
        assert parameters(vision.models.ConvNet(10)) == parameters(vision.models.ConvLayers(10))

    def test_twice_as_deep_ends_with_the_same_2_by_2(self):
        shallow, deep = (sizes(model(10), nn.Conv2d) for model in (vision.models.ConvBN, vision.models.ConvBNDeep))
        assert shallow == [32, 16, 8, 4, 2]
        assert deep == [32, 16, 16, 8, 8, 4, 4, 2, 2]

    def test_the_first_convolution_sees_5_by_5(self):
        for name in ("ConvBN", "ConvBNDeep", "ResNet", "PreActResNet"):
            assert getattr(vision.models, name)(10).first.kernel_size == (5, 5)

    def test_a_residual_network_of_one_added_layer_has_the_deep_networks_weights(self):
        resnet, deep = vision.models.ResNet(10, added=1), vision.models.ConvBNDeep(10)
        assert parameters(resnet) == parameters(deep)

    @pytest.mark.parametrize("layer", [ResLayer(4), PreActBlock(4)])
    def test_x_goes_through_where_f_is_nothing(self, layer):
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.zeros_(conv.weight)
        x = torch.randn(2, 4, 8, 8)
        torch.testing.assert_close(layer(x), x)

    def test_full_blocks_have_two_convolutions_and_begin_with_batch_norm(self):
        block = PreActBlock(4)
        kinds = [type(part).__name__ for part in block.modules() if isinstance(part, (BatchNorm, nn.Conv2d))]
        assert kinds == ["BatchNorm", "Conv2d"] * 2

    def test_stages_are_joined_by_bottlenecks_of_stride_2(self):
        model = vision.models.PreActResNet(10, widths=(4, 8, 16), blocks=2)
        assert [layer.conv.stride for layer in model.bottlenecks] == [(2, 2)] * 2
        assert sizes(model, PreActBlock) == [32, 32, 16, 16, 8, 8]


class TestBatchNorm:
    """In training and in eval, with its running statistics and its gradients: what torch's gives."""

    @pytest.fixture(params=[False, True], ids=["written out", "fused"])
    def both(self, request):
        torch.manual_seed(0)
        mine, torchs = BatchNorm(5, fused=request.param), nn.BatchNorm2d(5)
        with torch.no_grad():
            torchs.weight.copy_(mine.multiplier.normal_())
            torchs.bias.copy_(mine.addend.normal_())
        return mine, torchs

    def same(self, mine, torchs, images, atol=1e-5):
        ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
        given, wanted = mine(ours), torchs(theirs)
        torch.testing.assert_close(given, wanted, atol=atol, rtol=1e-5)
        weights = torch.randn_like(wanted)
        (given * weights).sum().backward()
        (wanted * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)
        for a, b in ((mine.multiplier, torchs.weight), (mine.addend, torchs.bias)):
            torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(mine.means, torchs.running_mean)
        torch.testing.assert_close(mine.variances, torchs.running_var)

    def test_in_training_then_in_eval_and_in_training_again(self, both):
        for mode in (True, True, False, False, True):
            for layer in both:
                layer.train(mode)
            self.same(*both, 3 + 2 * torch.randn(4, 5, 6, 7))

    def test_a_mean_that_is_large_beside_the_deviation(self, both):
        self.same(*both, 1000 + torch.randn(8, 5, 4, 4), atol=1e-4)  # a float of that size is no closer

    def test_it_normalises(self, both):
        mine, _ = both
        nn.init.ones_(mine.multiplier)
        nn.init.zeros_(mine.addend)
        given = mine(7 + 3 * torch.randn(16, 5, 8, 8))
        torch.testing.assert_close(given.mean((0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(given.std((0, 2, 3)), torch.ones(5), atol=1e-2, rtol=0)

    def test_half_precision_stays_half_and_its_statistics_do_not(self, both):
        mine, torchs = both
        images = (100 + torch.randn(64, 5, 16, 16)).bfloat16()
        given, wanted = mine(images), torchs(images)
        assert given.dtype == wanted.dtype == torch.bfloat16
        torch.testing.assert_close(mine.variances, torchs.running_var)
        torch.testing.assert_close(given, wanted, atol=0.05, rtol=0.02)

    def test_in_eval_nothing_is_taken_in(self, both):
        mine, _ = both
        before = mine.means.clone()
        mine.eval()(torch.randn(4, 5, 6, 7))
        assert torch.equal(mine.means, before)


class TestWhitening:
    def test_patches_of_the_training_images_come_out_uncorrelated_with_variance_1(self):
        torch.manual_seed(0)
        smooth = nn.functional.interpolate(torch.randn(64, 3, 8, 8), scale_factor=4, mode="bilinear") + 3
        layer = Whitening()
        layer.fit(smooth, eps=0.0)
        given, mirrored = layer(smooth).transpose(0, 1).flatten(1).double().chunk(2)
        torch.testing.assert_close(given.cov(), torch.eye(12, dtype=torch.float64), atol=1e-3, rtol=0)
        torch.testing.assert_close(given, -mirrored)

    def test_only_its_bias_is_learnt(self):
        assert [name for name, _ in Whitening().named_parameters()] == ["bias"]

    def test_filters_that_are_learnt_are_parameters(self):
        model = vision.models.WhitenedNet(10, (8, 16, 16), whiten=False)
        model.prepare(torch.randn(4, 3, 32, 32))
        assert model.first.weight.shape == vision.models.WhitenedNet(10, (8, 16, 16)).first.filters.shape
        assert model.first.weight.requires_grad

    def test_convolutions_begin_as_copies_of_their_inputs(self):
        stages = vision.models.WhitenedNet(10, (32, 32, 16)).stages
        images = torch.randn(2, 24, 8, 8)
        torch.testing.assert_close(stages[0].first(images)[:, :24], images)
        torch.testing.assert_close(stages[0].second(stages[0].first(images))[:, :24], images)
        fewer = stages[2].first(torch.eye(32)[:, :, None, None].expand(-1, -1, 3, 3))  # 32 channels become 16
        assert torch.equal(fewer[:, :, 1, 1], torch.eye(32)[:, :16])
