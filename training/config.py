"""What may stand in a configuration, checked before anything heavy is imported."""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from training.errors import UserError
from training.runs import METRICS

CONFIG_DIR = Path(__file__).parents[1] / "conf"
TEXT, PICTURES = "text", "pictures"


class Rule(NamedTuple):
    holds: Callable[[Any], bool]
    words: str


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(at_least: int) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= at_least

    return Rule(holds, f"a whole number, {at_least} or more")


def between(low: float, high: float) -> Rule:
    return Rule(lambda value: is_number(value) and low <= value < high, f"a number from {low:g} to below {high:g}")


def or_null(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.words}, or null")


def one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"one of: {', '.join(choices)}")


above_zero = Rule(lambda value: is_number(value) and value > 0, "a number above 0")
above_one = Rule(lambda value: is_number(value) and value > 1, "a number above 1")
zero_or_more = Rule(lambda value: is_number(value) and value >= 0, "a number, 0 or more")
fraction = Rule(lambda value: is_number(value) and 0 < value < 1, "a number between 0 and 1")
yes_or_no = Rule(lambda value: isinstance(value, bool), "true or false")
betas = Rule(
    lambda value: OmegaConf.is_list(value) and len(value) == 2 and all(is_number(b) and 0 <= b < 1 for b in value),
    "two numbers from 0 to below 1, as in [0.9,0.99]",
)

layer_groups = or_null(
    Rule(
        lambda value: OmegaConf.is_dict(value) and all(OmegaConf.is_dict(settings) for settings in value.values()),
        "the settings of layers by name, as in {embed: {lr: 1e-4}}",
    )
)

first_and_last = Rule(
    lambda value: (
        OmegaConf.is_list(value)
        and len(value) == 2
        and all(whole(1).holds(number) for number in value)
        and value[0] <= value[1] < 1_000_000
    ),
    "the first and the last number, as in [1,7999]",
)
two_shares = Rule(
    lambda value: (
        OmegaConf.is_list(value) and len(value) == 2 and all(map(is_number, value)) and 0 <= value[0] < value[1] <= 1
    ),
    "two rising shares from 0 to 1, as in [0,0.8]",
)
DROPOUTS = ("embed_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_drop")

# Only what is there is checked: each choice has some of these.
RULES = {
    "task": one_of("train", "show_batch", "summary", "lr_find", "plan", "evaluate"),
    "seed": whole(0),
    "objective": one_of(*METRICS),
    "threads": or_null(whole(1)),
    "float32_matmul": one_of("highest", "high", "medium"),
    "label_smoothing": between(0, 1),
    "forget": between(0, 1),
    "data.bptt": whole(1),
    "data.batch_size": whole(1),
    "data.numbers.train": first_and_last,
    "data.numbers.valid": first_and_last,
    "data.lines.train": two_shares,
    "data.lines.valid": two_shares,
    "data.tail": one_of("keep", "drop"),
    "data.jitter": yes_or_no,
    "data.tokenizer": one_of("characters", "words", "bpe"),
    "data.vocab_size": whole(256),
    "data.lower": yes_or_no,
    "data.min_freq": whole(1),
    "data.valid_fraction": fraction,
    "data.stride": whole(1),
    "data.split_seed": whole(0),
    "data.split_among": or_null(whole(1)),
    "data.train_images": whole(2),
    "data.valid_images": whole(1),
    "data.pad": whole(0),
    "data.flip": yes_or_no,
    "model.embedding_size": whole(1),
    "model.hidden_size": whole(1),
    "model.num_layers": whole(1),
    "model.dropout": between(0, 1),
    **{f"model.{kind}": between(0, 1) for kind in DROPOUTS},
    "model.norm": yes_or_no,
    "model.tie": yes_or_no,
    "model.ar": zero_or_more,
    "model.tar": zero_or_more,
    "model.window": Rule(lambda value: value in (1, 2), "1 or 2"),
    "model.pooling": one_of("f", "fo"),
    "model.compile": Rule(lambda value: value in (True, False, "graph"), "true, false or graph"),
    "model.identity": yes_or_no,
    "model.cell": one_of("torch", "written"),
    "model.widths": Rule(
        lambda value: OmegaConf.is_list(value) and len(value) > 0 and all(whole(1).holds(width) for width in value),
        "a list of whole numbers, 1 or more, as in [10,20,40]",
    ),
    "model.added": whole(1),
    "model.blocks": whole(1),
    "optimizer.lr": above_zero,
    "optimizer.weight_decay": zero_or_more,
    "optimizer.momentum": between(0, 1),
    "optimizer.betas": betas,
    "optimizer.eps": above_zero,
    "optimizer.fused": yes_or_no,
    "schedule.pct_start": fraction,
    "schedule.div_factor": above_one,
    "schedule.final_div_factor": above_one,
    "schedule.base_momentum": between(0, 1),
    "schedule.max_momentum": between(0, 1),
    "schedule.epochs": Rule(
        lambda value: OmegaConf.is_list(value) and all(whole(1).holds(epoch) for epoch in value),
        "a list of whole numbers, 1 or more, as in [4,6]",
    ),
    "schedule.factor": above_zero,
    "schedule.constant_epochs": whole(0),
    "schedule.cycle_length": whole(1),
    "schedule.cycle_mult": whole(1),
    "callbacks.average.start": between(0, 1),
    "callbacks.average.decay": or_null(fraction),
    "trainer.max_epochs": whole(1),
    "trainer.max_steps": whole(-1),
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.devices": Rule(lambda value: not is_number(value) or whole(1).holds(value), "a whole number, 1 or more"),
    "trainer.num_nodes": whole(1),
    "checkpoint.every_n_steps": or_null(whole(1)),
    "checkpoint.every_n_minutes": or_null(above_zero),
    "checkpoint.requeue": yes_or_no,
    "trainer.log_every_n_steps": whole(1),
}


def check(config: DictConfig) -> None:
    """Refuses values that can't be meant.

    Raises:
        UserError: a value is out of its range or of another kind, or one that must be given is missing.
    """
    refuse_what_does_not_go_together(config)
    for key in sorted(OmegaConf.missing_keys(config.data)):
        raise UserError(f"data.{key} is not given; write data.{key}=…")
    if (config.task == "evaluate") != (config.ckpt is not None):
        raise UserError("task=evaluate and ckpt=FILE go together")
    groups = config.optimizer.groups
    refuse_unless(layer_groups, "optimizer.groups", groups)
    for name, settings in (groups or {}).items():
        for setting, value in settings.items():
            key = f"optimizer.groups.{name}.{setting}"
            rule = RULES.get(f"optimizer.{setting}")
            if rule is None or setting not in config.optimizer:
                known = (other for other in config.optimizer if f"optimizer.{other}" in RULES)
                raise UserError(f"there is no {key}; {suggest(setting, known)}")
            refuse_unless(rule, key, value)
    for key, rule in RULES.items():
        value = OmegaConf.select(config, key, default=rule)
        if value is not rule:
            refuse_unless(rule, key, value)
    if config.data.get("tokenizer") == "bpe" and "vocab_size" not in config.data:
        raise UserError("data.tokenizer=bpe is for text of your own (data=text)")
    scales_losses = str(config.trainer.precision).startswith("16")
    if scales_losses and config.trainer.gradient_clip_val and config.optimizer.get("fused"):
        raise UserError("trainer.precision=16-mixed with trainer.gradient_clip_val needs optimizer.fused=false")


def refuse_what_does_not_go_together(config: DictConfig) -> None:
    """Models of text need text, models of pictures need pictures."""
    data, model = kind(config.data), kind(config.learner)
    if data and model and data != model:
        raise UserError(
            f"the data are {data}, and the model is for {model}; choose a model for {data}: "
            f"{', '.join(choices('model', data))}; or {model}: {', '.join(choices('data', model))}"
        )
    if model == PICTURES and config.forget:
        raise UserError(f"forget={config.forget}: a model for pictures has no state to forget")
    if model == PICTURES and config.objective == "valid/perplexity":
        raise UserError("objective=valid/perplexity: is for text; for pictures choose valid/loss or valid/accuracy")


def kind(part: DictConfig) -> str | None:
    """What it is about, if it is one of ours."""
    return {"lm": TEXT, "vision": PICTURES}.get(str(part.get("_target_")).split(".")[0])


def choices(group: str, about: str) -> list[str]:
    """The names in a group that are about text, or about pictures."""
    files = sorted((CONFIG_DIR / group).glob("*.yaml"))
    return [file.stem for file in files if ("_target_: vision." in file.read_text()) == (about == PICTURES)]


def refuse_unless(rule: Rule, key: str, value: Any) -> None:
    if not rule.holds(value):
        raise UserError(f"{key}={value}: must be {rule.words}")


def explain(error: Exception, overrides: Iterable[str]) -> str | None:
    """What is wrong with what the user gave, in one line, with the choices there are.

    Args:
        error: what we, Hydra or OmegaConf raised.
        overrides: the command line.

    Returns:
        The line, or None if the error is not the user's.
    """
    message = str(error)
    if isinstance(error, InstantiationException):
        cause = error.__cause__
        if isinstance(cause, UserError):
            return str(cause)
        key = re.search(r"full_key: (\S+)", message)
        where = f"{key[1]}: " if key else ""
        return one_line(f"{where}{cause or message}")
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        more = " (others: pip install 'unroll[sweep]')" if group in ("hydra/sweeper", "hydra/launcher") else ""
        return f"there is no {group}={name}; {suggest(name, error.options)}{more}"
    unknown = re.match(r"Could not override '([^']+)'", message)
    if isinstance(error, ConfigCompositionException) and unknown:
        parent, names = siblings(unknown[1], overrides)
        last = unknown[1].removeprefix(f"{parent}.").split(".")[0]
        return f"there is no {unknown[1]}; {f'under {parent}, ' if parent else ''}{suggest(last, names)}"
    if isinstance(error, OSError) and error.strerror:  # a disk that is full names no file
        return f"{error.filename or 'the run directory'}: {error.strerror}"
    if "are you indeed on a slurm cluster" in message:  # submitit's
        return "hydra/launcher=submitit_slurm: there is no Slurm here; submitit_local or joblib use this machine alone"
    if message.startswith("Config group override must be"):  # Hydra's, as a bare ValueError
        return "a choice needs a name (to leave one out: logger=none); --help lists the choices"
    if isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        return one_line(message)
    return None


def siblings(key: str, overrides: Iterable[str]) -> tuple[str, list[str]]:
    """The nearest part of the configuration that exists above a key, and the names in it."""
    groups = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()} - {"hydra"}
    chosen = [override for override in overrides if override.split("=")[0] in groups]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", overrides=chosen)
    while key:
        key = key.rpartition(".")[0]
        node = OmegaConf.select(config, key) if key else config
        if isinstance(node, DictConfig):
            return key, sorted(str(name) for name in node if not str(name).startswith("_"))
    return "", sorted(str(name) for name in config)


def suggest(name: str, choices: Iterable[str]) -> str:
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"choose from: {', '.join(choices)}{guess}"


def one_line(message: str) -> str:
    return " ".join(message.split())
