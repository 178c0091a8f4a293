"""The runs of a report, as they are read from their directories."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from unroll.checks import is_number
from unroll.cli.run_directory import FAILURE, read_yaml, typed_in
from unroll.errors import UserError
from unroll.files import read_json
from unroll.terminal import one_line

SPEED = "_per_second"  # how the key of a run's throughput ends in result.json
ENDED = ("finished", "interrupted")
REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")  # to another key, and nothing else
MOST_REFERENCES = 20  # one after the other


@dataclass
class Run:
    """One run directory.

    Attributes:
        directory: where it is.
        typed: the values that were typed, by key.
        status: "finished", "interrupted", "failed", "damaged" for a directory that can't be read, or "unfinished" for a
            run that was killed or is still training.
        metrics: by name, and with them seconds and throughput.
        error: why it failed or can't be read.
        directions: of each metric, whether less ("min") or more ("max") is better, as the run's task says.
        settings: the whole configuration as it is written, references included.
        choices: the name chosen in each of its groups, such as that of the model.
    """

    directory: Path
    typed: dict[str, Any]
    status: str
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str = ""
    directions: dict[str, str] = field(default_factory=dict)
    settings: dict[Any, Any] = field(default_factory=dict)
    choices: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "Run":
        overrides, config, hydra = (directory / ".hydra" / f"{name}.yaml" for name in ("overrides", "config", "hydra"))
        try:
            typed = dict(map(parse, typed_in(read_yaml(overrides, ListConfig), overrides)))
            settings, of_hydra = (as_written(read_yaml(path, DictConfig)) for path in (config, hydra))
        except UserError as error:
            return cls(directory, {}, "damaged", error=str(error))
        choices = at(of_hydra, "hydra.runtime.choices")
        choices = choices if isinstance(choices, dict) else {}
        result = read_json(directory / "result.json")
        failure = read_json(directory / FAILURE)
        directions = read_json(directory / "metrics.json")
        if failure:
            reason = one_line(str(failure.get("error")))
            return cls(directory, typed, "failed", {}, reason, directions, settings, choices)
        found = result.get("metrics")
        metrics = {**(found if isinstance(found, dict) else {}), "seconds": result.get("seconds")}
        metrics |= {key.removesuffix(SPEED) + "/s": value for key, value in result.items() if key.endswith(SPEED)}
        metrics = {name: value for name, value in metrics.items() if value is None or is_number(value)}
        status = next((known for known in ENDED if known == result.get("status")), "unfinished")
        return cls(directory, typed, status, metrics, "", directions, settings, choices)

    def value(self, key: str) -> Any:
        """The value of a key, typed or from the configuration; None of a damaged run.

        One that refers to another key alone is the other's. What else refers to something stays as it is written: a
        stranger's run could refer to environment variables, or stand for billions of letters.

        Raises:
            UserError: it refers to a key that is not there.
        """
        if key in self.typed:
            return self.typed[key]
        value = self.choices[key] if key in self.choices else at(self.settings, key)
        for _ in range(MOST_REFERENCES):
            reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if reference is None:
                return plain(value)
            value = at(self.settings, reference[1], value)  # itself if there is no such key
        raise UserError(f"{self.directory}: {key} can't be read (it refers to {value})")


def parse(override: str) -> tuple[str, Any]:
    """What was typed, such as `data.bptt=8`, as a key and a value.

    Raises:
        UserError: Hydra would not take it.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
        return parsed.key_or_group, plain(parsed.value())
    except HydraException as error:
        raise UserError(f"{one_line(override)}: can't be read ({one_line(str(error))})") from None


def as_written(settings: DictConfig) -> dict[Any, Any]:
    """A configuration in which references are text."""
    found: Any = OmegaConf.to_container(settings)
    return found if isinstance(found, dict) else {}


def at(settings: Any, key: str, default: Any = None) -> Any:
    """The value of a key such as `data.bptt`."""
    for name in key.split("."):
        if not (isinstance(settings, dict) and name in settings):
            return default
        settings = settings[name]
    return settings


def plain(value: Any) -> Any:
    """A value that can be compared and put into a set: a list or dict as text."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def find_runs(directories: Iterable[Path]) -> list[Run]:
    """The runs in these directories and below them.

    Raises:
        UserError: there are none.
    """
    directories = list(directories)
    found = {path.parents[1] for directory in directories for path in directory.rglob(".hydra/config.yaml")}
    if not found:
        raise UserError(f"no runs in {', '.join(map(str, directories))}")
    return [Run.read(directory) for directory in sorted(found, key=natural_order)]


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A key to sort by that puts run 9 before run 10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in path.parts]
