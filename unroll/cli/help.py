"""`train.py --help`: the choices, and all settings as chosen now.

Hydra's own help asks its configuration loader for every group several times, which takes twice as long as all the rest.
"""

from collections.abc import Sequence

from omegaconf import OmegaConf

from unroll.cli.config import choices, composed, groups

HEADER = """\
Trains recurrent models: language models on streams of text, taggers and classifiers of text, forecasters of numbers
over time; and image classifiers.

  python train.py                                  the lesson's GRU on human numbers
  python train.py model=rnn data.bptt=35           another model, another window
  python train.py data=text data.train=FILE        a text of your own
  python train.py model=tagger                     a label for every word
  python train.py model=classifier                 a class for a document
  python train.py model=forecaster data.train=FILE.csv   forecasts of numbers over time
  python train.py model=resnet data=shapes         an image classifier, on generated images
  python train.py -m model=gru data.bptt=8,20,70   a sweep
  python train.py resume=outputs/…                 continues a run that was stopped
"""
FOOTER = "--cfg job prints the configuration of a run without running it; --hydra-help explains Hydra's own flags."
NOT_CHOSEN_BY_NAME = {"hydra", "recipe"}


def page(overrides: Sequence[str]) -> str:
    """What `--help` prints.

    Args:
        overrides: what else is typed; settings are shown with it.
    """
    shown = sorted(groups() - NOT_CHOSEN_BY_NAME)
    lists = [f"{group}: {', '.join(name for name, _ in choices(group))}" for group in shown]
    settings = OmegaConf.to_yaml(composed(overrides))
    chosen = "Choices (name=choice):\n\n{}\n\nSettings (name.key=value), as chosen now:\n\n{}"
    return "\n".join([HEADER, chosen.format("\n".join(lists), settings), FOOTER])
