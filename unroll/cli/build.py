"""From a configuration to objects: data, model, LightningModule, callbacks and Trainer.

Whoever takes a value checks it; an error names the value as it is typed on the command line.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from unroll.checks import check_arguments
from unroll.cli.signatures import check_call, check_targets, locate
from unroll.errors import ArgumentError, UserError
from unroll.precision import FULL, cpu_has_bfloat16, fitting_precision
from unroll.resume.checkpoint import checkpoint_file, describe
from unroll.resume.lightning import root_device, validation_interval
from unroll.terminal import one_line, say
from unroll.training.callbacks.result import precision_of
from unroll.training.data import Data
from unroll.training.learner import Learner
from unroll.training.optimizers import check_settings, discriminative_groups
from unroll.training.schedules import batches_per_epoch

AUTO = "auto"  # trainer.precision: what fits the device


def part(config: DictConfig, key: str, leave_out: Sequence[str] = (), partial: bool = False, **more: Any) -> Any:
    """Builds the object that a part of the configuration describes.

    Args:
        config: the whole configuration.
        key: of the part, such as "model".
        leave_out: settings that are not arguments.
        partial: return a `functools.partial` of it.
        more: further arguments.

    Raises:
        UserError: an argument is wrong.
        Exception: any other that its constructor raises.
    """
    settings: Any = OmegaConf.to_container(OmegaConf.select(config, key), resolve=True)
    settings = {name: value for name, value in settings.items() if name not in leave_out}
    if partial:
        settings["_partial_"] = True
    if "_target_" not in settings:
        raise UserError(f"{key}: has no _target_, the class or function that builds it")
    with building(config, key):
        check_targets(key, settings, tuple(more))
    try:
        return instantiate(settings, _convert_="all", **more)
    except InstantiationException as error:  # Hydra wraps what a constructor raises
        inner = re.search(r"\nfull_key: (\S+)$", str(error))
        where = f"{key}.{inner[1]}" if inner else key
        failure = error.__cause__ or UserError(f"{where}: {one_line(str(error))}")
    except TypeError as error:  # of Hydra itself, as for a _partial_ that is neither true nor false
        where, failure = key, UserError(f"{key}: {one_line(str(error))}")
    raise with_origin(config, where, failure)


@contextmanager
def building(config: DictConfig, key: str) -> Iterator[None]:
    """Says of an error in this block that it is of a part of the configuration (see `with_origin`)."""
    try:
        yield
    except Exception as error:
        raise with_origin(config, key, error) from error.__cause__


def with_origin(config: DictConfig, key: str, error: BaseException) -> BaseException:
    """What to raise for an error that came up while a part of the configuration was built.

    Mistakes of the user become a `UserError` that names the key. Anything else stays what it is, so that its traceback
    is shown, below a line that says which part was being built.
    """
    if isinstance(error, ArgumentError):
        return UserError(f"{typed_key(config, f'{key}.{error.name}')}{str(error).removeprefix(error.name)}")
    if isinstance(error, MisconfigurationException):
        return UserError(f"{key}: {one_line(str(error))}")
    if not isinstance(error, (UserError, OSError)):  # an OSError is explained where the program ends
        target = OmegaConf.select(config, f"{key}._target_")
        name = f"{key} ({target})" if target else key
        say(f"while building {name}: {type(error).__name__}: {one_line(str(error))}")
    return error


def typed_key(config: DictConfig, key: str) -> str:
    """The key that a value is typed by: `callbacks.last.every_n_steps` refers to `checkpoint.every_n_steps`."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if isinstance(node, DictConfig) and name in node and OmegaConf.is_interpolation(node, name):
        raw: Any = OmegaConf.to_container(node, resolve=False)
        if reference := re.fullmatch(r"\$\{([\w.]+)\}", str(raw[name])):
            return reference[1]
    return key


def data(config: DictConfig) -> Data:
    """The data module.

    Raises:
        UserError: the configuration names something else, or one of its arguments is wrong.
    """
    found = part(config, "data", leave_out=("gives",))
    if not isinstance(found, Data):
        raise UserError(f"data: {config.data._target_} is not a data module (unroll.Data)")
    return found


def model_class(config: DictConfig) -> type[nn.Module]:
    """The class that the configuration names for the model.

    Raises:
        UserError: there is none.
        Exception: what importing its module raises.
    """
    with building(config, "model"):
        found = locate("model", config.model.get("_target_", ""))
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"model: {config.model.get('_target_')} is not a class of models (torch.nn.Module)")
    return found


def learner(config: DictConfig, data: Data, trained: tuple[nn.Module, dict[str, Any]] | None = None) -> Learner:
    """The LightningModule with its model, optimizer and schedule.

    Args:
        config: the configuration.
        data: determines some arguments of the model.
        trained: a model to use instead of a new one, and its checkpoint's metadata.

    Raises:
        UserError: a value is out of range.
    """
    with building(config, "data"):
        of_model, of_learner = data.model_arguments(), data.learner_arguments()
    if trained is None:
        model = part(config, "model", leave_out=("compile",), **of_model)
        settings: Any = OmegaConf.to_container(config.model, resolve=True)
        arguments = {name: value for name, value in settings.items() if name not in ("_target_", "compile")}
        metadata = describe(model, {**arguments, **of_model}, data.description())
    else:
        model, metadata = trained
        of_learner = {name: metadata["data"].get(name, value) for name, value in of_learner.items()}

    optimizer: Any = OmegaConf.to_container(config.optimizer, resolve=True)
    groups = optimizer.pop("groups", None)
    with building(config, "optimizer"):
        check_settings(optimizer, groups)
        if (factor := optimizer.pop("discriminative", None)) is not None:
            if groups is not None:
                raise UserError("optimizer.discriminative and optimizer.groups both set rates; choose one of them")
            groups = discriminative_groups(model, optimizer["lr"], factor)
    schedule = part(config, "schedule")
    with building(config, "schedule"):
        check_arguments(schedule.func, schedule.keywords)

    make = part(config, "learner", leave_out=("takes",), partial=True)
    of_learner |= {
        "optimizer": part(config, "optimizer", leave_out=("groups", "discriminative")),
        "groups": groups,
        "schedule": schedule,
        "metadata": metadata,
        "compile": config.model.compile,
    }
    with building(config, "learner"):
        check_call("learner", make.func, ["model", *make.keywords, *of_learner], by_program=["model", *of_learner])
        built: Learner = make(model, **of_learner)
    for name in ("monitor", "compare"):
        if config.get(name, config.monitor) not in built.metrics:
            raise UserError(f"{typed_key(config, name)}={config[name]}: must be one of: {', '.join(built.metrics)}")
    return built


def initialise(config: DictConfig, learner: Learner, data: Data) -> None:
    """Gives the new model the weights of the one that `init=` names, and says so; does nothing without `init=`.

    Raises:
        UserError: they can't be taken up.
    """
    if config.get("init") is not None:
        with building(config, "init"):
            say(data.initialise(learner.model, checkpoint_file(Path(config.init))))


def callbacks(config: DictConfig) -> list[Any]:
    return [part(config, f"callbacks.{name}") for name, settings in config.callbacks.items() if settings]


def loggers(config: DictConfig) -> list[Any]:
    return [part(config, f"logger.{name}") for name, settings in config.logger.items() if settings]


def trainer(config: DictConfig, checkpoint: Path | None = None, **objects: Any) -> Any:
    """Lightning's Trainer.

    Args:
        config: the configuration.
        checkpoint: of the run that is continued or evaluated: `trainer.precision=auto` is what that run used.
        objects: its arguments that are objects: callbacks, logger, plugins.
    """
    if config.trainer.precision == AUTO:
        used = None if checkpoint is None else precision_of(checkpoint)
        objects["precision"] = used or fitting_precision(config.trainer.accelerator)
    make = part(config, "trainer", partial=True)
    if not any(isinstance(callback, Checkpoint) for callback in objects.get("callbacks", [])):
        objects["enable_checkpointing"] = False  # Lightning would add a checkpoint of its own
    with building(config, "trainer"):
        try:
            return make(**objects)
        except (TypeError, ValueError, AttributeError, RuntimeError, ImportError) as error:  # Lightning's own checks
            raise UserError(f"trainer: {one_line(str(error))}") from error


def note_on_precision(config: DictConfig, trainer: Any, checkpoint: Path | None) -> str | None:
    """One line where a run's precision was chosen for it, or is a slow one; else None.

    Args:
        config: the configuration.
        trainer: made from it.
        checkpoint: of the run that is continued.
    """
    used = str(trainer.precision)
    if used.startswith("bf16") and root_device(trainer).type == "cpu" and not cpu_has_bfloat16():
        return f"trainer.precision={used}: this CPU has no instructions for bfloat16; 32-true is faster"
    if config.trainer.precision == AUTO and checkpoint is None:
        has = "has" if used != FULL else "has no"
        return f"trainer.precision=auto: {used}, as the device {has} instructions for bfloat16"
    return None


def check_validation_interval(trainer: Any, batches: int) -> None:
    """Checks that an interval in batches is not longer than an epoch: Lightning would refuse it later, as a bug.

    Raises:
        UserError: it is.
    """
    interval, batches = validation_interval(trainer), batches_per_epoch(trainer, batches)
    if isinstance(interval, int) and trainer.check_val_every_n_epoch is not None and interval > batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; choose at most that, or "
            f"trainer.check_val_every_n_epoch=null to count over epochs"
        )
