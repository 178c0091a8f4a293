"""The files of `conf/`: each value stands in one place."""

import inspect
from pathlib import Path

import pytest
from helpers.processes import ROOT
from hydra.utils import get_class
from omegaconf import OmegaConf

CONF = ROOT / "conf"
FILES = sorted(CONF.rglob("*.yaml"))


def load(file: Path) -> dict:
    return OmegaConf.to_container(OmegaConf.load(file), resolve=False) or {}


def bases(file: Path) -> list[Path]:
    """The files of the same folder that its defaults list names."""
    entries = load(file).get("defaults", [])
    named = [
        file.with_name(f"{entry}.yaml")
        for entry in entries
        if isinstance(entry, str) and entry != "_self_" and "/" not in entry
    ]
    return [base for base in named if base.exists()]


def flat(content: dict, prefix: str = "") -> dict:
    """Values by their whole keys."""
    found = {}
    for key, value in content.items():
        if key != "defaults" or prefix:
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def inherited(file: Path) -> dict:
    found: dict = {}
    for base in bases(file):
        found |= inherited(base) | flat(load(base))
    return found


@pytest.mark.parametrize("file", [file for file in FILES if bases(file)], ids=lambda file: str(file.relative_to(CONF)))
def test_no_file_repeats_a_value_of_its_base(file):
    before = inherited(file)
    assert {key: value for key, value in flat(load(file)).items() if key in before and before[key] == value} == {}


def chosen(model: str, group: str, otherwise: str) -> str:
    entries = load(CONF / "model" / f"{model}.yaml").get("defaults", [])
    named = [
        entry[f"override /{group}"] for entry in entries if isinstance(entry, dict) and f"override /{group}" in entry
    ]
    return (named or [otherwise])[0]


RECIPES = [file for file in (CONF / "recipe").rglob("*.yaml") if (CONF / "model" / file.name).exists()]


@pytest.mark.parametrize("file", sorted(RECIPES), ids=lambda file: str(file.relative_to(CONF)))
def test_no_recipe_repeats_what_its_data_and_its_model_say(file):
    data, model = CONF / "data" / f"{file.parent.name}.yaml", CONF / "model" / file.name
    parts = {
        "data": inherited(data) | flat(load(data)),
        "trainer": flat(load(CONF / "trainer" / "default.yaml")),
        "optimizer": flat(load(CONF / "optimizer" / f"{chosen(file.stem, 'optimizer', 'adamw')}.yaml")),
    }
    before = {f"{part}.{key}": value for part, content in parts.items() for key, value in content.items()}
    before |= inherited(model) | flat(load(model))
    assert {key: value for key, value in flat(load(file)).items() if before.get(key, ...) == value} == {}


BASES = {base for file in FILES for base in bases(file) if base.stem.startswith("_")}


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if any(base in BASES for base in bases(file))],
    ids=lambda file: str(file.relative_to(CONF)),
)
def test_a_base_lists_the_defaults_of_the_class(file):
    """The base is where a user sees them; the class is what a library user gets."""
    (base,) = (base for base in bases(file) if base in BASES)
    content, shown = load(file), load(base)
    target = content["model"]["_target_"] if file.parent.name == "model" else content["_target_"]
    shown = shown.get("model", shown)
    defaults = {}
    for part in reversed(get_class(target).__mro__):
        if "__init__" in vars(part):
            defaults |= {
                name: parameter.default for name, parameter in inspect.signature(part.__init__).parameters.items()
            }
    own = content.get("model", content)
    differ = {
        key: (value, defaults[key])
        for key, value in shown.items()
        if key in defaults and key not in own and defaults[key] not in (inspect.Parameter.empty, value)
        if not OmegaConf.is_interpolation(OmegaConf.create({key: value}), key)
        and (list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]) != value
    }
    assert differ == {}
