"""`train.py --help`: the choices, and all settings as chosen now.

Hydra's own help asks its configuration loader for every group several times, which takes twice as long as all the rest.
"""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unroll.cli.config import CONFIG_DIR, choices, directories, search_path

HEADER = """\
Trains recurrent language models on streams of text, and image classifiers.

  python train.py                                  the lesson's GRU on human numbers
  python train.py model=rnn data.bptt=35           another model, another window
  python train.py data=text data.train=FILE        a text of your own
  python train.py model=resnet data=shapes         an image classifier, on generated images
  python train.py -m model=gru data.bptt=8,20,70   a sweep
  python train.py resume=outputs/…                 continues a run that was stopped
"""
FOOTER = "--cfg job prints the configuration of a run without running it; --hydra-help explains Hydra's own flags."
NOT_CHOSEN_BY_NAME = ("hydra", "recipe")


def page(overrides: Sequence[str]) -> str:
    """What `--help` prints.

    Args:
        overrides: what else is typed; settings are shown with it.
    """
    groups = sorted({path.name for folder in directories() for path in folder.iterdir() if path.is_dir()})
    lists = [f"{group}: {', '.join(name for name, _ in choices(group))}" for group in groups]
    lists = [line for group, line in zip(groups, lists, strict=True) if group not in NOT_CHOSEN_BY_NAME]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", overrides=[*overrides, *search_path()])
    settings = OmegaConf.to_yaml(config)
    chosen = "Choices (name=choice):\n\n{}\n\nSettings (name.key=value), as chosen now:\n\n{}"
    return "\n".join([HEADER, chosen.format("\n".join(lists), settings), FOOTER])
