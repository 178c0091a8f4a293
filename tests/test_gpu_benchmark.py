"""`benchmarks/gpu.sh` runs whole on a CPU, so that nothing is found wrong with it in the minutes that a GPU is lent."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from benchmarks import gpu

TABLES = {"gpu_layers.md", "gpu_windows.md", "gpu_speed.md"}


@pytest.fixture
def precision():
    """Puts back what the benchmark sets."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn


def test_every_part_runs_on_a_cpu(tmp_path, capsys, precision):
    gpu.main(["--dry-run", "--keep", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.count("a resumed fit ends exactly the same") == 3
    assert printed.count("not captured; losses differ by 0.0e+00 at most") == len(gpu.dry().small)
    assert printed.count("ten steps wait for the device at no place") == len(gpu.dry().small)
    assert {file.name for file in tmp_path.glob("*.md")} == TABLES
    rows = [line for line in (tmp_path / "gpu_speed.md").read_text().splitlines() if " eager " in line]
    assert len(rows) == len(gpu.MODELS) * len(gpu.PRECISIONS)
    speeds = [float(row.split("|")[6].replace(",", "")) for row in rows]  # an error would stand there
    assert min(speeds) >= 0


def test_no_speed_is_measured_when_the_time_is_over(capsys, precision):
    gpu.speeds(gpu.dry(), None, ends=0)
    assert "No time was left for: gru 2 bf16 eager; lstm 2 bf16 eager;" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_runs_whole(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "KEEP": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = ["benchmarks/gpu.sh", "--dry-run"]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "skipped" in finished.stdout
    assert {file.name for file in tmp_path.glob("*.md")} == {*TABLES, "gpu.md"}
