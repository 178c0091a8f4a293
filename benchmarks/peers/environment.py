"""What the comparisons share: environments with the peers, and what a peer's script prints of its training."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.process import ROOT

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / "outputs" / "benchmarks"
FASTAI = ("fastai==2.8.12",)
FORECASTERS = ("darts==0.48.1", "neuralforecast==3.3.0", "pytorch-lightning==2.6.6")


def fastai_python() -> str:
    """Of the environment with fastai, which is made if it is not there."""
    return python_with("fastai", FASTAI)


def forecasters_python() -> str:
    """Of the environment with darts and neuralforecast, which is made if it is not there."""
    return python_with("forecasters", FORECASTERS)


def python_with(name: str, packages: Sequence[str]) -> str:
    environment = ENVIRONMENTS / name
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"making {environment} …", file=sys.stderr)
        version = torch.__version__.partition("+")[0]
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"torch=={version}", *packages], check=True)
    return str(python)


def fit_of(output: str) -> tuple[float, float]:
    """The seconds of the fit and its samples per second, of a script that prints `fit SAMPLES SECONDS`."""
    samples, seconds = map(float, re.findall(r"^fit (\S+) (\S+)$", output, re.MULTILINE)[-1])
    return seconds, samples / seconds
