"""The runs of a report, as they are read from their directories."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unroll.checks import is_number
from unroll.cli.run_directory import FAILURE, read_yaml, typed_in
from unroll.errors import UserError
from unroll.files import read_json
from unroll.terminal import one_line

SPEED = "_per_second"  # how the key of a run's throughput ends in result.json
ENDED = ("finished", "interrupted")


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
        settings: the whole configuration.
        choices: the name chosen in each of its groups, such as that of the model.
    """

    directory: Path
    typed: dict[str, Any]
    status: str
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str = ""
    directions: dict[str, str] = field(default_factory=dict)
    settings: DictConfig = field(default_factory=OmegaConf.create)
    choices: Any = None

    @classmethod
    def read(cls, directory: Path) -> "Run":
        overrides, config, hydra = (directory / ".hydra" / f"{name}.yaml" for name in ("overrides", "config", "hydra"))
        try:
            typed = dict(map(parse, typed_in(read_yaml(overrides, ListConfig), overrides)))
            settings = read_yaml(config, DictConfig)
            choices = OmegaConf.select(read_yaml(hydra, DictConfig), "hydra.runtime.choices")
        except UserError as error:
            return cls(directory, {}, "damaged", error=str(error))
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

        Raises:
            UserError: it refers to something that is not there.
        """
        if key in self.typed:
            return self.typed[key]
        try:
            chosen = isinstance(self.choices, DictConfig) and key in self.choices
            return plain(self.choices[key] if chosen else OmegaConf.select(self.settings, key))
        except OmegaConfBaseException as error:
            raise UserError(f"{self.directory}: {key} can't be read ({one_line(str(error))})") from None


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
    return [(int(part) if part.isdigit() else -1, part) for part in path.parts]
