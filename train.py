"""Trains a model: `python train.py model=gru data=human_numbers`, `python train.py model=resnet data=shapes`.

Every choice is a file under `conf/`; `python train.py --help` lists them. `unroll.cli` does the work. It imports torch
and Lightning only after the configuration has been composed, so that help and mistakes are answered at once.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends the program without a traceback

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from unroll import cli  # noqa: E402


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def train(config: DictConfig) -> float | None:
    return cli.run(config)


if __name__ == "__main__":
    cli.main(train)
