"""The configuration: where its choices are, how it is composed, and the values of the command itself, which are checked
here before anything heavy is imported.

All other values are checked by who takes them, when the run is built.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from unroll.checks import (
    Rule,
    above_zero,
    is_number,
    one_of,
    or_null,
    whole,
    yes_or_no,
    zero_or_more,
)
from unroll.errors import ArgumentError, UserError

PAGE = "docs/configure.md"
ROOT_CONFIG = "train"
TASKS = ("train", "show_batch", "summary", "lr_find", "plan", "evaluate")

batches = Rule(
    lambda value: whole(1).holds(value) or (isinstance(value, float) and 0 < value <= 1),
    "a whole number, 1 or more, or a share of the batches above 0 up to 1.0",
)
batches_or_none = Rule(lambda value: value == 0 or batches.holds(value), f"{batches.words}; 0 for none")

text_or_part = (str, Mapping)  # Lightning reads lengths of time from both
interval = Rule(
    lambda value: batches.holds(value) or isinstance(value, text_or_part),
    f"{batches.words}; or a length of time, DD:HH:MM:SS",
)
duration = Rule(lambda value: isinstance(value, text_or_part), "a length of time, DD:HH:MM:SS")
profilers = one_of("simple", "advanced", "pytorch")
profiler = Rule(lambda value: profilers.holds(value) or is_part(value), profilers.words)


def is_part(value: Any) -> bool:
    """Whether a value is a part of a configuration that builds an object."""
    return isinstance(value, Mapping) and "_target_" in value


SWITCHES = (
    "barebones",
    "detect_anomaly",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "inference_mode",
    "sync_batchnorm",
    "use_distributed_sampler",
)

# Values of the command itself; keys that a configuration does not have are skipped.
RULES = {
    "task": one_of(*TASKS),
    "seed": whole(0),
    "threads": or_null(whole(1)),
    "float32_matmul": one_of("highest", "high", "medium"),
    "model.compile": one_of(True, False, "graph"),
    "trainer.max_epochs": whole(1),
    "trainer.max_steps": whole(-1),
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.gradient_clip_val": or_null(zero_or_more),
    "trainer.limit_train_batches": batches,
    "trainer.limit_val_batches": batches_or_none,
    "trainer.devices": Rule(lambda value: not is_number(value) or whole(1).holds(value), whole(1).words),
    "trainer.num_nodes": whole(1),
    "trainer.log_every_n_steps": whole(1),
    "trainer.min_epochs": or_null(whole(0)),
    "trainer.min_steps": or_null(whole(0)),
    "trainer.max_time": or_null(duration),
    "trainer.gradient_clip_algorithm": or_null(one_of("norm", "value")),
    "trainer.val_check_interval": or_null(interval),
    "trainer.check_val_every_n_epoch": or_null(whole(1)),
    "trainer.limit_test_batches": or_null(batches_or_none),
    "trainer.limit_predict_batches": or_null(batches_or_none),
    "trainer.overfit_batches": batches_or_none,
    "trainer.fast_dev_run": Rule(
        lambda value: yes_or_no.holds(value) or whole(0).holds(value), "true or false, or a number of batches"
    ),
    "trainer.profiler": or_null(profiler),
    "trainer.deterministic": or_null(one_of(True, False, "warn")),
    "trainer.benchmark": or_null(yes_or_no),
    "trainer.reload_dataloaders_every_n_epochs": whole(0),
    "trainer.num_sanity_val_steps": whole(-1),
    "trainer.model_registry": or_null(Rule(lambda value: isinstance(value, str), "a name")),
    **{f"trainer.{name}": or_null(yes_or_no) for name in SWITCHES},
    "checkpoint.every_n_steps": or_null(whole(1)),
    "checkpoint.every_n_minutes": or_null(above_zero),
    "checkpoint.requeue": yes_or_no,
}


# Checks


def check(config: DictConfig) -> None:
    """Checks what can be checked without building anything.

    Raises:
        UserError: a value is out of range or missing, or the choices do not go together.
    """
    check_choices(config)
    for part in ("data", "model", "optimizer", "schedule", "learner"):
        for key in sorted(OmegaConf.missing_keys(config[part])):  # full keys, such as data.train
            raise UserError(f"{key} is not given; write {key}=…")
    for key, what in config.get("required", {}).items() if config.task in ("train", "lr_find") else ():
        if OmegaConf.select(config, key) is None:
            raise UserError(f"{key} is not given; write {key}=…, {what}")
    if (config.task == "evaluate") != (config.ckpt is not None):
        raise UserError("task=evaluate and ckpt=FILE go together")
    for key, rule in RULES.items():
        value = OmegaConf.select(config, key, default=rule)
        if value is not rule and not rule.holds(value):
            raise ArgumentError(key, value, rule.words)
    scales_losses = str(config.trainer.precision).startswith("16")
    if scales_losses and config.trainer.gradient_clip_val and config.optimizer.get("fused"):
        raise UserError("trainer.precision=16-mixed with trainer.gradient_clip_val needs optimizer.fused=false")


def check_choices(config: DictConfig) -> None:
    """Checks that the model takes what the data give, as their files say (`gives` and `takes`)."""
    gives, takes = config.data.get("gives"), config.learner.get("takes")
    if gives is None or takes is None or gives == takes:
        return
    learners = learners_that_take(gives)
    models = [name for name, file in choices("model") if learner_of(file) in learners]
    data = [name for name, file in choices("data") if inherited(file, "gives") == takes]
    raise UserError(
        f"the data give {gives} and the model takes {takes}; "
        f"models that take {gives}: {', '.join(models)}; data that give {takes}: {', '.join(data)}"
    )


# The folders of choices


CONFIG_DIR = "UNROLL_CONFIG_DIR"  # an environment variable: processes that this one starts have it too


def set_config_dir(folder: Path) -> None:
    """Says where the application's configuration is: `train.yaml`, and a folder for each group of choices."""
    os.environ[CONFIG_DIR] = str(folder.resolve())


def config_dir() -> Path:
    return Path(os.environ[CONFIG_DIR])


def directories() -> list[Path]:
    """The folders that choices come from: the application's, and those that `--config-dir` names."""
    return [config_dir(), *split_config_dirs(sys.argv[1:])[0]]


def split_config_dirs(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders that `--config-dir` names among the arguments, and the other arguments."""
    folders, others = [], []
    remaining = iter(arguments)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            folders.append(Path(value if equals else next(remaining, ".")))
        else:
            others.append(argument)
    return folders, others


def groups() -> set[str]:
    """The names of the groups of choices, such as "model"."""
    return {path.name for folder in directories() for path in folder.iterdir() if path.is_dir()}


def choices(group: str) -> Iterator[tuple[str, Path]]:
    """The names in a group, and their files. A file whose name begins with `_` is a base of others, and no choice."""
    files = {file.stem: file for folder in directories() for file in (folder / group).glob("[!_]*.yaml")}
    return iter(sorted(files.items()))


def compose_config(overrides: Iterable[str]) -> DictConfig:
    """The configuration that a command line stands for, without running anything."""
    own = [f"file://{folder.resolve()}" for folder in directories()[1:]]
    search_path = [f"hydra.searchpath=[{','.join(own)}]"] if own else []
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(ROOT_CONFIG, overrides=[*overrides, *search_path])


# What the files say


def learners_that_take(kind: str) -> set[str]:
    found = ((name, OmegaConf.load(file)) for name, file in choices("learner"))
    return {name for name, content in found if OmegaConf.select(content, "learner.takes") == kind}


def learner_of(file: Path) -> str:
    """The learner that a model's file chooses, or else the default one."""
    chosen = (chosen_in(content, "override /learner") for content in with_bases(file))
    root: Any = OmegaConf.load(config_dir() / f"{ROOT_CONFIG}.yaml")
    return next((name for name in chosen if name), None) or chosen_in(root, "learner") or ""


def chosen_in(content: Any, group: str) -> str | None:
    """The choice of a group in the defaults list of a file."""
    entries = (entry for entry in content.get("defaults", []) if OmegaConf.is_dict(entry))
    return next((entry[group] for entry in entries if group in entry), None)


def inherited(file: Path, key: str) -> Any:
    """A value of a file, or of the files that it is based on."""
    return next((content[key] for content in with_bases(file) if key in content), None)


def with_bases(file: Path) -> Iterator[Any]:
    """The content of a file, and of the files of the same folder that its defaults list names."""
    content: Any = OmegaConf.load(file)
    yield content
    for entry in content.get("defaults", []):
        if isinstance(entry, str) and (base := file.with_name(f"{entry}.yaml")).exists():
            yield from with_bases(base)


def contents(key: str) -> Iterator[tuple[str, Any]]:
    """The group and the content of each file that has a key, such as `_target_`, anywhere."""
    for folder in directories():
        for file in folder.rglob("*.yaml"):
            if f"{key}:" in file.read_text(encoding="utf-8"):
                yield file.parent.name, OmegaConf.to_container(OmegaConf.load(file))


def values_of(key: str) -> set[str]:
    """The values that the files give a key anywhere, such as the addresses that they name by `url`."""
    files = (file for folder in directories() for file in folder.rglob("*.yaml"))
    value = re.compile(rf"\b{key}: *(\S+)")
    return {found for file in files for found in value.findall(file.read_text(encoding="utf-8"))}
