"""Trains a model: `python train.py model=gru data=human_numbers`, `python train.py model=resnet data=shapes`.

Everything that can be chosen is a file under `conf/`; `python train.py --help` lists it. Torch and Lightning
are imported only once the configuration has been composed and checked, so that help and mistakes answer at once.
"""

import gc
import logging
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from training import runs
from training.config import check, explain, one_line
from training.errors import Interrupted, UserError

WANTS_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ and runs.rank() == 0


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        return job(config, run_dir)
    try:
        check(config)
        if config.ckpt is not None:
            config = runs.with_parts_of(config, Path(config.ckpt))
            check(config)
        return train(config, run_dir, goes_on=config.checkpoint.requeue)
    except Exception as error:
        end_with_one_line(error)


def job(config: DictConfig, run_dir: Path) -> float | None:
    """A run of a sweep: what was begun goes on, what is finished is left, and a failure leaves the others alone."""
    runs.forget_failure(run_dir)
    try:
        check(config)
        return train(config, run_dir, goes_on=True)
    except Exception as error:
        explanation = explain(error, [])
        if explanation is None or WANTS_TRACEBACK:
            traceback.print_exc()
        say(f"error: {explanation or repr(error)}")
        runs.note_failure(run_dir, explanation or repr(error))
        return None


def resume(run_dir: Path, overrides: list[str]) -> None:
    """Goes on with a run in its own directory and with its own configuration, apart from what is typed now."""
    config = runs.load(run_dir, overrides)
    check(config)
    if overrides and runs.rank() == 0:
        runs.save(config, run_dir)
    OmegaConf.resolve(config)
    HydraConfig.instance().cfg = None  # Lightning starts further processes with this same command line
    if not (run_dir / runs.LAST).exists():
        say(f"{run_dir} has no checkpoint yet; the run begins anew")
    train(config, run_dir, goes_on=True)


def train(config: DictConfig, run_dir: Path, goes_on: bool) -> float | None:
    """One run, from the composed configuration to its report. Returns the figure that a search looks at.

    Args:
        config: the configuration.
        run_dir: where the run leaves everything.
        goes_on: with what is there already, if there is something.
    """
    shown_dir = os.path.relpath(run_dir)
    objective = config.objective
    if goes_on and runs.is_finished(run_dir, config):
        say(f"{shown_dir}: this run is finished; a larger trainer.max_epochs or trainer.max_steps extends it")
        return runs.metric(run_dir, objective)

    if "torch" not in sys.modules:
        gc.disable()  # imports make no garbage, and looking for some took a second
    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate

    from training.checkpoint import describe
    from training.checkpoint_io import CheckpointFiles

    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    quieten_lightning()
    threading.excepthook = end_with_writer
    pl.seed_everything(config.seed, verbose=False)
    torch.set_num_threads(runs.threads(config.threads))
    torch.set_float32_matmul_precision(config.float32_matmul)
    settle_vector_math()

    data = instantiate(config.data, _convert_="all")
    data.setup()
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    compile = settings.pop("compile", False)
    model = instantiate(settings, **data.model_arguments())
    del settings["_target_"]
    optimizer = {key: value for key, value in config.optimizer.items() if key != "groups"}
    module = instantiate(config.learner, _partial_=True)(
        model,
        optimizer=instantiate(optimizer, _convert_="all"),
        groups=config.optimizer.groups,
        schedule=instantiate(config.schedule, _convert_="all"),
        metadata=describe(model, settings, data.description()),
        compile=compile,
        label_smoothing=config.label_smoothing,
    )
    if config.task != "train":
        from training import tasks

        tasks.run(config.task, config, data, module, Path(shown_dir))
        return None

    callbacks = {name: instantiate(callback) for name, callback in config.callbacks.items() if callback}
    trainer = instantiate(
        config.trainer,
        callbacks=list(callbacks.values()),
        logger=[instantiate(logger) for logger in config.logger.values() if logger],
        plugins=[CheckpointFiles()],
        _convert_="all",
    )
    if trainer.world_size > 1 and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("a sweep's jobs train in one process each; leave trainer.devices at 1")
    for batches in (data.train, data.valid):
        batches.shard(0, trainer.world_size)  # refuses what can't be shared before other processes are started

    say(f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters; {data.summary()}")
    last = run_dir / runs.LAST
    if goes_on and last.exists():
        say(f"going on from {os.path.relpath(last)}")
    try:
        with runs.lock(run_dir):
            fit(trainer, module, data, last if goes_on and last.exists() else None)
    except Interrupted:
        say(f"interrupted at step {trainer.global_step}; to go on: {runs.command_to_go_on(shown_dir)}")
        raise

    best = callbacks.get("best")
    if best is not None and best.best_model_score is not None:
        say(f"best checkpoint: {os.path.relpath(best.best_model_path)} (valid loss {best.best_model_score:.4f})")
    say(f"everything else is in {shown_dir}; to see its curves: tensorboard --logdir {shown_dir}")
    reached = trainer.callback_metrics.get(objective)
    return None if reached is None else reached.item()


def fit(trainer: Any, module: Any, data: Any, checkpoint: Path | None) -> None:
    """Lightning's fit, from a checkpoint if there is one; what can't be fitted ends in one line."""
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    if checkpoint is None:  # a run that was killed before its first one leaves rows behind
        for logger in trainer.loggers:
            if hasattr(logger, "rewind"):
                logger.rewind(None)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except (UserError, OSError):
        raise
    except Exception as error:  # Lightning checks some settings, and what a checkpoint holds, only now
        if isinstance(error, MisconfigurationException) or (isinstance(error, ValueError) and not module.began):
            raise UserError(one_line(str(error))) from error
        if checkpoint is not None and not module.began:
            raise UserError(f"{checkpoint}: can't be resumed from ({one_line(repr(error))})") from error
        raise


def end_with_writer(failure: threading.ExceptHookArgs) -> None:
    """Ends the program when TensorBoard's writer can't write: waiting for a thread that has ended has no end."""
    if isinstance(failure.exc_value, OSError):
        print(f"error: {explain(failure.exc_value, [])}", file=sys.stderr, flush=True)
        os._exit(1)
    threading.__excepthook__(failure)


def settle_vector_math() -> None:
    """Calls each function of MKL's vector math that models use once, on one thread.

    The first call chooses the code that the function runs. When two threads make it at once, one of them can run other
    code that once: a tanh of 131,072 numbers had other last bits in 13 of 120 processes, and in none after this.
    """
    import torch

    for function in (torch.tanh, torch.exp, torch.log, torch.sqrt, torch.erf):
        function(torch.ones(64))


def quieten_lightning() -> None:
    """Leaves out what Lightning says about itself at every start."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for habit in (
        ".*logs directory .* exists and is not empty.*",  # Hydra's run directory holds `.hydra/` already
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
        ".*sync_dist=True.* when logging on epoch level.*",  # those figures are of all processes already
    ):
        warnings.filterwarnings("ignore", habit)


def end_with_one_line(error: Exception) -> NoReturn:
    """Ends the program: with one line if the user can do something about the error, else with its traceback."""
    explanation = explain(error, sys.argv[1:])
    if WANTS_TRACEBACK or explanation is None:
        raise error
    sys.exit(f"error: {explanation}" if runs.rank() == 0 else 1)


def say(message: str) -> None:
    if runs.rank() == 0:
        print(message, file=sys.stderr)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the one line below says what is wrong
    try:
        run_dir, overrides = runs.resumed(sys.argv[1:])
        if run_dir is None:
            main()
        else:
            resume(run_dir, overrides)
    except BrokenPipeError:  # the reader has seen enough, as in `train.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        end_with_one_line(error)
