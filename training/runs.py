"""Run directories: each belongs to one run, and a run can be gone on with in its own."""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from training.errors import UserError
from training.files import locked, read_json, replacing

METRICS = ("train/loss", "valid/loss", "valid/accuracy", "valid/perplexity")  # what result.json holds
LAST = Path("checkpoints", "last.ckpt")
FAILURE = "failure.json"

# What a run is; anything else (how long, how often, how many threads) may change when it is resumed.
IDENTITY = ("seed", "model", "data", "optimizer", "schedule", "label_smoothing", "forget", "learner")

# What runs were before there was a choice, and their configurations don't say.
OLDER = {
    "objective": "valid/loss",
    "float32_matmul": "highest",
    "label_smoothing": 0,
    "forget": 0,
    "learner": {"_target_": "lm.module.LanguageModel", "forget": "${forget}"},
}
MAY_MOVE = ("data.path", "data.cache", "data.url", "data.train", "data.valid")


class ClaimRunDirectory(Callback):
    """Gives each run and each sweep a directory of its own, before Hydra writes anything into it.

    The directory is named by the second; a run that finds it taken gets the next free name. One that was typed
    (`hydra.run.dir=`) is used as it is, unless it holds a run already.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if rank() > 0:
            return
        if config.task != "train":  # no run: nothing to resume or to report
            with read_write(config.hydra):
                config.hydra.output_subdir = None
                if not typed(config, "hydra.run.dir"):
                    config.hydra.run.dir = f"outputs/tasks/{config.task}"
        elif typed(config, "hydra.run.dir"):
            stop_if_occupied(Path(config.hydra.run.dir), config)
        elif in_process_group():
            sys.exit(
                "error: processes that are started by torchrun or srun need one directory: write hydra.run.dir=DIR"
            )
        else:
            claim(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if typed(config, "hydra.sweep.dir"):
            stop_if_other_sweep(Path(config.hydra.sweep.dir), config)
        else:
            claim(config, "sweep")


def rank() -> int:
    """Which of a run's processes this is, as torchrun, srun or Lightning's launcher tell it."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def in_process_group() -> bool:
    return any(int(os.environ.get(name, 1)) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def typed(config: DictConfig, key: str) -> bool:
    return any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)


def claim(config: DictConfig, mode: str) -> None:
    """Makes the directory `hydra.run.dir` or `hydra.sweep.dir`, or the first of `…_2`, `…_3` that is not there yet."""
    HydraConfig.instance().set_config(config)  # the name is made of the choices
    wanted = Path(config.hydra[mode].dir)
    with suppress(OSError):  # Hydra meets the same error when it makes the directory, and names it
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            with read_write(config.hydra):
                config.hydra[mode].dir = str(directory)
                config.hydra.overrides.hydra.append(f"hydra.{mode}.dir={directory}")  # what a sweep tells its jobs
            return


def stop_if_occupied(run_dir: Path, config: DictConfig) -> None:
    """Ends the program rather than overwrite a run. (Hydra turns other exceptions of a callback into warnings.)"""
    if not (run_dir / LAST).exists() and not (run_dir / "result.json").exists():
        return
    if not config.checkpoint.requeue:
        sys.exit(
            f"error: {run_dir} holds a run already; go on with it by resume={run_dir} (or always, by "
            f"checkpoint.requeue=true), or choose another hydra.run.dir"
        )
    before = saved(run_dir)
    for part in IDENTITY:
        if before[part] != config[part]:
            sys.exit(f"error: {run_dir} holds a run with other settings ({part}); choose another hydra.run.dir")


def stop_if_other_sweep(sweep_dir: Path, config: DictConfig) -> None:
    """Ends the program rather than mix two sweeps; the same one goes on with what is missing."""
    with suppress(OSError):
        before: Any = OmegaConf.load(sweep_dir / "multirun.yaml")
        if before.hydra.overrides.task != config.hydra.overrides.task:
            sys.exit(
                f"error: {sweep_dir} holds another sweep ({' '.join(before.hydra.overrides.task)}); "
                f"type the same to go on with it, or choose another hydra.sweep.dir"
            )


def resumed(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The directory that `resume=` names on the command line, if it does, and the other arguments."""
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    named = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    return (Path(named[-1]) if named and named[-1] != "null" else None), others


def load(run_dir: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration that a run was started with, changed by what is typed now.

    Raises:
        UserError: the directory holds no run, or the change would make another run of it.
        HydraException: an override is wrong.
    """
    hydra_dir = (run_dir / ".hydra").resolve()
    if not (hydra_dir / "config.yaml").is_file():
        raise UserError(f"resume={run_dir}: not a run's directory (there is no .hydra/config.yaml in it)")
    refuse_other_identity(overrides)
    with initialize_config_dir(str(hydra_dir), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    typed_before: Any = OmegaConf.load(hydra_dir / "overrides.yaml")
    with open_dict(config), read_write(config):
        complete(config)
        config.hydra.runtime.output_dir = str(run_dir.resolve())
        config.hydra.overrides.task = [*typed_before, *overrides]
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return config


def saved(run_dir: Path) -> Any:
    """The configuration that a run was started with."""
    return complete(OmegaConf.load(run_dir / ".hydra" / "config.yaml"))


def complete(config: Any) -> Any:
    """A saved configuration with what older ones don't say, and schedules by the name that they have now."""
    config.schedule._target_ = re.sub(r"^lm\.", "training.", config.schedule._target_)
    for part, value in OLDER.items():
        config.setdefault(part, value)
    return config


def with_parts_of(config: DictConfig, checkpoint: Path) -> DictConfig:
    """The configuration with model and data of the run that left the checkpoint, unless others are typed."""
    run_dir = checkpoint.resolve().parents[1]
    if not (run_dir / ".hydra" / "config.yaml").is_file():
        return config
    before = saved(run_dir)
    typed = {override.split("=")[0].split(".")[0] for override in HydraConfig.get().overrides.task}
    if "model" not in typed:
        config.model, config.learner = before.model, before.learner
    if "data" not in typed:
        config.data = before.data
    return config


def refuse_other_identity(overrides: Iterable[str]) -> None:
    if flags := [override for override in overrides if override.startswith("-")]:
        raise UserError(f"resume= goes with values only, as in trainer.max_epochs=30; not with {flags[0]}")
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key.split(".")[0] in (*IDENTITY, "hydra") and key not in MAY_MOVE:
            raise UserError(
                f"{override.input_line}: a run is resumed as it was; only trainer.*, checkpoint.*, callbacks.*, "
                f"logger.* and threads can be changed. For anything else start a new run"
            )
        if "." not in key and key not in ("threads",):
            raise UserError(
                f"{override.input_line}: a run is resumed with the parts it has; only values can be changed"
            )


def save(config: DictConfig, run_dir: Path) -> None:
    """Keeps a changed configuration, so that the next resume goes on with it."""
    for name, content in (("config.yaml", config), ("overrides.yaml", HydraConfig.get().overrides.task)):
        with replacing(run_dir / ".hydra" / name) as unfinished:
            OmegaConf.save(content, unfinished)


def threads(wanted: int | None) -> int:
    """As many as wanted, or as the cores allow; jobs of a sweep that run side by side share the cores."""
    cores = os.cpu_count() or 1
    jobs = OmegaConf.select(HydraConfig.get().launcher, "n_jobs", default=1) if HydraConfig.initialized() else 1
    return max(1, min(wanted or cores, cores // (jobs if jobs > 0 else cores)))


def note_failure(run_dir: Path, error: str) -> None:
    """Leaves word for the sweep's report."""
    overrides = list(HydraConfig.get().overrides.task)
    content = json.dumps({"status": "failed", "error": error, "overrides": overrides}, indent=2)
    (run_dir / FAILURE).write_text(content + "\n", encoding="utf-8")


def forget_failure(run_dir: Path) -> None:
    (run_dir / FAILURE).unlink(missing_ok=True)


def command_to_go_on(run_dir: str) -> str:
    """What to type to go on with a run, or with the sweep that it is part of."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        sweep_dir = f"hydra.sweep.dir={HydraConfig.get().sweep.dir}"
        others = [argument for argument in sys.argv if not argument.startswith("hydra.sweep.dir=")]
        return shlex.join(["python", *others, sweep_dir])
    return shlex.join(["python", sys.argv[0], f"resume={run_dir}"])


def metric(run_dir: Path, name: str) -> float | None:
    """A figure of a finished run."""
    return read_json(run_dir / "result.json")["metrics"][name]


def is_finished(run_dir: Path, config: DictConfig) -> bool:
    """Whether there is nothing left to do: the run has ended by itself, and is not to go on for longer now."""
    result = read_json(run_dir / "result.json")
    steps = config.trainer.max_steps
    return result.get("status") == "finished" and (
        result["epochs"] >= config.trainer.max_epochs or 0 < steps <= result["steps"]
    )


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Keeps other runs out of the directory for as long as the block runs.

    Raises:
        UserError: another one is at it.
    """
    with ExitStack() as stack:
        if rank() == 0:
            try:
                stack.enter_context(locked(run_dir / ".lock", wait=False))
            except BlockingIOError:
                raise UserError(f"{run_dir}: another process is training in this directory") from None
        yield
