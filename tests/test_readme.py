"""What the README shows works as it stands there."""

import re

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from unroll.cli.config import CONFIG_DIR

README = (ROOT / "README.md").read_text()
TYPED = [
    [word.strip("'") for word in re.findall(r"'[^']*'|[^\s']+", typed)]
    for typed in re.findall(r"^python train\.py (.*?)(?:  +.*)?$", README, re.MULTILINE)
]


def test_the_parts_work_without_train_py(command):
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    finished = command("-c", script)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    "overrides",
    [words for words in TYPED if not words[0].startswith(("-", "resume=")) and "<" not in "".join(words)],
    ids=" ".join,
)
def test_the_choices_and_settings_it_types_exist(overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose("train", overrides=overrides)
