"""A faster version of the model gives the same losses, and takes over by itself where it can."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from unittest.mock import Mock

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from lm.language import AWDLSTM, GRU, RNN, CharStatefulCell, MinGRU
from lm.language.learner import LanguageModel
from lm.tagging.model import Tagger
from unroll import Stream
from unroll.nn.regularisation import WeightDrop
from unroll.state import detach, keep_rows, map_tensors, tensors
from unroll.training.compiled import FastModel, read_window


class Losses(LanguageModel):
    def on_fit_start(self):
        super().on_fit_start()
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss


def fit(model_class, compile, epochs, **settings):
    torch.manual_seed(0)
    tokens = torch.randint(10, (4 * 61 - 2,))  # the last window is shorter, and then narrower
    module = Losses(model_class(10), optimizer=partial(torch.optim.AdamW, lr=1e-3, fused=True), compile=compile)
    trainer = Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, Stream(tokens, batch_size=4, bptt=4))
    return module


backends = pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",  # the graphs, forwards and backwards, without the half minute of a C++ compiler
        pytest.param("inductor", marks=pytest.mark.slow),
    ],
)


@backends
@pytest.mark.slow
def test_torch_compile_gives_the_same_losses_and_leaves_odd_windows_alone(monkeypatch, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain = fit(CharStatefulCell, False, 3, accelerator="cpu")
    compiled = fit(CharStatefulCell, True, 3, accelerator="cpu")
    assert compiled.fast_model.fast is not None
    assert compiled.fast_model.fast_for[0] == (torch.Size([4, 4]), torch.Size([1, 4, 256]))
    assert len(plain.losses) == len(compiled.losses) == 3 * 16
    torch.testing.assert_close(torch.tensor(compiled.losses), torch.tensor(plain.losses), rtol=0, atol=1e-5)


@backends
def test_compiling_leaves_statistics_and_random_generators_as_they_were(monkeypatch, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model, other = RNN(10).train(), RNN(10).train()
    other.load_state_dict(model.state_dict())
    read = FastModel(model, True, read_window)
    tokens = torch.randint(10, (4, 2))
    _, state, _ = read(tokens, torch.zeros(1, 4, 64))
    before = torch.get_rng_state()
    found = read(tokens, state.detach())
    assert read.fast is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert model.norm.num_batches_tracked == 2
    torch.testing.assert_close(found, read_window(other, tokens, state.detach()))


@pytest.mark.parametrize("how", [True, "graph"])
def test_nothing_is_compiled_for_a_window_that_comes_once(how):
    model = GRU(10).train()
    read = FastModel(model, how, read_window)
    tokens = torch.randint(10, (4, 6))
    _, state, _ = read(tokens, None)
    _, state, _ = read(tokens[:, :5], state.detach())
    with torch.no_grad():
        read(tokens, state)
    model.eval()
    read(tokens, state.detach())
    assert read.fast is None


def test_graphs_and_the_gpu_trainer_ask_for_a_gpu(train):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    for choice, words in (("model.compile=graph", "one NVIDIA GPU"), ("trainer=gpu", "gpu")):
        run = train(choice, "model.hidden_size=4", "trainer.max_steps=1")
        assert run.returncode == 1
        assert words in run.stderr.splitlines()[-1]
        assert "Traceback" not in run.stderr


class GraphsOnACPU:
    """Stands in for `torch.cuda.make_graphed_callables`: it reads from its sample arguments, into which it copies those
    of each call, and from the weights where they lay at first; it writes outputs and gradients to the same memory each
    time, those of the weights that were trained at first."""

    def __init__(self, module, sample, **settings):
        self.module, self.sample = module, sample
        self.weights = {
            name: weight.detach().requires_grad_(weight.requires_grad) for name, weight in module.named_parameters()
        }
        self.outputs = self.gradients = None

    def __call__(self, *inputs):
        outputs = Replay.apply(self, *tree_leaves(inputs), *self.module.parameters())
        return tree_unflatten(outputs, self.form)

    def forward(self, given):
        for target, source in zip(tree_leaves(self.sample), given, strict=False):
            if target.data_ptr() != source.data_ptr():
                target.copy_(source)
        with torch.enable_grad():
            outputs = torch.func.functional_call(self.module, self.weights, self.sample)
        self.live, self.form = tree_flatten(outputs)
        self.outputs = written(self.outputs, self.live)
        return tuple(output.detach() for output in self.outputs)

    def backward(self, given):
        pairs = [pair for pair in zip(self.live, given, strict=True) if pair[0].requires_grad]
        weights = self.weights.values()
        trained = [weight for weight in weights if weight.requires_grad]
        outputs, gradients = zip(*pairs, strict=True)
        self.gradients = written(self.gradients, torch.autograd.grad(outputs, trained, gradients, allow_unused=True))
        gradients = iter(self.gradients)
        of_weights = [next(gradients) if weight.requires_grad else None for weight in weights]
        return [None if gradient is None else gradient.detach() for gradient in of_weights]


def written(memory, values):
    """The values in the same memory each time."""
    if memory is None:
        return [None if value is None else value.detach().clone() for value in values]
    for target, value in zip(memory, values, strict=True):
        if target is not None:
            target.copy_(value.detach())
    return memory


class Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, graphs, *given):
        ctx.graphs = graphs
        return graphs.forward(given)

    @staticmethod
    def backward(ctx, *given):
        inputs = [None] * len(tree_leaves(ctx.graphs.sample))
        return None, *inputs, *ctx.graphs.backward(given)


STACKS = {"gru": GRU, "awd_lstm": partial(AWDLSTM, weight_drop=0.3, output_dropout=0.2), "min_gru": MinGRU}


def train_by_hand(model_class, how, accumulated=1, before_epoch=lambda model, epoch: None):
    """The losses of all steps, and whether a faster version was made."""
    torch.manual_seed(0)
    tokens = torch.randint(10, (4 * 61 - 2,))
    before = tokens.clone()
    model = model_class(10, hidden_size=8, embedding_size=8).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    read, losses, kept = FastModel(model, how, read_window), [], []
    for epoch in range(3):
        before_epoch(model, epoch)
        state = None
        for window in Stream(tokens, batch_size=4, bptt=4):
            if state is not None:
                state = keep_rows(detach(state), len(window.inputs))
            torch.manual_seed(len(losses))  # the same masks, although the faster version has trial runs
            features, state, _ = read(window.inputs, state)
            kept.append((state, map_tensors(state, torch.Tensor.clone)))
            loss = torch.nn.functional.cross_entropy(model.head(features).flatten(0, 1), window.targets.flatten())
            if len(losses) % accumulated == 0:
                optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            if len(losses) % accumulated == 0:
                optimizer.step()
    for state, copy in kept:  # what was kept beyond a step is what it was
        assert all(map(torch.equal, tensors(state), tensors(copy)))
    assert torch.equal(tokens, before)
    return losses, read.fast is not None


@pytest.mark.parametrize("name", STACKS)
def test_graphs_give_the_same_losses_over_three_epochs_and_leave_the_corpus_alone(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", GraphsOnACPU)
    plain, _ = train_by_hand(STACKS[name], False)
    graphed, made = train_by_hand(STACKS[name], "graph")
    assert made
    assert graphed == plain


@pytest.mark.parametrize("accumulated", [2, 3])
def test_gradients_that_are_accumulated_are_not_those_of_the_latest_graph(monkeypatch, accumulated):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", GraphsOnACPU)
    plain, _ = train_by_hand(GRU, False, accumulated)
    graphed, _ = train_by_hand(GRU, "graph", accumulated)
    assert graphed == plain


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass
class Kept:
    value: torch.Tensor


NESTS = {
    "list": (lambda h: [h], lambda state: state[0]),
    "dict": (lambda h: {"h": h, "more": (h * 2, [h])}, lambda state: state["h"]),
    "NamedTuple": (lambda h: Pair(h * 2, h), lambda state: state.second),
    "dataclass": (Kept, lambda state: state.value),
    "in a tuple": (lambda h: (None, Pair(h, h)), lambda state: state[1].first),
}


class Nested(GRU):
    """Its state is a nest."""

    def __init__(self, *arguments, nest, **settings):
        super().__init__(*arguments, **settings)
        self.pack, self.unpack = NESTS[nest]

    def features(self, tokens, state=None):
        features, state = super().features(tokens, None if state is None else self.unpack(state))
        return features, self.pack(state)


@pytest.mark.parametrize("nest", NESTS)
def test_a_state_may_be_any_nest(monkeypatch, nest):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", GraphsOnACPU)
    plain, _ = train_by_hand(partial(Nested, nest=nest), False)
    graphed, made = train_by_hand(partial(Nested, nest=nest), "graph")
    assert made
    assert graphed == plain


def test_a_state_with_numbers_is_not_captured(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", pytest.fail)
    monkeypatch.setitem(NESTS, "number", (lambda h: (h, 3), lambda state: state[0]))
    plain, _ = train_by_hand(partial(Nested, nest="number"), False)
    graphed, _ = train_by_hand(partial(Nested, nest="number"), "graph")
    assert graphed == plain
    assert "its state has numbers, which a graph would not change" in capsys.readouterr().err


def thaw(model, epoch):
    model.embed.requires_grad_(epoch > 0)


def move(model, epoch):
    """As Lightning does at the end of a fit, and again at the beginning of the next."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


@pytest.mark.parametrize("change", [thaw, move])
def test_graphs_are_made_anew_for_weights_that_are_thawed_or_lie_elsewhere(monkeypatch, change):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", GraphsOnACPU)
    plain, _ = train_by_hand(GRU, False, before_epoch=change)
    graphed, _ = train_by_hand(GRU, "graph", before_epoch=change)
    assert graphed == plain


def test_what_cannot_be_captured_trains_without_a_graph_and_says_so_once(monkeypatch, capsys):
    def refuse(*arguments, **settings):
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    plain, _ = train_by_hand(GRU, False)
    graphed, _ = train_by_hand(GRU, "graph")
    assert graphed == plain
    assert capsys.readouterr().err.splitlines() == [
        "model.compile=graph: GRU trains without CUDA graphs: it can't be captured "
        "(operation not permitted when stream is capturing)"
    ]


def test_a_capture_that_failed_leaves_nothing_behind(monkeypatch, capsys):
    """The current stream stays the capture's, and its generator draws no more; the error is that of the capture's end,
    which says nothing."""

    def refuse(*arguments, **settings):
        current.append("the capture's")
        try:
            raise RuntimeError("it waits for the device")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    current, generator = ["the default"], Mock()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "set_stream", current.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", [generator])
    FastModel(GRU(10), "graph", read_window).graphed((torch.zeros(4, 3, dtype=torch.int64),))
    assert current == ["the default", "the capture's", "the default"]
    generator.graphsafe_set_state.assert_called_once_with(generator.clone_state.return_value)
    assert capsys.readouterr().err.endswith("it can't be captured (it waits for the device)\n")


def test_a_model_that_waits_for_the_device_is_not_tried(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", pytest.fail)
    model = Tagger(5, 3, 4, bidirectional=False).train()
    read = FastModel(model, "graph", read_window)
    words = torch.randint(2, 4, (2, 3, 1 + 20))
    _, state, _ = read(words, None)
    for _ in range(3):
        _, state, _ = read(words, detach(state))
    assert "Tagger trains without CUDA graphs" in capsys.readouterr().err


def test_no_graph_of_a_step_outlives_it_in_a_layer_with_dropped_weights():
    """A CUDA graph can't be captured while the nodes that accumulate gradients on another stream are alive."""
    drop = WeightDrop(torch.nn.LSTM(3, 4, batch_first=True), 0.5).train()
    drop(torch.randn(2, 5, 3))
    assert all(weight.is_leaf for weight in drop.rnn._flat_weights)


class WaitsForTheDevice(GRU):
    def features(self, tokens, state=None):
        features, state = super().features(tokens, state)
        return torch.dropout(features, 0.1, self.training) * float(features.isfinite().all()), state


@pytest.mark.gpu
def test_what_cannot_be_captured_trains_on_a_gpu(capsys):
    settings = {"accelerator": "gpu", "devices": 1}
    plain, graphed = fit(WaitsForTheDevice, False, 3, **settings), fit(WaitsForTheDevice, "graph", 3, **settings)
    assert "WaitsForTheDevice trains without CUDA graphs" in capsys.readouterr().err
    torch.testing.assert_close(torch.tensor(graphed.losses), torch.tensor(plain.losses), rtol=0, atol=1e-4)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "accumulated"), [("32-true", 1), ("32-true", 2), ("bf16-mixed", 1)])
def test_cuda_graphs_give_the_same_losses(precision, accumulated):
    settings = {"accelerator": "gpu", "devices": 1, "precision": precision, "accumulate_grad_batches": accumulated}
    plain, graphed = fit(GRU, False, 13, **settings), fit(GRU, "graph", 13, **settings)
    assert graphed.fast_model.fast is not None
    tolerance = 1e-4 if precision == "32-true" else 1e-2
    torch.testing.assert_close(torch.tensor(graphed.losses), torch.tensor(plain.losses), rtol=0, atol=tolerance)
