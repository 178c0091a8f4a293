"""What a choice brings with it, what wins, and what is said of a wrong name."""

import copy
import re
import subprocess
import sys

import pytest
import torch
from helpers.configuration import CONFIG_DIR, composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from unroll.cli import build, help
from unroll.cli.config import check, groups
from unroll.cli.messages import explain, quoted_if_needed
from unroll.cli.run_directory import split_override
from unroll.errors import UserError


def choices(group):
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("[!_]*.yaml"))


def composed_text(group, name):
    return (CONFIG_DIR / group / f"{name}.yaml").read_text()


def named_by(model):
    """The optimizer and the schedule that a model's file names."""
    return dict(re.findall(r"override /(optimizer|schedule): (\w+)", composed_text("model", model)))


def built(*choices, **typed):
    """What whoever takes the values makes of them, as far as the first step needs it.

    Args:
        choices: what is composed, once for all that has the same.
        typed: values by key, in Hydra's grammar, in place of the chosen.
    """
    config = copy.deepcopy(composed("run_dir=run", *choices))
    for override in OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in typed.items()]):
        OmegaConf.update(config, override.key_or_group, override.value(), merge=False)
    check(config)
    return build.learner(config, build.data(config)), build.callbacks(config)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[Größe]", ["Größe"]),
        ("[x=y,a.b]", ["x=y", "a.b"]),
        ("[wind (m/s), Last °C]", ["wind (m/s)", "Last °C"]),
        ("[out temp]", ["out temp"]),
        ("['x=y']", ["x=y"]),
    ],
)
def test_a_list_may_have_names_that_are_no_words(value, names):
    parsed = OverridesParser.create().parse_override(quoted_if_needed(f"data.columns={value}"))
    assert parsed.value() == names


GROUPS = ("model", "data", "optimizer", "schedule", "trainer", "callbacks", "average", "evaluate", "logger")
GROUPS += ("experiment", "debug")
EVERY_CHOICE = [f"{group}={name}" for group in GROUPS for name in choices(group)]


@pytest.mark.parametrize("choice", EVERY_CHOICE)
@pytest.mark.few(25)
def test_every_choice_composes_and_passes_its_own_checks(choice):
    needed = {
        "data=text": ["data.train=a.txt"],
        "data=series": ["model=forecaster", "data.train=a.csv"],
        "data=columns": ["model=tagger", "data.train=a.txt"],
        "data=conll2000": ["model=tagger"],
        "data=images": ["model=resnet", "data.path=folder"],
        "data=documents": ["model=classifier", "data.train=a.csv"],
        "data=documents_text": ["data.train=a.csv"],
        "data=movie_reviews": ["model=classifier"],
        "model=forecaster": ["data.train=a.csv"],
        "experiment=m4_hourly": ["data.train=a.csv"],
        "experiment=ladder": ["model=resnet"],
        "experiment=pretrain": ["data.train=a.txt"],
        "experiment=fine_tune": ["init=a"],
        "experiment=classify": ["init=a"],
        "experiment=nietzsche_fine_tune": ["init=a"],
    }
    if "ptb" in choice:
        needed[choice] = ["data.path=ptb.zip"]
    about_images = choice in ("data=cifar10", "data=shapes")
    check(composed(choice, *needed.get(choice, ["model=resnet"] if about_images else [])))


@pytest.mark.parametrize(
    ("model", "bptt", "epochs", "lr", "pct_start"),
    [
        ("unrolled", 3, 6, 1e-4, 0.3),
        ("loop", 3, 6, 1e-4, 0.3),
        ("multi_output", 20, 10, 1e-4, 0.1),
        ("stateful", 20, 20, 3e-3, 0.3),
        ("rnn", 20, 20, 3e-3, 0.3),
        ("gru", 20, 10, 1e-2, 0.3),
    ],
)
def test_a_model_brings_its_lesson(model, bptt, epochs, lr, pct_start):
    config = composed(f"model={model}", "data=human_numbers")
    assert config == composed(f"model={model}")
    assert (config.data.bptt, config.data.batch_size) == (bptt, 64)
    assert config.trainer.max_epochs == epochs
    assert config.optimizer.lr == lr
    assert (config.optimizer._target_, config.optimizer.weight_decay) == ("torch.optim.AdamW", 0.01)
    assert list(config.optimizer.betas) == [0.9, 0.99]
    assert config.schedule.pct_start == pct_start


@pytest.mark.parametrize(
    ("model", "layout", "bptt", "stride", "epochs", "lr", "falls_after"),
    [
        ("char_three", "windows", 3, None, 2, 1e-2, [1]),
        ("char_loop", "windows", 8, 1, 2, 1e-2, [1]),
        ("char_concat", "windows", 8, 1, 2, 1e-3, [1]),
        ("char_rnn", "windows", 8, 1, 6, 1e-3, [4]),
        ("char_seq", "windows", 8, None, 5, 1e-3, [4]),
        ("char_seq_identity", "windows", 8, None, 8, 1e-2, [4]),
        ("char_stateful", "stream", 8, None, 8, 1e-3, [4]),
        ("char_stateful_cell", "stream", 8, None, 4, 1e-3, None),
        ("char_gru", "stream", 8, None, 9, 1e-3, [6]),
    ],
)
def test_a_character_model_brings_its_lesson(model, layout, bptt, stride, epochs, lr, falls_after):
    config = composed(f"model={model}")
    assert config.data._target_ == "lm.language.data.Nietzsche"
    assert (config.data.layout, config.data.bptt, config.data.stride) == (layout, bptt, stride)
    assert config.data.batch_size == (512 if layout == "windows" else 64)
    assert config.trainer.max_epochs == epochs
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.Adam", lr)
    assert config.schedule.get("epochs") == falls_after
    assert (config.model.embedding_size, config.model.hidden_size) == (42, 256)


def test_the_lstm_brings_warm_restarts_and_a_checkpoint_for_each_cycle():
    config = composed("model=char_lstm")
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.trainer.max_epochs) == (1e-2, 1e-5, 2 + 15)
    assert (config.model.hidden_size, config.model.num_layers, config.model.dropout) == (512, 2, 0.5)
    assert config.schedule._target_ == "unroll.training.schedules.sgdr"
    assert (config.schedule.cycle_length, config.schedule.cycle_mult) == (1, 2)
    assert (config.schedule.constant_epochs, config.callbacks.cycles.constant_epochs) == (2, 2)
    assert "cycles" not in composed("model=char_lstm", "schedule=constant").callbacks


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("simple_net", {"hidden_size": 40}),
        ("conv_net", {"widths": [20, 40, 80]}),
        ("conv_layers", {"widths": [20, 40, 80]}),
        ("conv_bn", {"widths": [10, 20, 40, 80, 160]}),
        ("conv_bn_deep", {"widths": [10, 20, 40, 80, 160]}),
        ("resnet", {"widths": [10, 20, 40, 80, 160], "added": 2}),
        ("resnet_preact", {"widths": [16, 32, 64, 128], "blocks": 1, "dropout": 0.2}),
    ],
)
def test_a_model_of_images_brings_cifar10(model, settings):
    config = composed(f"model={model}")
    check(config)
    assert config.data._target_ == "vision.data.data_modules.CIFAR10"
    assert (config.data.batch_size, config.trainer.max_epochs) == (128, 12)
    assert config.schedule._target_ == "unroll.training.schedules.one_cycle"
    assert config.learner._target_ == "vision.learner.ImageClassifier"
    assert "samples" not in config.callbacks
    assert config.callbacks.mistakes._target_ == "vision.callbacks.Mistakes"
    assert {key: config.model[key] for key in settings} == settings
    assert not composed(f"model={model}", "callbacks=none").callbacks


def test_a_recipe_is_for_one_model_on_one_corpus():
    wide, narrow = composed("model=resnet_preact"), composed("model=resnet_preact", "data=shapes")
    assert narrow.model.widths[0] < wide.model.widths[0]
    assert composed("model=resnet_preact", "data=shapes", "model.widths=[3]").model.widths == [3]
    models = {*choices("model"), *(f"{model}_{name}" for model in choices("model") for name in choices("schedule"))}
    recipes = list(CONFIG_DIR.glob("recipe/*/*.yaml"))
    assert {file.parent.name for file in recipes} <= set(choices("data"))
    assert {file.stem for file in recipes} <= models


@pytest.mark.parametrize("model", [name for name in choices("model") if "learner" not in composed_text("model", name)])
@pytest.mark.slow
def test_no_number_of_a_lesson_follows_the_model_to_other_data(model):
    text = ["data=text", "data.train=a.txt"]
    config, defaults = composed(f"model={model}", *text), composed(*text)
    alone = {name: composed(*text, f"{name}={chosen}") for name, chosen in named_by(model).items()}
    assert config.data == defaults.data
    assert config.trainer == defaults.trainer
    for name, choice in alone.items():
        assert config[name] == choice[name], name


OTHERS = ["data=text", "optimizer=sgd", "schedule=constant"], ["data=nietzsche_windows"]


@pytest.fixture(scope="module", params=OTHERS, ids=" ".join)
def others(request):
    """Other choices, and what they are by themselves."""
    return request.param, composed(*request.param)


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.slow
def test_what_a_model_brings_fits_every_other_choice(others, model):
    chosen, alone = others
    mixed = composed(f"model={model}", *chosen)
    for group in (choice.split("=")[0] for choice in chosen):
        assert set(mixed[group]) == set(alone[group])


def test_what_is_typed_wins_over_what_the_model_brings():
    typed = ["data.bptt=7", "data.batch_size=5", "optimizer.lr=0.5", "trainer.max_epochs=2", "schedule=constant"]
    config = composed("model=rnn", "data=text", "optimizer=sgd", *typed)
    assert (config.data.bptt, config.data.batch_size, config.optimizer.lr) == (7, 5, 0.5)
    assert config.trainer.max_epochs == 2
    assert config.data._target_.endswith("TextFiles")
    assert config.optimizer._target_ == "torch.optim.SGD"
    assert config.schedule._target_ == "unroll.training.schedules.constant"


@pytest.mark.parametrize(
    "override",
    [
        "data.bptt=0",
        "data.bptt=2.5",
        "data.bptt=true",
        "data.batch_size=-1",
        "data.tail=cut",
        "data.tokenizer=bytes",
        "optimizer.lr=-1",
        "optimizer.lr=abc",
        "optimizer.lr=nan",
        "optimizer.lr=null",
        "optimizer.weight_decay=-0.1",
        "optimizer.betas=[0.9]",
        "optimizer.groups=embed",
        "optimizer.groups={embed: 3}",
        "schedule.pct_start=1.5",
        "trainer.max_epochs=0",
        "trainer.devices=0",
        "checkpoint.every_n_steps=0",
        "checkpoint.every_n_minutes=-1",
        "checkpoint.requeue=often",
        "model.hidden_size=0",
        "model.hidden_dropout=1",
        "model.tie=maybe",
        "model.ar=-1",
        "forget=1",
        "label_smoothing=-0.1",
        "objective=valid/los",
        "data.numbers.train=[7999,1]",
        "callbacks.average.start=-0.5",
        "callbacks.average.decay=1",
        "callbacks.progress.refresh_seconds=soon",
        "callbacks.progress.refresh_seconds=-1",
        "seed=x",
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(override):
    key, value = override.split("=")
    with pytest.raises(UserError, match=f"^{re.escape(key)}=.*: must be "):
        built("model=awd_gru", "average=mean", **{key: value})


@pytest.mark.parametrize("override", ["model.window=3", "model.pooling=ifo", "data.lines.valid=[0.8,1.2]"])
def test_so_is_one_of_a_part_that_not_all_choices_have(override):
    key, value = override.split("=")
    with pytest.raises(UserError, match=f"^{key}=.*: must be "):
        built("model=qrnn", *["data=nietzsche"] * ("lines" in override), **{key: value})


@pytest.mark.parametrize(
    "override",
    ["model.widths=10", "model.widths=[]", "model.added=0", "data.train_images=1", "data.pad=-1", "data.flip=2"],
)
def test_so_is_one_of_a_model_of_images(override):
    key, value = override.split("=")
    with pytest.raises(UserError, match=f"^{key}=.*: must be "):
        built("model=resnet", "data=shapes", **{key: value})


def test_what_is_for_text_is_not_taken_by_a_model_of_images():
    with pytest.raises(HydraException) as caught:
        composed("model=resnet", "forget=0.1")
    assert "there is no forget" in explain(caught.value, ["model=resnet", "forget=0.1"])
    with pytest.raises(UserError, match=r"^objective=valid/perplexity: must be one of: train/loss, valid/loss, valid/"):
        built("model=resnet", "data=shapes", "objective=valid/perplexity")


OF_THE_DEVICE = ("accelerator", "devices", "num_nodes", "strategy", "precision")  # Lightning itself refuses others


def test_a_setting_of_the_trainer_of_another_type_is_refused_by_name():
    config = composed()
    for name in set(config.trainer) - {"_target_", "default_root_dir", *OF_THE_DEVICE}:
        wrong = copy.deepcopy(config)
        wrong.trainer[name] = [1.5]
        with pytest.raises(UserError, match=rf"^trainer\.{name}=\[1\.5\]: must be "):
            check(wrong)


def test_scaled_losses_and_clipping_do_not_go_with_a_fused_optimizer():
    settings = ["trainer.precision=16-mixed", "trainer.gradient_clip_val=1"]
    with pytest.raises(UserError, match=r"optimizer\.fused=false"):
        check(composed(*settings))
    check(composed(*settings, "optimizer.fused=false"))


def test_a_file_that_must_be_given_is_asked_for():
    with pytest.raises(UserError, match=r"data\.train"):
        check(composed("data=text"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "model=gruu",
            [
                "model=gruu",
                "gru, loop, min_gru, min_gru_blocks, min_lstm, min_lstm_blocks, mogrifier, multi_output, qrnn",
                "did you mean gru?",
            ],
        ),
        (
            "data=nietsche",
            [
                "data=nietsche",
                "cifar10, columns, conll2000, documents, documents_text, human_numbers",
                "mean nietzsche?",
            ],
        ),
        ("data.bpt=3", ["data.bpt", "batch_size, bptt", "did you mean bptt?"]),
        ("modle=gru", ["modle", "model, monitor, objective, optimizer", "did you mean model?"]),
        ("model.hidden=3", ["model.hidden", "embedding_size, head, hidden_size, num_layers"]),
        ("data.bptt.x=3", ["data.bptt.x"]),
        ("model.norm=true", ["there is no model.norm; under model, choose from: ", "model=awd_gru, model=awd_lstm, "]),
        ("data.train=a.txt", ["data.train", "; data=columns, data=documents, data=documents_text, data=series, data"]),
        ("data.bptt=[1", ["[1"]),
    ],
)
def test_a_wrong_name_is_answered_by_one_line_with_the_choices(override, words):
    with pytest.raises(HydraException) as caught:
        composed(override)
    line = explain(caught.value, [override])
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_directory_can_have_any_name():
    arguments = ["seed=1", "resume=a", "resume='with space'", "+resume=007"]
    assert split_override(arguments[:2], "resume") == ("a", ["seed=1"])
    assert split_override(arguments[:3], "resume") == ("with space", ["seed=1"])
    assert split_override(arguments, "resume") == ("007", ["seed=1"])
    assert split_override([*arguments, "resume=null"], "resume") == (None, ["seed=1"])


def test_an_error_that_is_not_the_users_is_not_explained_away():
    assert explain(ValueError("a bug"), []) is None


@pytest.mark.slow
def test_denormal_numbers_become_zeros_on_every_thread():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    program = """
import torch
from unroll.cli.processes import set_arithmetic
set_arithmetic(0, 2, "highest")
print((torch.full((1_000_000,), 1e-30) * 1e-10).count_nonzero().item())
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.stdout.strip() == "0", finished.stderr


def test_the_choices_of_a_group_are_asked_for_with_a_question_mark():
    assert help.groups_asked_for(["model=?", "data=text", "nothing=?", "seed=?"]) == ["model"]
    lines = help.choices_of("average").splitlines()
    assert lines[0] == "average:"
    assert [line.split()[0] for line in lines[1:]] == ["mean", "moving", "nt_asgd"]
    assert "gated recurrent units" in next(
        line for line in help.choices_of("model").splitlines() if line[2:6] == "gru "
    )


@pytest.mark.parametrize("group", sorted(groups() - help.NOT_CHOSEN_BY_NAME))
def test_a_choice_is_told_by_a_sentence_of_its_own(group):
    _, *lines = help.choices_of(group).splitlines()
    for line in lines:
        name, *words = line.split()
        assert words, name
        assert words[-1] != "al"
        assert group != "model" or "same" not in words, f"{name}: the list is sorted by name, so as what?"
