"""What `train.py` does: one run, a job of a sweep, a run that is resumed, or a command beside training."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from unroll.cli import help, run_directory
from unroll.cli.config import CONFIG_DIR, check, composed
from unroll.cli.messages import explain, one_line, readable
from unroll.cli.processes import import_torch, prepare
from unroll.errors import Interrupted, UserError
from unroll.terminal import rank, say

WANTS_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ and rank() == 0


def main(hydra_main: Callable[[], Any]) -> None:
    """Runs the program: a mistake of the user ends it with one line, an interruption with the signal's status.

    Args:
        hydra_main: the function that `hydra.main` has decorated; it calls `run`.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the one line below says what is wrong
    sys.argv[1:] = map(readable, sys.argv[1:])
    try:
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(help.page([word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]))
            return
        run_dir, overrides = run_directory.named(sys.argv[1:], "resume")
        if run_dir is not None:
            resume(run_directory.of_checkpoint(Path(run_dir)), overrides)
        elif not evaluate_as_trained(sys.argv[1:]):
            hydra_main()
    except BrokenPipeError:  # the reader has closed the pipe, as in `train.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        exit_with_one_line(error)


def run(config: DictConfig) -> float | None:
    """The task of `hydra.main`. Returns the figure that a search looks at."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    overrides = list(HydraConfig.get().overrides.task)
    if run_directory.in_sweep():
        return job(config, run_dir, overrides)
    try:
        check(config)
        if config.task == "train":
            return train(config, run_dir, overrides, continues=config.checkpoint.requeue)
        command(config, overrides)
        return None
    except Exception as error:
        exit_with_one_line(error)


def job(config: DictConfig, run_dir: Path, overrides: list[str]) -> float | None:
    """A run of a sweep: continued if it was begun, left if it is finished. A failure leaves the other jobs alone."""
    run_directory.forget_failure(run_dir)
    try:
        check(config)
        return train(config, run_dir, overrides, continues=True)
    except Exception as error:
        explanation = explain(error, [])
        if explanation is None or WANTS_TRACEBACK:
            traceback.print_exc()
        say(f"error: {explanation or repr(error)}")
        run_directory.note_failure(run_dir, explanation or repr(error))
        return None


def resume(run_dir: Path, overrides: list[str]) -> None:
    """Continues a run in its own directory and with its own configuration, apart from what is typed now."""
    config, typed = run_directory.load(run_dir, overrides)
    run_directory.refuse_other_run(overrides)
    import_torch()
    from unroll.resume.checkpoint import check_version

    check_version(run_dir / run_directory.LAST)  # before the configuration is read in the sense of this version
    check(config)
    OmegaConf.resolve(config)
    HydraConfig.instance().cfg = None  # Lightning starts further processes with this same command line
    if not (run_dir / run_directory.LAST).exists():
        say(f"{run_dir} has no checkpoint yet; the run begins anew")

    def keep_changes() -> None:
        if overrides and rank() == 0:
            run_directory.save(config, typed, run_dir)

    train(config, run_dir, typed, continues=True, once_begun=keep_changes)


def evaluate_as_trained(arguments: list[str]) -> bool:
    """Handles `task=evaluate ckpt=…` if no other parts are chosen: the run's own configuration is the base then.

    Returns:
        Whether it was handled.
    """
    path, overrides = run_directory.named(arguments, "ckpt")
    how, overrides = run_directory.named(overrides, "evaluate")
    run_dir = run_directory.of_checkpoint(Path(path or ""))
    chosen = [override for override in overrides if (CONFIG_DIR / override.split("=")[0]).is_dir()]
    if path is None or "task=evaluate" not in overrides or chosen or not run_directory.is_one(run_dir):
        return False
    settings = [override for override in overrides if override.startswith("evaluate.")]
    others = [override for override in overrides if override not in settings]
    config, typed = run_directory.load(run_dir, [f"ckpt={path}", *others])
    if how or settings:  # the run's own configuration has no such part
        with open_dict(config):
            config.evaluate = composed([*([f"evaluate={how}"] if how else []), *settings]).evaluate
    check(config)
    OmegaConf.resolve(config)
    HydraConfig.instance().cfg = None
    command(config, typed)
    return True


def command(config: DictConfig, overrides: list[str]) -> None:
    """A command beside training."""
    import_torch()
    from unroll.cli import commands

    prepare(config, run_directory.threads(config.threads))
    commands.run(config, overrides)


def train(
    config: DictConfig,
    run_dir: Path,
    overrides: list[str],
    continues: bool,
    once_begun: Callable[[], None] = lambda: None,
) -> float | None:
    """One run, from its configuration to its report. Returns the figure that a search looks at.

    Args:
        config: the configuration.
        run_dir: where the run leaves its files.
        overrides: what was typed.
        continues: with what the directory holds, if it holds something.
        once_begun: called when training has begun.
    """
    shown_dir = os.path.relpath(run_dir)
    if continues and run_directory.is_finished(run_dir, config):
        say(f"{shown_dir}: this run is finished; a larger trainer.max_epochs or trainer.max_steps extends it")
        return run_directory.figure(run_dir, config.objective)

    import_torch()
    from pytorch_lightning.callbacks import LambdaCallback

    from unroll.cli import build
    from unroll.resume.plugin import CheckpointFiles
    from unroll.training.callbacks import Result

    prepare(config, run_directory.threads(config.threads))
    data = build.data(config)
    learner = build.learner(config, data)
    callbacks = build.callbacks(config)
    begun = LambdaCallback(on_train_start=lambda trainer, module: once_begun())
    trainer = build.trainer(
        config,
        callbacks=[Result(run_dir, config.seed, overrides), *callbacks, begun],  # first: its clock stops before plots
        logger=build.loggers(config),
        plugins=[CheckpointFiles()],
    )
    if trainer.world_size > 1 and run_directory.in_sweep():
        raise UserError("a sweep's jobs train in one process each; leave trainer.devices at 1")
    for batches in (data.train, data.valid):
        batches.shard(0, trainer.world_size)  # refuses what can't be shared before other processes are started

    last = run_dir / run_directory.LAST
    checkpoint = last if continues and last.exists() else None
    if checkpoint is None:
        build.initialise(config, learner, data)
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    say(f"{type(learner.model).__name__} with {parameters:,} parameters; {data.summary()}")
    if checkpoint is not None:
        say(f"continuing from {os.path.relpath(checkpoint)}")
    try:
        with run_directory.lock(run_dir):
            fit(trainer, learner, data, checkpoint)
    except Interrupted:
        say(f"interrupted at step {trainer.global_step}; to resume: {run_directory.command_to_resume(shown_dir)}")
        raise
    best = trainer.checkpoint_callback
    if best is not None and getattr(best, "best_model_score", None) is not None:
        score = f"{best.monitor} {best.best_model_score:.4f}"
        say(f"best checkpoint: {os.path.relpath(best.best_model_path)} ({score})")
    say(f"everything else is in {shown_dir}; to see its curves: tensorboard --logdir {shown_dir}")
    reached = trainer.callback_metrics.get(config.objective)
    return None if reached is None else reached.item()


def fit(trainer: Any, learner: Any, data: Any, checkpoint: Path | None) -> None:
    """Lightning's fit, from a checkpoint if there is one; what can't be fitted ends in one line."""
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    if checkpoint is None:  # a run that was killed before its first checkpoint leaves rows behind
        for logger in trainer.loggers:
            if hasattr(logger, "rewind"):
                logger.rewind(None)
    try:
        trainer.fit(learner, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except (UserError, OSError):
        raise
    except Exception as error:  # Lightning checks some settings, and what a checkpoint holds, only now
        if isinstance(error, MisconfigurationException) or (isinstance(error, ValueError) and not learner.began):
            raise UserError(one_line(str(error))) from error
        if checkpoint is not None and not learner.began:
            raise UserError(f"{checkpoint}: can't be resumed from ({one_line(repr(error))})") from error
        raise


def exit_with_one_line(error: Exception) -> NoReturn:
    """Ends the program: with one line if the user can do something about the error, else with its traceback."""
    explanation = explain(error, sys.argv[1:])
    if WANTS_TRACEBACK or explanation is None:
        raise error
    sys.exit(f"error: {explanation}" if rank() == 0 else 1)
