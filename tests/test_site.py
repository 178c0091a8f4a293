"""The configuration reference has every key that can be typed. (That the site builds, `make docs` shows.)"""

import sys

from conftest import ROOT
from omegaconf import OmegaConf

sys.path.append(str(ROOT / "docs" / "site"))
import configuration

FILES = [
    path
    for path in (ROOT / "conf").rglob("*.yaml")
    if path.relative_to(ROOT / "conf").parts[0] not in ("hydra", "recipe")
]


def leaves(node, path=()):
    """The keys of values, each with those above it."""
    for name, value in node.items():
        if name in configuration.NOT_SETTINGS:
            continue
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield ".".join([*path, name])


def test_every_key_of_every_file_is_in_the_reference():
    for file in FILES:
        found = [key for key, value, _ in configuration.rows(file, "") if value]
        assert sorted(found) == sorted(leaves(OmegaConf.to_container(OmegaConf.load(file), resolve=False))), file


def test_a_key_has_the_meaning_of_its_comment_or_else_of_the_argument():
    rows = {key: (value, meaning) for key, value, meaning in configuration.rows(ROOT / "conf/data/_text.yaml", "data")}
    assert rows["data.bptt"] == ("70", "tokens per window: how far back gradients reach")
    rows = {key: meaning for key, _, meaning in configuration.rows(ROOT / "conf/average/nt_asgd.yaml", "callbacks")}
    assert rows["callbacks.average.patience"] == "validations"
    rows = {key: meaning for key, _, meaning in configuration.rows(ROOT / "conf/callbacks/default.yaml", "callbacks")}
    assert rows["callbacks.last.dirpath"].startswith("the folder")
