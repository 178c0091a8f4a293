"""Text out: by carried state, from a checkpoint, from the command line."""

from itertools import islice

import pytest
import torch

import lm.language
from lm.language.checkpoint import TrainedLanguageModel
from lm.language.generation import encode_prompt, generate, special_ids
from lm.text import Tokenizer, Vocabulary
from unroll.errors import UserError
from unroll.resume.checkpoint import KEY, describe

CARRYING = [lm.language.Stateful, lm.language.RNN, lm.language.GRU, lm.language.CharStatefulCell, lm.language.CharLSTM]
CARRYING += [lm.language.AWDLSTM, lm.language.AWDGRU, lm.language.QRNN, lm.language.MinGRU, lm.language.MinLSTM]
CARRYING += [lm.language.MinGRUBlocks, lm.language.Mogrifier]


def model_of(model_class, vocab_size=20):
    torch.manual_seed(0)
    return model_class(vocab_size=vocab_size, hidden_size=32).eval()


def take(number, *arguments, **settings):
    return list(islice(generate(*arguments, **settings), number))


@pytest.mark.parametrize("model_class", CARRYING)
def test_carrying_the_state_is_rerunning_the_whole_prefix(model_class):
    model = model_of(model_class)
    prompt = torch.tensor([3, 1, 4])
    carried = take(40, model, prompt, greedy=True)
    prefix = prompt.tolist()
    for _ in range(40):
        logits, _ = model(torch.tensor([prefix]))
        prefix.append(int(logits[0, -1].argmax()))
    assert carried == prefix[3:]


@pytest.mark.parametrize("model_class", CARRYING)
def test_each_token_costs_one_step(model_class):
    model = model_of(model_class)
    read = []
    model.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].size(1)))
    take(10, model, torch.tensor([3, 1, 4]))
    assert read == [3] + [1] * 9


def test_a_carried_state_has_seen_all_of_a_prompt_that_is_longer_than_a_window():
    model, prompt = model_of(lm.language.GRU), torch.arange(12)
    assert take(20, model, prompt, greedy=True, context=3) == take(20, model, prompt, greedy=True)


@pytest.mark.parametrize("model_class", [lm.language.Loop, lm.language.CharRNN, lm.language.CharSeq])
def test_a_model_without_a_state_reads_its_window_again(model_class):
    model = model_of(model_class)
    read = []
    model.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0][0].tolist()))
    tokens = take(3, model, torch.tensor([3, 1, 4]), greedy=True, context=3)
    assert read == [[3, 1, 4], [1, 4, tokens[0]], [4, *tokens[:2]]]


def test_draws_follow_the_softmax_at_the_temperature():
    model = model_of(lm.language.GRU, vocab_size=5)
    prompt = torch.tensor([1])
    drawn = torch.tensor([take(1, model, prompt, temperature=0.5, seed=seed)[0] for seed in range(3000)])
    expected = (model(prompt[None])[0][0, -1] / 0.5).softmax(-1)
    torch.testing.assert_close(drawn.bincount(minlength=5) / 3000, expected, atol=0.03, rtol=0)


def test_a_seed_gives_the_same_text_again():
    model, prompt = model_of(lm.language.GRU), torch.tensor([1])
    assert take(30, model, prompt, seed=7) == take(30, model, prompt, seed=7)
    assert take(30, model, prompt, seed=7) != take(30, model, prompt, seed=8)


def test_generation_leaves_the_programs_own_draws_alone():
    model, prompt = model_of(lm.language.GRU), torch.tensor([1])
    before = torch.get_rng_state()
    take(5, model, prompt, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_on_between_two_tokens():
    for _ in islice(generate(model_of(lm.language.GRU), torch.tensor([1])), 2):
        assert torch.is_grad_enabled()


def test_top_k_and_never_limit_what_comes_out():
    model, prompt = model_of(lm.language.GRU), torch.tensor([1])
    first = model(prompt[None])[0][0, -1]
    best = first.topk(3).indices.tolist()
    drawn = {take(1, model, prompt, top_k=3, seed=seed)[0] for seed in range(200)}
    assert drawn == set(best)
    assert take(1, model, prompt, top_k=1, seed=0) == take(1, model, prompt, greedy=True)
    assert take(1, model, prompt, greedy=True, never=(best[0],)) == [best[1]]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        take(1, model_of(lm.language.GRU), torch.tensor([1]), **settings)


def test_what_a_prompt_has_that_the_model_does_not_know_is_named():
    vocabulary = Vocabulary.build("abc", Tokenizer("characters"))
    with pytest.raises(UserError, match="'x', 'é'"):
        encode_prompt(vocabulary, "axbéx")
    with pytest.raises(UserError, match="empty"):
        encode_prompt(vocabulary, "")


class TestCommand:
    def test_a_text_is_continued_by_texts(self, checkpoint):
        loaded = TrainedLanguageModel.load(checkpoint("words", "eight thousand nine"))
        pieces = take(7, loaded, "eight thousand", seed=1)
        prompt = encode_prompt(loaded.vocabulary, "eight thousand")
        numbers = take(7, loaded.model, prompt, seed=1, context=loaded.context, never=special_ids(loaded.vocabulary))
        assert pieces == [f" {loaded.vocabulary.entries[number]}" for number in numbers]
        with pytest.raises(UserError, match="a text needs the vocabulary"):
            generate(loaded.model, "eight")

    @pytest.fixture
    def checkpoint(self, tmp_path):
        def make(tokenizer="characters", text="abc \n"):
            vocabulary = Vocabulary.build(Tokenizer(tokenizer).split(text), Tokenizer(tokenizer))
            settings = {"hidden_size": 16}
            torch.manual_seed(0)
            model = lm.language.GRU(vocab_size=len(vocabulary), **settings)
            description = {
                "vocabulary": vocabulary.entries,
                "tokenizer": vocabulary.tokenizer.settings(),
                "context": 8,
                "prompt": text[:3],
                "excerpt": text,
            }
            content = {
                "state_dict": {f"model.{key}": tensor for key, tensor in model.state_dict().items()},
                KEY: describe(model, {**settings, "vocab_size": len(vocabulary)}, description),
            }
            path = tmp_path / f"{tokenizer}.ckpt"
            torch.save(content, path)
            return path

        return make

    def test_it_goes_on_from_the_prompt(self, program, checkpoint):
        answer = program("lm.generate", checkpoint(), "--prompt", "cab", "--length", 50, "--seed", 1)
        assert answer.stderr == ""
        assert answer.stdout.startswith("cab")
        assert len(answer.stdout) == 3 + 50 + 1
        assert set(answer.stdout) <= set("abc \n")

    def test_words_are_apart(self, program, checkpoint):
        path = checkpoint("words", "eight thousand nine")
        answer = program("lm.generate", path, "--prompt", "eight thousand", "--length", 5, "--greedy")
        words = answer.stdout.split(" ")
        assert words[:2] == ["eight", "thousand"]
        assert len(words) == 7

    def test_without_a_prompt_it_begins_as_the_data_does(self, program, checkpoint):
        assert program("lm.generate", checkpoint(), "--length", 2).stdout.startswith("abc")

    def test_interactive_answers_each_line(self, program, checkpoint):
        answer = program("lm.generate", checkpoint(), "--interactive", "--length", 0, input="ab\nxy\nca\n")
        assert answer.stdout.split() == ["ab", "ca"]
        assert "'x', 'y'" in answer.stderr

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"not a checkpoint", "not a checkpoint"),
            (None, "no such file"),
            ("truncated", "not a checkpoint"),
            ("another program's", "not a checkpoint of this project"),
        ],
    )
    def test_what_is_no_checkpoint_is_answered_in_one_line(self, program, checkpoint, tmp_path, content, words):
        path = tmp_path / "some.ckpt"
        if content == "truncated":
            path.write_bytes(checkpoint().read_bytes()[:-2000])
        elif content == "another program's":
            torch.save({"state_dict": {}, "epoch": 3}, path)
        elif content is not None:
            path.write_bytes(content)
        answer = program("lm.generate", path)
        assert answer.returncode == 1
        assert answer.stdout == ""
        (line,) = answer.stderr.splitlines()
        assert line.startswith("error: ")
        assert words in line

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--prompt", "axé"], "'x', 'é'"),
            (["--temperature", "0"], "temperature=0"),
            (["--top-k", "0"], "must be 1 or more"),
            (["--length", "many"], "invalid whole number value: 'many'"),
        ],
    )
    def test_bad_arguments_are_named(self, program, checkpoint, arguments, words):
        answer = program("lm.generate", checkpoint(), *arguments)
        assert answer.returncode != 0
        assert words in answer.stderr.splitlines()[-1]
