"""A faster version of the model gives the same losses, and takes over by itself where it can."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer

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
    assert compiled.fast_model.fast_for == (torch.Size([4, 4]), torch.Size([1, 4, 256]))
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
    of each call, and writes what is not differentiated to the same memory each time."""

    def __init__(self, module, sample, **settings):
        self.module, self.sample, self.written = module, sample, None

    def __call__(self, *inputs):
        def copy(target, given):
            if isinstance(target, tuple):
                for pair in zip(target, given, strict=True):
                    copy(*pair)
            elif target.data_ptr() != given.data_ptr():
                target.copy_(given)

        copy(self.sample, inputs)
        outputs, *others = self.module(*self.sample)
        others = map_tensors(tuple(others), torch.Tensor.detach)
        if self.written is None:
            self.written = map_tensors(others, torch.Tensor.clone)
        copy(self.written, others)
        return outputs, *self.written


STACKS = {"gru": GRU, "awd_lstm": partial(AWDLSTM, weight_drop=0.3, output_dropout=0.2), "min_gru": MinGRU}


def train_by_hand(model_class, how, epochs=3):
    """The losses of all steps, the corpus before and after them, and whether a faster version was made."""
    torch.manual_seed(0)
    tokens = torch.randint(10, (4 * 61 - 2,))
    before = tokens.clone()
    model = model_class(10, hidden_size=8, embedding_size=8).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    read, losses, kept = FastModel(model, how, read_window), [], []
    for _ in range(epochs):
        state = None
        for window in Stream(tokens, batch_size=4, bptt=4):
            if state is not None:
                state = keep_rows(detach(state), len(window.inputs))
            torch.manual_seed(len(losses))  # the same masks, although the faster version has trial runs
            features, state, _ = read(window.inputs, state)
            kept.append((state, map_tensors(state, torch.Tensor.clone)))
            loss = torch.nn.functional.cross_entropy(model.head(features).flatten(0, 1), window.targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
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


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_cuda_graphs_give_the_same_losses(precision):
    settings = {"accelerator": "gpu", "devices": 1, "precision": precision}
    plain, graphed = fit(GRU, False, 13, **settings), fit(GRU, "graph", 13, **settings)
    assert graphed.fast_model.fast is not None
    tolerance = 1e-4 if precision == "32-true" else 1e-2
    torch.testing.assert_close(torch.tensor(graphed.losses), torch.tensor(plain.losses), rtol=0, atol=tolerance)
