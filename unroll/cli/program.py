"""What `train.py` does: one run, a job of a sweep, a run that is resumed, or a command beside training."""

import argparse
import copy
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from unroll.cli import evaluation, help, run_directory
from unroll.cli.config import ROOT_CONFIG, check, set_config_dir
from unroll.cli.messages import explain, quoted_if_needed
from unroll.cli.processes import import_torch, prepare
from unroll.errors import Interrupted, UserError
from unroll.terminal import one_line, rank, say

WANTS_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ and rank() == 0
LIGHTNING = ("pytorch_lightning", "lightning_fabric")


def main(config_dir: Path, description: str) -> None:
    """Runs the program: a mistake of the user ends it with one line, an interruption with the signal's status.

    Args:
        config_dir, description: as for `unroll.cli.main`.
    """
    set_config_dir(config_dir)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the one line below says what is wrong
    sys.argv[1:] = map(quoted_if_needed, sys.argv[1:])
    try:
        arguments = sys.argv[1:]
        if {"--help", "-h"} & set(arguments):
            print(help.page(description, [word for word in arguments if "=" in word and not word.startswith("-")]))
            return
        if asked := help.groups_asked_for(arguments):
            print("\n\n".join(map(help.choices_of, asked)))
            return
        run_dir, others = run_directory.split_override(arguments, "resume")
        task, _ = run_directory.split_override(arguments, "task")
        if run_dir is not None:
            resume(run_directory.of_checkpoint(Path(run_dir)), run_directory.only_overrides(others, "resume="))
        elif task == "evaluate":
            evaluate(arguments)
        else:
            accept_lazy_help()
            hydra.main(version_base="1.3", config_path=str(config_dir.resolve()), config_name=ROOT_CONFIG)(run)()
    except BrokenPipeError:  # the reader has closed the pipe, as in `train.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        end_with(error)


def accept_lazy_help() -> None:
    """Lets Hydra make its parser on Python 3.14, whose argparse checks help texts: one of Hydra's is no text before it
    is shown (Hydra 3121)."""
    argparse.ArgumentParser._check_help = lambda parser, action: None  # type: ignore[attr-defined]


def run(config: DictConfig) -> float | None:
    """What Hydra calls with the configuration. Returns the metric that a search looks at."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    overrides = list(HydraConfig.get().overrides.task)
    if run_directory.in_sweep():
        return job(config, run_dir, overrides)
    try:
        check(config)
        if config.task == "train":
            return train(config, run_dir, overrides, config.checkpoint.requeue, once_begun=run_directory.keep)
        command(config)
        run_directory.clean_up()
        return None
    except Exception as error:
        end_with(error)


def job(config: DictConfig, run_dir: Path, overrides: list[str]) -> float | None:
    """A run of a sweep: continued if it was begun, left if it is finished. A failure leaves the other jobs alone."""
    run_directory.keep()
    run_directory.delete_failure(run_dir)
    try:
        check(config)
        return train(config, run_dir, overrides, continues=True)
    except Exception as error:
        explanation = explain(error, [])
        if explanation is None or WANTS_TRACEBACK:
            traceback.print_exc()
        say(f"error: {explanation or repr(error)}")
        run_directory.write_failure(run_dir, explanation or repr(error))
        return None


def resume(run_dir: Path, overrides: list[str]) -> None:
    """Continues a run in its own directory and with its own configuration, apart from what is typed now."""
    config, typed = run_directory.load(run_dir, overrides)
    run_directory.refuse_other_run(overrides)
    import_torch()
    from unroll.resume.checkpoint import check_version

    check_version(run_dir / run_directory.LAST)  # before the configuration is read in the sense of this version
    check(config)
    written = copy.deepcopy(config)  # with its references: the directory may be moved or copied
    OmegaConf.resolve(config)
    HydraConfig.instance().cfg = None  # Lightning starts further processes with this same command line
    if not (run_dir / run_directory.LAST).exists():
        say(f"{run_dir} has no checkpoint yet; the run begins anew")

    def keep_changes() -> None:
        if overrides and rank() == 0:
            run_directory.save(written, typed, run_dir)

    train(config, run_dir, typed, continues=True, once_begun=keep_changes)


def evaluate(arguments: list[str]) -> None:
    """The validation metrics of a checkpoint, with the configuration of its run."""
    config = evaluation.configuration(arguments)
    import_torch()
    from unroll.resume.checkpoint import check_version, checkpoint_file

    check_version(checkpoint_file(Path(config.ckpt)))  # before the configuration is read in the sense of this version
    check(config)
    evaluation.refuse_unknown(config, arguments)
    HydraConfig.instance().cfg = None  # Lightning starts further processes with this same command line
    command(config)


def command(config: DictConfig) -> None:
    """A command beside training."""
    import_torch()
    from unroll.cli import commands

    prepare(config, run_directory.threads(config.threads))
    commands.run(config)


def train(
    config: DictConfig,
    run_dir: Path,
    overrides: list[str],
    continues: bool,
    once_begun: Callable[[], None] = lambda: None,
) -> float | None:
    """One run, from its configuration to its report. Returns the metric that a search looks at.

    Args:
        config: the configuration.
        run_dir: where the run leaves its files.
        overrides: what was typed.
        continues: with what the directory holds, if it holds something.
        once_begun: called when training has begun.
    """
    relative_dir = os.path.relpath(run_dir)
    run_directory.refuse_links(run_dir)
    compared = config.get("compare", config.monitor)  # runs of an earlier version have none
    if continues and (line := run_directory.finished(run_dir, config, overrides)) is not None:
        say(f"{relative_dir}: {line}")
        return run_directory.metric(run_dir, compared)

    import_torch()
    from unroll.cli import build
    from unroll.resume.plugin import CheckpointFiles
    from unroll.training.callbacks.result import Result, latest_metrics

    prepare(config, run_directory.threads(config.threads))
    data = build.data(config)
    learner = build.learner(config, data)
    callbacks = build.callbacks(config)
    learner.once_begun = once_begun
    last = run_dir / run_directory.LAST
    checkpoint = last if continues and last.exists() else None
    trainer = build.trainer(
        config,
        checkpoint,
        callbacks=[Result(run_dir, config.seed, overrides), *callbacks],  # first: its clock stops before plots
        logger=build.loggers(config),
        plugins=[CheckpointFiles()],
    )
    if trainer.world_size > 1 and run_directory.in_sweep():
        raise UserError("a sweep's jobs train in one process each; leave trainer.devices at 1")
    for batches in (data.train, data.valid):
        batches.shard(0, trainer.world_size)  # refuses what can't be shared before other processes are started
    build.check_validation_interval(trainer, len(data.train))

    if checkpoint is None:
        build.initialise(config, learner, data)
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    say(f"{type(learner.model).__name__} with {parameters:,} parameters; {data.summary()}")
    if note := build.note_on_precision(config, trainer, checkpoint):
        say(note)
    if checkpoint is not None:
        say(f"continuing from {os.path.relpath(checkpoint)}")
    if sys.stderr.isatty():  # a person may want to look, or to stop it
        say(f"to watch it: tensorboard --logdir {relative_dir}")
        say(f"to stop it: Ctrl-C; then to resume: {run_directory.command_to_resume(relative_dir)}")
    try:
        with run_directory.lock(run_dir):
            fit(trainer, learner, data, checkpoint)
    except Interrupted:
        say(f"interrupted at step {trainer.global_step}; to resume: {run_directory.command_to_resume(relative_dir)}")
        raise
    best, metrics = trainer.checkpoint_callback, latest_metrics(trainer, learner)
    if best is not None and getattr(best, "best_model_score", None) is not None:
        score = f"{best.monitor} {best.best_model_score:.4f}"
        say(f"best checkpoint: {os.path.relpath(best.best_model_path)} ({score})")
        metrics = getattr(best, "metrics", {})
    say(f"everything else is in {relative_dir}; to see its curves: tensorboard --logdir {relative_dir}")
    if (line := learner.conclusion(metrics)) is not None:
        say(line)
    reached = trainer.callback_metrics.get(compared)
    return run_directory.metric(run_dir, compared) if reached is None else reached.item()


def fit(trainer: Any, learner: Any, data: Any, checkpoint: Path | None) -> None:
    """Lightning's fit, from a checkpoint if there is one. Settings and checkpoints that it refuses end in one line."""
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    if checkpoint is None:  # a run that was killed before its first checkpoint leaves rows behind
        for logger in trainer.loggers:
            if hasattr(logger, "rewind"):
                logger.rewind(None)
    try:
        trainer.fit(learner, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(one_line(str(error))) from error
    except (UserError, OSError):
        raise
    except Exception as error:
        if checkpoint is not None and not learner.began and raised_in(error, ("torch", *LIGHTNING)):
            raise UserError(f"{checkpoint}: can't be resumed from ({one_line(repr(error))})") from error
        raise


def raised_in(error: Exception, packages: Sequence[str]) -> bool:
    """Whether a function of one of these packages raised the error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] in packages


def end_with(error: Exception) -> NoReturn:
    """Ends the program: with one line if the user can do something about the error, else with its traceback."""
    explanation = explain(error, sys.argv[1:])
    run_directory.clean_up()
    if WANTS_TRACEBACK or explanation is None:
        traceback.print_exception(error)  # raised, it would get Hydra's frames as well
        sys.exit(1)
    sys.exit(f"error: {explanation}" if rank() == 0 else 1)
