"""`--help`: the choices, and all settings as chosen now; `model=?`: the choices of one group, a line each.

Hydra's own help asks its configuration loader for every group several times, which takes twice as long as all the rest.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from unroll.cli.config import choices, compose_config, groups

FOOTER = "--cfg job prints the configuration of a run without running it; --hydra-help explains Hydra's own flags."
NOT_CHOSEN_BY_NAME = {"hydra", "recipe"}


def page(description: str, overrides: Sequence[str]) -> str:
    """What `--help` prints.

    Args:
        description: of the application.
        overrides: what else is typed; settings are shown with it.
    """
    lines = [
        f"{group}: {', '.join(name for name, _ in choices(group))}" for group in sorted(groups() - NOT_CHOSEN_BY_NAME)
    ]
    return "\n".join(
        [
            description,
            "Choices (name=choice):\n",
            *lines,
            "\nSettings (name.key=value), as chosen now:\n",
            OmegaConf.to_yaml(compose_config(overrides)),
            FOOTER,
        ]
    )


def groups_asked_for(arguments: Sequence[str]) -> list[str]:
    """The groups that are typed with a question mark, as in `model=?`."""
    return [word[:-2] for word in arguments if word.endswith("=?") and word[:-2] in groups()]


def choices_of(group: str) -> str:
    """The choices of a group, each with the first sentence of its file."""
    found = list(choices(group))
    width = max(len(name) for name, _ in found)
    return "\n".join([f"{group}:", *(f"  {name:<{width}}  {first_sentence(file)}".rstrip() for name, file in found)])


def first_sentence(file: Path) -> str:
    """Of the comment that a file begins with; empty if there is none."""
    words: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            words.append(line.removeprefix("# "))
    return re.split(r"(?<!et al\.)(?<=[.:;]) ", " ".join(words))[0].rstrip(".:;")
