"""A faster version of the model gives the same losses, and takes over by itself where it can."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer

from lm.models import GRU, RNN, CharStatefulCell
from lm.module import LanguageModel
from unroll import Stream
from unroll.compiled import FastModel, forward_window

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


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
    module = Losses(model_class(10), partial(torch.optim.AdamW, lr=1e-3, fused=True), compile=compile)
    trainer = Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, Stream(tokens, batch_size=4, bptt=4))
    return module


def test_torch_compile_gives_the_same_losses_and_leaves_odd_windows_alone():
    plain = fit(CharStatefulCell, False, 3, accelerator="cpu")
    compiled = fit(CharStatefulCell, True, 3, accelerator="cpu")
    assert compiled.fast_model.fast is not None
    assert compiled.fast_model.fast_for == (torch.Size([4, 4]), torch.Size([1, 4, 256]))
    assert len(plain.losses) == len(compiled.losses) == 3 * 16
    torch.testing.assert_close(torch.tensor(compiled.losses), torch.tensor(plain.losses), rtol=0, atol=1e-5)


def test_compiling_leaves_statistics_and_random_generators_as_they_were():
    model = RNN(10).train()
    read = FastModel(model, True, forward_window)
    tokens = torch.randint(10, (4, 2))
    _, state, _ = read(tokens, torch.zeros(1, 4, 64))
    before = torch.get_rng_state()
    read(tokens, state.detach())
    assert read.fast is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert model.norm.num_batches_tracked == 2


@pytest.mark.parametrize("how", [True, "graph"])
def test_nothing_is_compiled_for_a_window_that_comes_once(how):
    model = GRU(10).train()
    read = FastModel(model, how, forward_window)
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


@cuda
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_cuda_graphs_give_the_same_losses(precision):
    """Not run where this was written: there was no GPU."""
    settings = {"accelerator": "gpu", "devices": 1, "precision": precision}
    plain, graphed = fit(GRU, False, 13, **settings), fit(GRU, "graph", 13, **settings)
    assert graphed.fast_model.fast is not None
    tolerance = 1e-4 if precision == "32-true" else 1e-2
    torch.testing.assert_close(torch.tensor(graphed.losses), torch.tensor(plain.losses), rtol=0, atol=tolerance)
