"""`--help`: the choices, and all settings as chosen now.

Hydra's own help asks its configuration loader for every group several times, which takes twice as long as all the rest.
"""

from collections.abc import Sequence

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
