"""The configuration of `task=evaluate`: that of the run which left the checkpoint, changed by what is typed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unroll.cli import run_directory
from unroll.cli.config import compose_config, config_dir, contents, groups, values_of
from unroll.errors import UserError

BUILT = ("data", "model", "learner", "optimizer", "schedule", "trainer", "evaluate")  # parts of the configuration
# What a run doesn't say for an evaluation, unless it is typed: where files are written, and what is started.
OWN = {"data.cache": None, "trainer.devices": 1, "trainer.num_nodes": 1, "trainer.strategy": "auto"}


def configuration(arguments: Sequence[str]) -> DictConfig:
    """The configuration of an evaluation.

    What is not typed is as it was in the run. Of a part that is typed, such as `data=text`, nothing of the run's
    remains. A checkpoint that is in no run directory is evaluated with what is typed and the defaults.

    Args:
        arguments: the command line.

    Raises:
        UserError: there is no `ckpt=`, a choice can't be made for an evaluation, or a folder of the run is a link.
        HydraException: an override is wrong.
    """
    overrides = run_directory.only_overrides(arguments, "task=evaluate")
    checkpoint, _ = run_directory.split_override(overrides, "ckpt")
    if checkpoint is None:
        raise UserError("task=evaluate and ckpt=FILE go together")
    run_dir = run_directory.of_checkpoint(Path(checkpoint))
    if not run_directory.is_run_directory(run_dir):
        return compose_config([*overrides, "run_dir=outputs/tasks/evaluate"])
    run_directory.refuse_links(run_dir)
    chosen = {}
    for override in overrides:
        group, _, name = override.partition("=")
        if group in groups():
            chosen[group] = name
    parts = compose_config(f"{group}={name}" for group, name in chosen.items())
    for group in chosen:
        if group not in parts:
            raise UserError(f"{group}=…: an evaluation has the settings of the run; type other data, or values")
    values = [override for override in overrides if override.partition("=")[0] not in chosen]
    config, _ = run_directory.load(run_dir, values, {group: parts[group] for group in chosen})
    typed = {override.partition("=")[0].lstrip("+") for override in overrides}
    typed_parts = {key.partition(".")[0] for key in typed}
    folder = str(run_dir.resolve())
    for key, value in {**OWN, "run_dir": folder, "trainer.default_root_dir": folder}.items():
        parent, _, name = key.rpartition(".")
        settings = config.get(parent) if parent else config
        if name in settings and key not in typed and parent not in chosen:
            settings[name] = value
    if "evaluate" in config and "evaluate" not in typed_parts:
        config.evaluate = None
    OmegaConf.resolve(config)
    return config


def refuse_unknown(config: DictConfig, arguments: Sequence[str]) -> None:
    """Checks that a run's configuration, which may be a stranger's, names nothing to import or download that the user
    does not.

    Args:
        config: of the evaluation.
        arguments: the command line.

    Raises:
        UserError: it does.
    """
    content: Any = OmegaConf.to_container(config)
    named = [found for group, settings in contents("_target_") for found in targets_in(settings, group)]
    typed = (argument.lstrip("+").partition("._target_=") for argument in arguments)
    named += [(key, target) for key, is_target, target in typed if is_target]
    known = {(name_of(key), target) for key, target in named}
    url, (typed_url, _) = content["data"].get("url"), run_directory.split_override(arguments, "data.url")
    if url is not None and typed_url is None and url not in values_of("url"):
        raise UserError(
            f"data.url: the run names {url}, which no file in {config_dir()} does; type data.url=… if it is to be "
            f"downloaded, or give a copy: data.path=FILE"
        )
    for part in BUILT:
        for key, target in targets_in(content.get(part), part):
            if (name_of(key), target) not in known:
                raise UserError(
                    f"{key}: the run names {target}, which no file in {config_dir()} does there; if it is your own, "
                    f"give the folder of the file that names it: --config-dir DIR"
                )


def targets_in(settings: Any, key: str) -> Iterator[tuple[str, str]]:
    """The classes and functions that a part of a configuration names, each with the key of its part."""
    if isinstance(settings, dict):
        if "_target_" in settings:
            yield key, str(settings["_target_"])
        for name, part in settings.items():
            yield from targets_in(part, f"{key}.{name}")
    if isinstance(settings, list):
        for number, part in enumerate(settings):
            yield from targets_in(part, f"{key}[{number}]")


def name_of(key: str) -> str:
    """The last name in a key: what a part of the configuration is called wherever it stands, such as `objective`."""
    return key.rpartition(".")[2]
