"""Trains a language model: `python train.py model=gru data=human_numbers`.

Everything that can be chosen is a file under `conf/`; `python train.py --help` lists it. Torch and Lightning
are imported only once the configuration has been composed and checked, so that help and mistakes answer at once.
"""

import logging
import os
import sys
import warnings
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lm.config import check, explain, one_line
from lm.errors import UserError

WANTS_TRACEBACK = "HYDRA_FULL_ERROR" in os.environ


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float | None:
    try:
        check(config)
        return train(config)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # a sweep goes on with its other jobs
            raise
        end_with_one_line(error)


def train(config: DictConfig) -> float | None:
    """One run, from the composed configuration to its report. Returns the last validation loss."""
    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from lm.checkpoint import describe
    from lm.module import LanguageModel

    quieten_lightning()
    pl.seed_everything(config.seed, verbose=False)
    if config.threads is not None:
        torch.set_num_threads(min(config.threads, os.cpu_count() or 1))

    data = instantiate(config.data, _convert_="all")
    data.setup()
    model = instantiate(config.model, vocab_size=len(data.vocabulary))
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    del settings["_target_"]
    optimizer = {key: value for key, value in config.optimizer.items() if key != "groups"}
    module = LanguageModel(
        model,
        optimizer=instantiate(optimizer, _convert_="all"),
        groups=config.optimizer.groups,
        schedule=instantiate(config.schedule, _convert_="all"),
        metadata=describe(model, settings, data.vocabulary, data.bptt, data.prompt()),
    )
    callbacks = {name: instantiate(callback) for name, callback in config.callbacks.items() if callback}
    trainer = instantiate(
        config.trainer,
        callbacks=list(callbacks.values()),
        logger=[instantiate(logger) for logger in config.logger.values() if logger],
        _convert_="all",
    )

    say(f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters; {data.summary()}")
    try:
        trainer.fit(module, datamodule=data)
    except (MisconfigurationException, ValueError) as error:
        if isinstance(error, ValueError) and trainer.global_step > 0:
            raise
        raise UserError(one_line(str(error))) from error  # Lightning checks some settings only now

    run_dir = os.path.relpath(HydraConfig.get().runtime.output_dir)
    best = callbacks.get("best")
    if best is not None and best.best_model_path:
        say(f"best checkpoint: {os.path.relpath(best.best_model_path)} (valid loss {best.best_model_score:.4f})")
    say(f"everything else is in {run_dir}; to see its curves: tensorboard --logdir {run_dir}")
    valid_loss = trainer.callback_metrics.get("valid/loss")
    return None if valid_loss is None else valid_loss.item()


def quieten_lightning() -> None:
    """Leaves out what Lightning says about itself at every start."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for habit in (
        ".*logs directory .* exists and is not empty.*",  # Hydra's run directory holds `.hydra/` already
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
    ):
        warnings.filterwarnings("ignore", habit)


def end_with_one_line(error: Exception) -> NoReturn:
    """Ends the program: with one line if the user can do something about the error, else with its traceback."""
    explanation = explain(error, sys.argv[1:])
    if WANTS_TRACEBACK or explanation is None:
        raise error
    sys.exit(f"error: {explanation}")


def say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the one line below says what is wrong
    try:
        main()
    except BrokenPipeError:  # the reader has seen enough, as in `train.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        end_with_one_line(error)
