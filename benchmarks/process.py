"""What the benchmarks share: whole processes with their time and memory, and tables."""

import argparse
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from lm.text.chunks import whole
from unroll.cli.plan import MIB, in_kib
from unroll.training.cache import download

ROOT = Path(__file__).parents[1]
EVERY = 0.02  # seconds


class Table:
    """A Markdown table that is printed row by row, and kept at the end with its metrics.

    Args:
        name: of the files.
        columns: their names.
        folder: where `NAME.md` and `NAME.json` are kept, if anywhere.
    """

    def __init__(self, name: str, columns: Sequence[str], folder: Path | None) -> None:
        self.name, self.columns, self.folder = name, columns, folder
        self.lines: list[str] = []
        self.metrics: list[dict[str, Any]] = []
        self.show(f"| {' | '.join(columns)} |")
        self.show("|---" * len(columns) + "|")

    def add(self, *cells: tuple[Any, str]) -> None:
        """A row: each value, and the format to show it in."""
        self.show(f"| {' | '.join(format(value, style) for value, style in cells)} |")
        self.metrics.append(dict(zip(self.columns, (value for value, _ in cells), strict=True)))

    def show(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def keep(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{self.name}.md").write_text("\n".join(self.lines) + "\n", encoding="utf-8")
            (self.folder / f"{self.name}.json").write_text(json.dumps(self.metrics, indent=2) + "\n", encoding="utf-8")


def with_overrides(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """The arguments of the command line, and the overrides among them (`threads=1`), wherever they stand."""
    overrides = [one for one in sys.argv[1:] if "=" in one and not one.startswith("-")]
    return parser.parse_args([one for one in sys.argv[1:] if one not in overrides]), overrides


class Finished(NamedTuple):
    """Seconds from start to end, the peak of memory in MiB (0 where /proc does not tell), and standard output."""

    seconds: float
    memory: float
    output: str


def watch(
    command: Sequence[str],
    line: Callable[[str, float], None] = lambda line, seconds: None,
    folder: Path = ROOT,
) -> Finished:
    """Runs a command; if it fails, this program exits.

    Memory is read from /proc while the process runs: what the system says at its end (`ru_maxrss`) begins with the
    memory of the process that started it.

    Args:
        command: the program and its arguments.
        line: called with each line of standard output, and the seconds that have passed.
        folder: where it runs; by default the project's.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0

    def look() -> None:
        nonlocal peak
        while process.poll() is None:
            with suppress(OSError, StopIteration):
                peak = max(peak, 1024 * in_kib(f"/proc/{process.pid}/status", "VmHWM"))
            time.sleep(EVERY)

    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    threads = [threading.Thread(target=look), threading.Thread(target=errors.extend, args=(process.stderr,))]
    for thread in threads:
        thread.start()
    output = ""
    for text in process.stdout:
        output += text
        line(text, time.perf_counter() - started)
    process.wait()
    seconds = time.perf_counter() - started
    for thread in threads:
        thread.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {errors[-1].strip() if errors else process.returncode}")
    return Finished(seconds, peak / MIB, output)


def epoch_row(line: str) -> list[float]:
    """The numbers of an epoch's row, five in most tables: epoch, train loss, valid loss, accuracy, seconds."""
    if not re.fullmatch(r"[\s\d.:,'\[\]]+", line):
        return []
    return [float(number) if ":" not in number else math.nan for number in re.findall(r"[\d.:]+", line)]


class Laps:
    """Milliseconds of the parts of a step, over many steps."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.last = 0.0

    def start(self) -> None:
        self.last = time.perf_counter()

    def lap(self, part: str) -> None:
        """The time since the last lap, or the start, is this part's."""
        now = time.perf_counter()
        self.times.setdefault(part, []).append(1000 * (now - self.last))
        self.last = now

    def medians(self, skip: int = 0) -> dict[str, float]:
        """Of each part, without the first steps."""
        return {part: median(times[skip:]) for part, times in self.times.items()}


def corpus(name: str, path: str | Path | None) -> Path:
    """The file of a downloaded text: a copy of one's own, or else what `data=NAME` has."""
    data = OmegaConf.load(ROOT / "conf" / "data" / f"{name}.yaml")
    return Path(path or download(data.url, data.sha256)).resolve()


def nietzsche_text(path: str | None) -> str:
    return whole(corpus("nietzsche", path)).read()
