"""What the comparisons share: an environment with fastai, and what a peer's script prints of its training."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.process import ROOT

HERE = Path(__file__).parent
ENVIRONMENT = ROOT / "outputs" / "benchmarks" / "fastai"
FASTAI = "fastai==2.8.12"


def fastai_python() -> str:
    """Of the environment with fastai, which is made if it is not there."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print(f"making {ENVIRONMENT} …", file=sys.stderr)
        version = torch.__version__.partition("+")[0]
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"torch=={version}", FASTAI], check=True)
    return str(python)


def fit_of(output: str) -> tuple[float, float]:
    """The seconds of the fit and its samples per second, of a script that prints `fit SAMPLES SECONDS`."""
    samples, seconds = map(float, re.findall(r"^fit (\S+) (\S+)$", output, re.MULTILINE)[-1])
    return seconds, samples / seconds
