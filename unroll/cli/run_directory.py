"""Run directories: each belongs to one run, which can be resumed in it."""

import io
import math
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import AliasToken, YAMLError, scan

from unroll.checks import is_of
from unroll.cli.config import check, split_config_dirs
from unroll.cli.messages import explain
from unroll.cli.processes import in_process_group
from unroll.errors import UserError
from unroll.files import locked, read_json, replacing, write_json
from unroll.terminal import rank

Kind = TypeVar("Kind", DictConfig, ListConfig)
Key = tuple[str, ...]

HELD: set[Path] = set()  # directories that are this process's until it ends
UNTIL_THE_END = ExitStack()  # what holds them
UNDO = ExitStack()  # deletes what this start has made in vain

PAGE = "docs/resume.md"
LAST = Path("checkpoints", "last.ckpt")
REFERENCE, BETWEEN_NAMES = re.compile(r"\$\{([^}]*)\}"), re.compile(r"[\\(){}:,\s'\"]+")
LONGEST = 10**7  # letters that a configuration stands for
FAILURE = "failure.json"

# What may change when a run is resumed: how long, how often, how many threads. All else is the run itself.
PARTS = ("data", "model", "learner", "optimizer", "schedule", "trainer", "checkpoint")  # that every run has
CAN_CHANGE = ("trainer", "checkpoint", "callbacks", "logger", "threads")
NOT_OF_THE_RUN = (*CAN_CHANGE, "run_dir", "resume", "task", "ckpt", "objective", "monitor", "compare", "float32_matmul")
CAN_MOVE = ("data.path", "data.cache", "data.url", "data.train", "data.valid")


class ClaimRunDirectory(Callback):
    """Gives each run and each sweep a directory of its own, before Hydra writes anything into it.

    The directory is named by the second; a run that finds it taken gets the next free name. One that was typed
    (`hydra.run.dir=`) is used as it is, unless it holds a run already.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if rank() > 0:
            return
        try:
            check(config)  # before a directory is made
        except UserError as error:
            sys.exit(f"error: {explain(error, [])}")
        signal.signal(signal.SIGINT, end_start)
        if config.task != "train":  # no run: nothing to resume or to report
            with read_write(config.hydra):
                config.hydra.output_subdir = None
                if not is_typed(config, "hydra.run.dir"):
                    config.hydra.run.dir = f"outputs/tasks/{config.task}"
            note_missing(Path(config.hydra.run.dir))
        elif is_typed(config, "hydra.run.dir"):
            hold(Path(config.hydra.run.dir))
            exit_if_occupied(Path(config.hydra.run.dir), config)
        elif in_process_group():
            sys.exit("error: processes started by torchrun or srun need one directory: write hydra.run.dir=DIR")
        else:
            claim(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if is_typed(config, "hydra.sweep.dir"):
            hold(Path(config.hydra.sweep.dir))
            exit_if_other_sweep(Path(config.hydra.sweep.dir), config)
        else:
            claim(config, "sweep")


def is_typed(config: DictConfig, key: str) -> bool:
    """Whether a key of Hydra's own is on the command line."""
    return any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)


def claim(config: DictConfig, mode: str) -> None:
    """Makes the directory `hydra.run.dir` or `hydra.sweep.dir`, or the first of `…_2`, `…_3` that is free."""
    HydraConfig.instance().set_config(config)  # the name is made of the choices
    wanted = Path(config.hydra[mode].dir)
    note_missing(wanted.parent)
    with suppress(OSError):  # Hydra meets the same error when it makes the directory, and names it
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            UNDO.callback(delete_unused, directory)
            with read_write(config.hydra):
                config.hydra[mode].dir = str(directory)
                config.hydra.overrides.hydra.append(f"hydra.{mode}.dir={directory}")  # for the jobs of a sweep
            return


def hold(run_dir: Path) -> None:
    """Makes the directory this process's until it ends, or exits: two runs would each write its configuration."""
    note_missing(run_dir.parent)
    for path in (run_dir, run_dir / ".lock", run_dir / ".hydra"):
        if not path.exists():
            UNDO.callback(delete_unused, path)
    try:
        UNTIL_THE_END.enter_context(lock(run_dir))
    except (UserError, OSError) as error:
        sys.exit(f"error: {explain(error, [])}")
    HELD.add(run_dir.resolve())


def note_missing(folder: Path) -> None:
    """Notes which folders, from this one up, are not there yet: a start in vain leaves none of them empty."""
    for path in (*reversed(folder.parents), folder):  # the innermost, which is deleted first, comes last
        if not path.exists():
            UNDO.callback(delete_if_empty, path)


def delete_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def delete_unused(path: Path) -> None:
    """Deletes what a start has made, unless there are checkpoints, or jobs of a sweep, in its directory."""
    directory = path.parent if path.name in (".lock", ".hydra") else path
    if any(other.is_dir() for other in directory.glob("[!.]*")):
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def clean_up() -> None:
    """Deletes what was made in vain: the directory of a run that has not begun or a sweep without jobs, and folders."""
    UNTIL_THE_END.close()  # a lock is one of the files
    UNDO.close()


def end_start(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the program at once on Ctrl-C, until training has handlers of its own; an import could print a traceback."""
    clean_up()
    os._exit(128 + number)


def keep() -> None:
    """Keeps the directory, whatever comes later: training has begun."""
    UNDO.pop_all()


def exit_if_occupied(run_dir: Path, config: DictConfig) -> None:
    """Exits rather than overwrite a run. (Hydra turns other exceptions of a callback into warnings.)"""
    if not (run_dir / LAST).exists() and not (run_dir / "result.json").exists():
        return
    if not config.checkpoint.requeue:
        sys.exit(
            f"error: {run_dir} holds a run already; to continue it: resume={run_dir} (or always: "
            f"checkpoint.requeue=true); for a new run choose another hydra.run.dir"
        )
    try:
        refuse_links(run_dir)
        before = read_settings(run_dir)
    except UserError as error:
        sys.exit(f"error: {error}")
    for part in map(str, config):
        if part not in (*NOT_OF_THE_RUN, "hydra") and before.get(part) != config[part]:
            sys.exit(f"error: {run_dir} holds a run with other settings ({part}); choose another hydra.run.dir")


def exit_if_other_sweep(sweep_dir: Path, config: DictConfig) -> None:
    """Exits rather than mix two sweeps; the same sweep continues with what is missing."""
    path = sweep_dir / "multirun.yaml"
    if not path.exists():
        return
    try:
        before = typed_in(OmegaConf.select(read_yaml(path, DictConfig), "hydra.overrides.task"), path)
    except UserError as error:
        sys.exit(f"error: {error}")
    if before != config.hydra.overrides.task:
        sys.exit(
            f"error: {sweep_dir} holds another sweep ({' '.join(before)}); "
            f"type the same to continue it, or choose another hydra.sweep.dir"
        )


def of_checkpoint(path: Path) -> Path:
    """The run directory of a checkpoint; a path that is no file is taken for the directory itself."""
    return path.resolve().parents[1] if path.is_file() else path


def split_override(arguments: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """The value that a key has last among the arguments (None if it has none), and the other arguments."""
    value: str | None = None
    others = []
    for argument in arguments:
        typed_key, equals, text = argument.partition("=")
        if equals and typed_key.lstrip("+") == key:
            parsed = OverridesParser.create().parse_override(argument).value()
            value = parsed if parsed is None or isinstance(parsed, str) else text  # a directory can be named 007
        else:
            others.append(argument)
    return value, others


def only_overrides(arguments: Sequence[str], key: str) -> list[str]:
    """The arguments but for `--config-dir`.

    Args:
        arguments: the command line.
        key: what does not go with other options.

    Raises:
        UserError: there are other options.
    """
    _, overrides = split_config_dirs(arguments)
    if options := [argument for argument in overrides if argument.startswith("-")]:
        raise UserError(f"{key} goes with values, as in trainer.max_epochs=30, not with {options[0]}")
    return overrides


def read_yaml(path: Path, kind: type[Kind]) -> Kind:
    """A dict or a list that Hydra has saved. Nothing in the file is run.

    Raises:
        UserError: the file can't be read, or holds something else.
    """
    found: Any = None
    with suppress(OSError, YAMLError, OmegaConfBaseException, ValueError, RecursionError):
        text = path.read_text(encoding="utf-8") if path.is_file() else "null"
        if "*" not in text or not any(isinstance(token, AliasToken) for token in scan(text)):
            found = OmegaConf.load(io.StringIO(text))  # a few lines with aliases can stand for billions of values
    if not isinstance(found, kind):
        raise UserError(f"{path}: not a file that a run has written, or damaged")
    return found


def typed_in(overrides: Any, path: Path) -> list[str]:
    """What was typed, as a file of Hydra's has it.

    Raises:
        UserError: it is no list of strings.
    """
    typed = list(overrides) if isinstance(overrides, ListConfig) else None
    if typed is None or not all(isinstance(override, str) for override in typed):
        raise UserError(f"{path}: not a file that a run has written, or damaged")
    return typed


def read_settings(run_dir: Path) -> DictConfig:
    """The configuration of a run, but for what would choose more of Hydra's: it would import packages that it names.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = run_dir / ".hydra" / "config.yaml"
    settings = read_yaml(path, DictConfig)
    refuse_growth(OmegaConf.to_container(settings), path)
    if not all(isinstance(settings.get(part), DictConfig) for part in PARTS):
        raise UserError(f"{path}: not a file that a run has written, or damaged")
    for key in ("defaults", "hydra"):
        settings.pop(key, None)
    return settings


def refuse_growth(settings: Any, path: Path) -> None:
    """Refuses settings that refer to others, those to others again, …: a few lines can stand for billions of letters.

    Args:
        settings: the content of a file, its references as they are written.
        path: the file, for the message.

    Raises:
        UserError: what they stand for is very long, or some refer to themselves.
    """
    lengths: dict[Key, float] = {}

    def length_at(key: Key) -> float:
        if key not in lengths:
            lengths[key] = math.inf  # for one that refers to itself
            lengths[key] = length(value_at(settings, key), key)
        return lengths[key]

    def length(value: Any, key: Key) -> float:
        if isinstance(value, (dict, list)):
            names = value if isinstance(value, dict) else range(len(value))
            return 1 + sum(length_at((*key, str(name))) for name in names)
        if not isinstance(value, str) or "${" not in value:
            return len(str(value))
        if re.search(r"\$\{[^}]*\$\{", value):  # the name of what it refers to is put together
            return math.inf
        named = (name for reference in REFERENCE.findall(value) for name in BETWEEN_NAMES.split(reference))
        return len(value) + sum(length_at(found) for name in named if (found := referred_to(name, key)))

    def referred_to(name: str, key: Key) -> Key:
        if not name.strip("."):  # as in ${oc.env:NAME,.}
            return ()
        up = len(name) - len(name.lstrip("."))
        found = (*(key[:-up] if up else ()), *filter(None, re.split(r"[.\[\]]", name)))
        return found if value_at(settings, found) is not None else ()

    with suppress(RecursionError):
        if length_at(()) <= LONGEST:
            return
    raise UserError(f"{path}: its values refer to each other without end, or stand for more than {LONGEST:,} letters")


def value_at(settings: Any, key: Key) -> Any:
    """The value at a key, such as `("data", "train", "0")`; None if there is none."""
    for name in key:
        if isinstance(settings, dict):
            settings = next((value for other, value in settings.items() if str(other) == name), None)
        elif isinstance(settings, list) and name.isdecimal() and int(name) < len(settings):
            settings = settings[int(name)]
        else:
            return None
    return settings


def is_run_directory(path: Path) -> bool:
    return (path / ".hydra" / "config.yaml").is_file()


def refuse_links(run_dir: Path) -> None:
    """
    Raises:
        UserError: a folder of the run is a link that leads out of its directory, and would be written through.
    """
    for folder, names, _ in os.walk(run_dir):
        for path in (Path(folder, name) for name in names):
            if path.is_symlink() and not path.resolve().is_relative_to(run_dir.resolve()):
                raise UserError(
                    f"{path}: a link out of the run directory, which would be written through; put the folder itself "
                    f"there (folders above a run directory may be links)"
                )


def load(
    run_dir: Path, overrides: Sequence[str], replaced: Mapping[str, DictConfig] | None = None
) -> tuple[DictConfig, list[str]]:
    """The configuration that a run was started with, changed by what is typed now; and all that was ever typed.

    Args:
        run_dir: the run directory.
        overrides: values that are typed now.
        replaced: whole parts to use in the place of the run's.

    Raises:
        UserError: the directory holds no run.
        HydraException: an override is wrong.
    """
    if not is_run_directory(run_dir):
        raise UserError(f"{run_dir}: not a run directory (there is no .hydra/config.yaml in it)")
    before = read_settings(run_dir)
    before.update(replaced or {})
    path = run_dir / ".hydra" / "overrides.yaml"
    typed = [*typed_in(read_yaml(path, ListConfig), path), *overrides]
    ConfigStore.instance().store("of_the_run", before)
    with initialize(config_path=None, version_base="1.3"):
        config = compose("of_the_run", overrides=list(overrides), return_hydra_config=True)
    with open_dict(config), read_write(config):
        config.hydra.runtime.output_dir = str(run_dir.resolve())
        config.hydra.overrides.task = typed
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return config, typed


def refuse_other_run(overrides: Iterable[str]) -> None:
    """Checks that overrides leave a resumed run the run that it was.

    Raises:
        UserError: one would not.
    """
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key.split(".")[0] not in CAN_CHANGE and key not in CAN_MOVE:
            raise UserError(
                f"{override.input_line}: a resumed run keeps its settings; only "
                f"{', '.join(f'{part}.*' for part in CAN_CHANGE[:-1])} and threads can change. "
                f"For anything else start a new run"
            )
        if "." not in key and key != "threads":
            raise UserError(f"{override.input_line}: a resumed run keeps its parts; only values can change")


def save(config: DictConfig, overrides: Sequence[str], run_dir: Path) -> None:
    """Writes a changed configuration, for the next resume."""
    for name, content in (("config.yaml", config), ("overrides.yaml", list(overrides))):
        with replacing(run_dir / ".hydra" / name) as unfinished:
            OmegaConf.save(content, unfinished)


def threads(wanted: int | None) -> int:
    """As many as wanted, or as there are cores; jobs of a sweep that run side by side share the cores."""
    cores = os.cpu_count() or 1
    jobs = OmegaConf.select(HydraConfig.get().launcher, "n_jobs", default=1) if HydraConfig.initialized() else 1
    return max(1, min(wanted or cores, cores // (jobs if jobs > 0 else cores)))


def write_failure(run_dir: Path, error: str) -> None:
    """Writes why a job of a sweep failed, for the sweep's report."""
    overrides = list(HydraConfig.get().overrides.task)
    write_json(run_dir / FAILURE, {"status": "failed", "error": error, "overrides": overrides})


def delete_failure(run_dir: Path) -> None:
    (run_dir / FAILURE).unlink(missing_ok=True)


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def command_to_resume(run_dir: str) -> str:
    """What to type to resume a run, or the sweep that it is part of."""
    if in_sweep():
        sweep_dir = f"hydra.sweep.dir={HydraConfig.get().sweep.dir}"
        others = [argument for argument in sys.argv if not argument.startswith("hydra.sweep.dir=")]
        return shlex.join(["python", *others, sweep_dir])
    return shlex.join(["python", sys.argv[0], f"resume={run_dir}"])


def metric(run_dir: Path, name: str) -> float | None:
    """A metric of a finished run."""
    metrics = read_json(run_dir / "result.json").get("metrics")
    return metrics.get(name) if isinstance(metrics, dict) else None


def finished(run_dir: Path, config: DictConfig, overrides: Sequence[str]) -> str | None:
    """A line that says that the run ended by itself and is not extended now; None if it did not, or is.

    Args:
        run_dir: the run directory.
        config: the configuration.
        overrides: all that was typed, for the run and now.
    """
    result = read_json(run_dir / "result.json")
    done = [result.get(name) for name in ("epochs", "steps")]
    if result.get("status") != "finished" or not is_of(done, list[int]):
        return None
    epochs, steps = done
    if epochs >= config.trainer.max_epochs or 0 < config.trainer.max_steps <= steps:
        return "this run is finished; a larger trainer.max_epochs or trainer.max_steps extends it"
    if result.get("stopped_early") is True and result.get("overrides") == list(overrides):
        return "this run is finished: it was stopped early; other settings of what stopped it extend it (resume=)"
    return None


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Keeps other runs out of the directory for as long as the block runs.

    Raises:
        UserError: another process trains in it.
    """
    with ExitStack() as stack:
        if rank() == 0 and run_dir.resolve() not in HELD:
            try:
                stack.enter_context(locked(run_dir / ".lock", wait=False))
            except BlockingIOError:
                raise UserError(f"{run_dir}: another process is training in this directory") from None
        yield
