"""What lies beyond the lesson: each piece of regularisation alone, and the models that are parallel in time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unroll.nn
from lm.language import AWDGRU, AWDLSTM, QRNN, MinGRU, MinGRUBlocks, MinLSTM, MinLSTMBlocks, Mogrifier
from lm.language.checkpoint import TrainedLanguageModel
from lm.language.heads import TiedHead
from lm.language.learner import LanguageModel
from unroll import Stream, Window, kernels
from unroll.nn.regularisation import (
    EmbeddingDropout,
    LockedDropout,
    WeightDrop,
    activation_penalty,
    change_penalty,
    drop_weights,
)

VOCAB = 33
BLOCKS = [MinGRUBlocks, MinLSTMBlocks]
MODELS = [AWDGRU, AWDLSTM, QRNN, MinGRU, MinLSTM, Mogrifier, *BLOCKS]
DROPOUTS = ["embed_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_drop"]


def tokens(rows=6, time=11, seed=0):
    return torch.randint(VOCAB, (rows, time), generator=torch.Generator().manual_seed(seed))


def make(model_class, **settings):
    torch.manual_seed(0)
    sizes = [16] if model_class in BLOCKS else [12, 16]
    return model_class(VOCAB, *sizes, **settings)


class TestPieces:
    def test_locked_dropout_is_the_same_at_every_step_and_another_for_each_row(self):
        torch.manual_seed(0)
        dropped = LockedDropout(0.5)(torch.ones(4, 7, 100))
        assert set(dropped.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
        assert not torch.equal(dropped[0], dropped[1])

    def test_embedding_dropout_leaves_out_whole_tokens_wherever_they_stand(self):
        torch.manual_seed(0)
        embed = EmbeddingDropout(VOCAB, 12, dropout=0.5)
        ids = tokens(64)
        vectors = embed(ids)
        out = {
            int(token) for token, vector in zip(ids.flatten(), vectors.flatten(0, 1), strict=True) if not vector.any()
        }
        assert 5 < len(out) < VOCAB - 5
        for token in range(VOCAB):
            expected = torch.zeros(12) if token in out else 2 * embed.weight[token]
            assert torch.equal(vectors[ids == token], expected.expand((ids == token).sum(), -1))

    @pytest.mark.parametrize("rnn", [unroll.nn.LSTM, unroll.nn.GRU])
    def test_weight_drop_leaves_out_hidden_to_hidden_weights_and_no_others(self, rnn):
        torch.manual_seed(0)
        inner = rnn(5, 8)
        inputs, kept = torch.randn(3, 4, 5), inner.weight_hh_l0.detach().clone()
        outputs, _ = WeightDrop(inner, 0.5)(inputs)
        outputs.sum().backward()
        left_out = inner.weight_hh_l0.grad == 0
        assert 0.4 < left_out.float().mean() < 0.6
        assert (inner.weight_ih_l0.grad != 0).all()
        assert torch.equal(inner.weight_hh_l0, kept)

        by_hand = rnn(5, 8)
        by_hand.load_state_dict(inner.state_dict())
        with torch.no_grad():
            by_hand.weight_hh_l0.copy_(kept.masked_fill(left_out, 0.0) * 2)
        torch.testing.assert_close(outputs, by_hand(inputs)[0], atol=1e-6, rtol=0)

    def test_a_share_of_one_leaves_out_all_of_a_matrix(self):
        assert torch.equal(drop_weights(torch.ones(3, 4), 1.0), torch.zeros(3, 4))

    @pytest.mark.parametrize("piece", [LockedDropout(0.5), WeightDrop(nn.LSTM(5, 5, batch_first=True), 0.5)])
    def test_nothing_is_left_out_in_eval(self, piece):
        inputs = torch.randn(3, 4, 5)
        piece.eval()
        first, second = piece(inputs), piece(inputs)
        expected = piece.rnn(inputs)[0] if isinstance(piece, WeightDrop) else inputs
        for result in (first, second):
            torch.testing.assert_close(result[0] if isinstance(result, tuple) else result, expected)

    def test_a_tied_head_scores_by_the_embedding(self):
        embed = EmbeddingDropout(VOCAB, 12)
        activations = torch.randn(2, 3, 12)
        torch.testing.assert_close(TiedHead(embed, 12)(activations), activations @ embed.weight.t())
        head = TiedHead(embed, 16)
        activations = torch.randn(2, 3, 16)
        torch.testing.assert_close(head(activations), activations @ head.projection.weight.t() @ embed.weight.t())

    def test_the_penalties_are_those_of_the_paper(self):
        outputs = torch.randn(2, 5, 3)
        assert activation_penalty(outputs) == pytest.approx((outputs**2).mean().item())
        assert change_penalty(outputs) == pytest.approx(((outputs[:, 1:] - outputs[:, :-1]) ** 2).mean().item())
        assert change_penalty(outputs[:, :1]) == 0


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("dropout", DROPOUTS)
def test_each_dropout_can_be_switched_on_alone(model_class, dropout):
    if dropout == "weight_drop" and model_class in (MinGRU, MinLSTM, *BLOCKS):
        pytest.skip("it has no weights to drop")
    plain, model = make(model_class), make(model_class, **{dropout: 0.5})
    model.load_state_dict(plain.state_dict())
    assert not torch.allclose(model.train()(tokens())[0], plain(tokens())[0])
    torch.testing.assert_close(model.eval()(tokens())[0], plain(tokens())[0])


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize(
    "settings", [{"tie": True}, {"norm": True}, {"num_layers": 1}, {"num_layers": 3, "last_size": 12, "tie": True}]
)
def test_a_row_in_windows_is_the_row_in_one_piece_however_the_stack_is_made(model_class, settings):
    if model_class in BLOCKS:
        settings = {key: value for key, value in settings.items() if key not in ("norm", "last_size")}
    model = make(model_class, **settings)
    for seed in range(10):
        model(tokens(seed=seed))
    whole, _ = model.eval()(tokens(time=50))
    state, parts = None, []
    for part in tokens(time=50).split(7, dim=1):
        logits, state = model(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def test_weights_begin_within_the_chosen_range():
    for settings in ({}, {"tie": True}, {"head": "adaptive"}):
        model = make(AWDLSTM, init_range=0.05, **settings)
        for name, weight in model.named_parameters():
            if name.startswith("layers"):
                continue
            assert weight.abs().max() <= 0.05
            assert weight.abs().max() > (0.04 if weight.dim() > 1 else -1), name
        plain = make(AWDLSTM, **settings)
        assert plain.embed.weight.abs().max() > 0.05


def test_tied_weights_are_one_tensor():
    model = make(AWDLSTM, tie=True)
    assert model.head.weight is model.embed.weight
    assert len(list(model.parameters())) == len({id(parameter) for parameter in model.parameters()})


@pytest.mark.parametrize(
    "name",
    [
        "min_gru_blocks",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("awd_lstm", "awd_gru", "qrnn", "min_gru", "min_lstm", "mogrifier")
        ),
    ],
)
@pytest.mark.slow
def test_from_the_command_line_to_a_checkpoint_with_every_switch_on(train, tmp_path, name):
    switches = [f"model.{dropout}=0.1" for dropout in DROPOUTS if dropout != "weight_drop" or "min" not in name]
    switches += [
        *([] if "blocks" in name else ["model.norm=true"]),
        "model.tie=true",
        "model.ar=2",
        "model.tar=1",
        "model.hidden_size=24",
    ]
    run = train(
        *[f"model={name}", "data=human_numbers", *switches, "label_smoothing=0.1", "forget=0.1", "average=moving"],
        *["trainer.limit_train_batches=5", "trainer.max_epochs=2", "hydra.run.dir=run"],
    )
    assert run.returncode == 0, run.stderr
    checkpoint = TrainedLanguageModel.load(tmp_path / "run/checkpoints/last.ckpt")
    logits, _ = checkpoint.model(tokens())
    assert logits.isfinite().all()


class TestPenalty:
    @pytest.mark.parametrize(("ar", "tar"), [(2.0, 0.0), (0.0, 1.0), (2.0, 1.0)])
    def test_it_is_that_of_the_last_layers_outputs(self, ar, tar):
        model = make(AWDLSTM, ar=ar, tar=tar)
        seen = []
        model.layers[-1].register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
        _, _, penalty = model.penalised(tokens())
        outputs = seen[0]
        expected = ar * (outputs**2).mean() + tar * (outputs[:, 1:] - outputs[:, :-1]).pow(2).mean()
        torch.testing.assert_close(penalty, expected)
        assert model.eval().penalised(tokens())[2] is None
        assert make(AWDLSTM).penalised(tokens())[2] is None

    def test_it_is_minimised_and_in_no_figure(self):
        def gradients_and_loss(ar):
            module = LanguageModel(make(AWDLSTM, ar=ar))
            module.start("train")
            starts = torch.ones(len(tokens()), dtype=torch.bool)
            module.step("train", Window(tokens(), tokens(seed=1), starts)).minimised.backward()
            return [parameter.grad for parameter in module.parameters()], module.passes["train"].means()["loss"]

        plain, loss = gradients_and_loss(0.0)
        penalised, same_loss = gradients_and_loss(5.0)
        assert loss == same_loss
        model = make(AWDLSTM, ar=5.0)
        model.penalised(tokens())[2].backward()
        for with_it, without, alone in zip(penalised, plain, model.parameters(), strict=True):
            rest = torch.zeros_like(without) if alone.grad is None else alone.grad
            torch.testing.assert_close(with_it, without + rest, atol=1e-6, rtol=1e-4)


class TestParallel:
    """Each beside its own equations, one step at a time."""

    @pytest.mark.parametrize("window", [1, 2])
    @pytest.mark.parametrize("pooling", ["f", "fo"])
    def test_qrnn(self, window, pooling):
        layer = make(QRNN, window=window, pooling=pooling).layers[0]
        x = torch.randn(4, 60, 12)
        c, earlier, steps = torch.zeros(4, 16), torch.zeros(4, 12), []
        for now in x.unbind(1):
            gates = layer.now(now) + (layer.earlier(earlier) if window == 2 else 0)
            z, f, *o = gates.chunk(len(pooling) + 1, dim=-1)
            c = f.sigmoid() * c + (1 - f.sigmoid()) * z.tanh()
            steps.append(o[0].sigmoid() * c if o else c)
            earlier = now
        torch.testing.assert_close(layer(x, None)[0], torch.stack(steps, dim=1), atol=1e-5, rtol=0)

    def test_min_gru(self):
        layer = make(MinGRU).layers[0]
        x = torch.randn(4, 60, 12)
        h, steps = torch.zeros(4, 16), []
        for now in x.unbind(1):
            z, candidate = layer.gates(now).chunk(2, dim=-1)
            h = (1 - z.sigmoid()) * h + z.sigmoid() * positive(candidate)
            steps.append(h)
        torch.testing.assert_close(layer(x, None)[0], torch.stack(steps, dim=1), atol=1e-5, rtol=0)

    def test_min_lstm(self):
        layer = make(MinLSTM).layers[0]
        x = torch.randn(4, 60, 12)
        h, steps = torch.zeros(4, 16), []
        for now in x.unbind(1):
            f, i, candidate = layer.gates(now).chunk(3, dim=-1)
            f, i = f.sigmoid(), i.sigmoid()
            h = f / (f + i) * h + i / (f + i) * positive(candidate)
            steps.append(h)
        torch.testing.assert_close(layer(x, None)[0], torch.stack(steps, dim=1), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("model_class", BLOCKS)
    def test_blocks(self, model_class):
        block = make(model_class).layers[0]
        x = torch.randn(4, 20, 16)
        padded = torch.cat([torch.zeros(4, 3, 16), x], dim=1)
        kernel, bias = block.conv.over_time.weight[:, 0], block.conv.over_time.bias
        mixed = torch.stack([(padded[:, t : t + 4] * kernel.t()).sum(1) + bias for t in range(20)], dim=1)
        after = x + block.conv.over_channels(mixed)
        after = after + block.project(block.layer(rms_norm(after), None)[0])
        after = after + block.mlp_out(F.gelu(block.mlp_in(rms_norm(after))))
        torch.testing.assert_close(block(x, None)[0], after, atol=1e-5, rtol=0)

    @pytest.mark.slow
    @pytest.mark.parametrize("model_class", [QRNN, MinGRU, MinLSTM, *BLOCKS])
    def test_they_learn_under_mixed_precision_too(self, model_class):
        torch.manual_seed(0)
        module = LanguageModel(make(model_class))
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        stream = Stream(torch.arange(VOCAB).repeat(40), batch_size=8, bptt=20)
        losses = []
        for _ in range(8):
            module.start("train")
            for batch in stream:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = module.step("train", batch).minimised
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert losses[-1] < losses[0] / 2


class TestMogrifier:
    def test_each_round_is_that_of_the_paper(self):
        layer = unroll.nn.Mogrifier(12, 16, rounds=4, rank=3)
        x, h, c = torch.randn(4, 5, 12), torch.randn(4, 16), torch.randn(4, 16)
        outputs, (last_h, last_c) = layer(x, (h.unsqueeze(0), c.unsqueeze(0)))
        lstm = nn.LSTMCell(12, 16)
        lstm.load_state_dict({name: layer.cell.get_parameter(name) for name in lstm.state_dict()})

        def factor(number, v):
            first, second = layer.cell.scales[number - 1]
            return 2 * torch.sigmoid(v @ first.weight.t() @ second.weight.t() + second.bias)

        for step in range(5):
            x_1 = factor(1, h) * x[:, step]
            h_2 = factor(2, x_1) * h
            x_3 = factor(3, h_2) * x_1
            h_4 = factor(4, x_3) * h_2
            h, c = lstm(x_3, (h_4, c))
            torch.testing.assert_close(outputs[:, step], h)
        torch.testing.assert_close((last_h[0], last_c[0]), (h, c))

    @pytest.mark.parametrize(("rounds", "rank"), [(2, None), (3, 2), (5, None), (6, 3)])
    @pytest.mark.parametrize(("time", "rows"), [(1, 1), (7, 3)])
    def test_the_compiled_steps_are_those_of_the_cell(self, rounds, rank, time, rows):
        torch.manual_seed(0)
        layer = unroll.nn.Mogrifier(4, 6, rounds, rank).double()
        found = self.results(layer, time, rows)
        with kernels.plain():
            expected = self.results(layer, time, rows)
        for ours, recorded in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, recorded, rtol=1e-11, atol=1e-12)

    def results(self, layer, time, rows):
        """What a layer gives, and the gradients of everything that goes in."""
        draw = torch.Generator().manual_seed(1)
        shapes = (rows, time, 4), (1, rows, 6), (1, rows, 6)
        x, h, c = (torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes)
        outputs, (last_h, last_c) = layer(x, (h, c))
        loss = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum()
        (loss + last_h.square().sum() + last_c.sum()).backward()
        given = [x, h, c, *layer.parameters()]
        gradients = [one.grad for one in given]
        for one in given:
            one.grad = None
        return [outputs.detach(), last_h.detach(), last_c.detach(), *gradients]

    def test_without_rounds_it_is_the_lstm(self):
        plain, model = make(AWDLSTM), make(Mogrifier, rounds=0)
        names = [name.replace(".rnn.", ".rnn.cell.").replace("_l0", "") for name in plain.state_dict()]
        model.load_state_dict(dict(zip(names, plain.state_dict().values(), strict=True)))
        torch.testing.assert_close(model(tokens())[0], plain(tokens())[0])


def rms_norm(x):
    return x / x.square().mean(-1, keepdim=True).sqrt()


def positive(x):
    """g of the paper."""
    return torch.where(x >= 0, x + 0.5, F.sigmoid(x))
