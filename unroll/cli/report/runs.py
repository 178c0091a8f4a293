"""The runs of a report, as they are read from their directories."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from unroll.cli.run_directory import FAILURE
from unroll.errors import UserError
from unroll.files import read_json

SPEED = "_per_second"  # how the key of a run's throughput ends in result.json


@dataclass
class Run:
    """One run directory.

    Attributes:
        directory: where it is.
        typed: the values that were typed, by key.
        status: "finished", "interrupted", "failed", or "unfinished" for a run that was killed or is still training.
        metrics: by name, and with them seconds and throughput.
        error: why it failed.
        directions: of each metric, whether less ("min") or more ("max") is better, as the run's task says.
    """

    directory: Path
    typed: dict[str, Any]
    status: str
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str = ""
    directions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "Run":
        overrides: Any = OmegaConf.load(directory / ".hydra" / "overrides.yaml")
        result = read_json(directory / "result.json")
        failure = read_json(directory / FAILURE)
        directions = read_json(directory / "metrics.json")
        metrics = dict(result.get("metrics", {}))
        metrics["seconds"] = result.get("seconds")
        metrics |= {key.removesuffix(SPEED) + "/s": value for key, value in result.items() if key.endswith(SPEED)}
        typed = dict(map(parse, overrides))
        if failure:
            return cls(directory, typed, "failed", error=failure["error"], directions=directions)
        return cls(directory, typed, result.get("status", "unfinished"), metrics, directions=directions)

    @cached_property
    def hydra_dir(self) -> tuple[Any, Any]:
        folder = self.directory / ".hydra"
        return OmegaConf.load(folder / "config.yaml"), OmegaConf.load(folder / "hydra.yaml")

    def value(self, key: str) -> Any:
        """The value of a key, typed or from the configuration."""
        if key in self.typed:
            return self.typed[key]
        config, hydra = self.hydra_dir
        choices = hydra.hydra.runtime.choices
        return plain(choices[key] if key in choices else OmegaConf.select(config, key))


def parse(override: str) -> tuple[str, Any]:
    """What was typed, such as `data.bptt=8`, as a key and a value."""
    parsed = OverridesParser.create().parse_override(override)
    return parsed.key_or_group, plain(parsed.value())


def plain(value: Any) -> Any:
    """A value that can be compared and put into a set: a list or dict as text."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    return str(value) if isinstance(value, (list, dict)) else value


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
    return [(int(part) if part.isdigit() else -1, part) for part in path.parts]
