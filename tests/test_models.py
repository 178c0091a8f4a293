"""The contract of every model, and what makes the recurrent ones recurrent."""

import copy
import functools
import inspect

import pytest
import torch

import lm.language
from unroll import nn as cells
from unroll.errors import UserError
from unroll.state import ROW_AXIS, detach

VOCAB = 33
MODELS = [getattr(lm.language, name) for name in lm.language.__all__]
LAST_WORD_ONLY = [
    model
    for model in MODELS
    if model.__name__ in ("Unrolled", "Loop", "CharThree", "CharLoop", "CharConcat", "CharRNN")
]
NOT_CARRYING = [*LAST_WORD_ONLY, lm.language.MultiOutput, lm.language.CharSeq]
CARRYING = [model for model in MODELS if model not in NOT_CARRYING]


@functools.cache
def used(model_class):
    torch.manual_seed(0)
    model = model_class(vocab_size=VOCAB)
    tokens = torch.randint(VOCAB, (64, 3))
    with torch.no_grad():
        for _ in range(20):  # batch norm's running statistics are no longer those it starts with
            model(tokens)
    return model


def make(model_class):
    torch.manual_seed(0)
    return copy.deepcopy(used(model_class))


def tensors(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("time", [1, 2, 3])
def test_shapes(model_class, time):
    if model_class is lm.language.CharThree and time != 3:
        pytest.skip("it reads three characters")
    logits, _ = make(model_class)(torch.randint(VOCAB, (5, time)))
    assert logits.shape == (5, 1 if model_class in LAST_WORD_ONLY else time, VOCAB)


@pytest.mark.parametrize("model_class", MODELS)
def test_one_row_of_one_word_can_be_trained_on(model_class):
    time = 3 if model_class is lm.language.CharThree else 1
    logits, _ = make(model_class).train()(torch.randint(VOCAB, (1, time)))
    assert logits.isfinite().all()


@pytest.mark.parametrize("model_class", MODELS)
def test_arguments_have_the_lessons_values(model_class):
    parameters = inspect.signature(model_class).parameters
    hidden_size = {lm.language.CharLSTM: 512}.get(model_class, 256 if model_class.__name__.startswith("Char") else 64)
    assert parameters["hidden_size"].default == hidden_size


@pytest.mark.parametrize("model_class", MODELS)
def test_a_model_keeps_nothing_to_itself(model_class):
    model = make(model_class).eval()
    tokens = torch.randint(VOCAB, (5, 3))
    first, _ = model(tokens)
    model(torch.randint(VOCAB, (7, 3)))
    assert torch.equal(model(tokens)[0], first)


@pytest.mark.parametrize("model_class", CARRYING)
@pytest.mark.parametrize("window", [1, 7])
@torch.no_grad()
def test_a_row_in_windows_with_carried_state_is_the_row_in_one_piece(model_class, window):
    model = make(model_class).eval()
    tokens = torch.randint(VOCAB, (6, 101))
    whole, final = model(tokens)
    state, parts = None, []
    for part in tokens.split(window, dim=1):
        logits, state = model(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)
    for carried, once in zip(tensors(state), tensors(final), strict=True):
        torch.testing.assert_close(carried, once, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_class", CARRYING)
def test_each_row_has_a_state_of_its_own_on_the_batch_axis(model_class):
    model = make(model_class).eval()
    tokens = torch.randint(VOCAB, (4, 9))
    _, state = model(tokens)
    _, alone = model(tokens[2:3])
    for all_rows, one_row in zip(tensors(state), tensors(alone), strict=True):
        assert all_rows.size(ROW_AXIS) == 4
        torch.testing.assert_close(all_rows.narrow(ROW_AXIS, 2, 1), one_row, atol=1e-6, rtol=0)


@pytest.mark.parametrize("model_class", CARRYING)
def test_gradients_stop_at_the_start_of_a_window_and_only_there(model_class):
    model = make(model_class)
    read = []
    model.embed.register_forward_hook(lambda module, inputs, output: read.append(output))
    _, state = model(torch.randint(VOCAB, (4, 5)))
    logits, _ = model(torch.randint(VOCAB, (4, 5)), detach(state))
    attached, _ = model(torch.randint(VOCAB, (4, 5)), state)
    first = read[: len(read) // 3]
    assert torch.autograd.grad(logits.sum(), first, allow_unused=True, retain_graph=True) == (None,) * len(first)
    assert any(grad is not None for grad in torch.autograd.grad(attached.sum(), first, allow_unused=True))


@pytest.mark.parametrize("model_class", CARRYING)
def test_the_state_makes_a_difference(model_class):
    model = make(model_class).eval()
    tokens = torch.randint(VOCAB, (4, 5))
    _, state = model(torch.randint(VOCAB, (4, 5)))
    assert not torch.allclose(model(tokens, state)[0][:, 0], model(tokens)[0][:, 0])


def test_the_loop_is_the_unrolled_model_but_for_its_first_step():
    unrolled, loop = make(lm.language.Unrolled).eval(), make(lm.language.Loop).eval()
    loop.load_state_dict(unrolled.state_dict())
    loop.hidden.register_forward_hook(FirstCallPassesThrough())
    tokens = torch.randint(VOCAB, (4, 3))
    torch.testing.assert_close(loop(tokens)[0], unrolled(tokens)[0])


class FirstCallPassesThrough:
    """The unrolled model does not send its first word through `hidden`."""

    calls = 0

    def __call__(self, module, inputs, output):
        self.calls += 1
        return inputs[0] if self.calls == 1 else None


def test_stateful_without_a_state_is_multi_output():
    multi, stateful = make(lm.language.MultiOutput).eval(), make(lm.language.Stateful).eval()
    stateful.load_state_dict(multi.state_dict())
    tokens = torch.randint(VOCAB, (4, 9))
    torch.testing.assert_close(stateful(tokens)[0], multi(tokens)[0])


@pytest.mark.parametrize(
    ("model_class", "words"), [(lm.language.Unrolled, "data.bptt=3"), (lm.language.CharThree, "windows of 3")]
)
def test_a_model_written_out_by_hand_refuses_longer_windows(model_class, words):
    with pytest.raises(UserError, match=words):
        make(model_class)(torch.randint(VOCAB, (2, 4)))


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_the_written_cells_are_pytorchs(kind):
    theirs = getattr(torch.nn, kind)(7, 11)
    ours = getattr(cells, kind)(7, 11)
    ours.load_state_dict(theirs.state_dict())
    inputs, h, c = torch.randn(5, 7), torch.randn(5, 11), torch.randn(5, 11)
    state = (h, c) if kind == "LSTMCell" else h
    torch.testing.assert_close(ours(inputs, state), theirs(inputs, state), atol=1e-6, rtol=0)


def test_the_cell_model_is_the_same_from_both_cells_and_from_pytorchs_loop():
    torch_cell, written = make(lm.language.CharStatefulCell), lm.language.CharStatefulCell(VOCAB, cell="written")
    written.load_state_dict(torch_cell.state_dict())
    whole = lm.language.CharStateful(VOCAB)
    whole.load_state_dict(
        {key.replace("cell.", "rnn.") + "_l0" * ("cell." in key): v for key, v in torch_cell.state_dict().items()}
    )
    tokens = torch.randint(VOCAB, (4, 9))
    expected, _ = whole(tokens)
    for model in (torch_cell, written):
        torch.testing.assert_close(model(tokens)[0], expected, atol=1e-5, rtol=0)


def test_identity_initialisation_starts_by_passing_the_state_on():
    assert torch.equal(lm.language.CharSeq(VOCAB, identity=True).rnn.weight_hh_l0, torch.eye(256))
    assert not torch.equal(lm.language.CharSeq(VOCAB).rnn.weight_hh_l0, torch.eye(256))
