from helpers import memory  # noqa: F401 - first of all

# isort: split

import gc
import json
import os
import subprocess
import sys
from collections import defaultdict
from functools import partial

import hypothesis
import pytest
import torch
from helpers import processes
from helpers.processes import ROOT
from helpers.samples import reviews

# How long an example takes is no test's affair.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=40)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=400)
hypothesis.settings.load_profile("tests")
torch.set_num_threads(1)  # the models are small, and the tests run side by side


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # a collection would visit all that was imported, and again


@pytest.hookimpl(tryfirst=True)  # before those marked slow are left out
def pytest_collection_modifyitems(items):
    cases = defaultdict(list)
    for item in items:
        if item.get_closest_marker("few") and not item.get_closest_marker("slow"):
            cases[item.parent.nodeid, item.originalname].append(item)
    for among in cases.values():
        number = min(among[0].get_closest_marker("few").args[0], len(among))
        chosen = {index * len(among) // number for index in range(number)}
        for index, item in enumerate(among):
            if index not in chosen:
                item.add_marker(pytest.mark.slow)
    without_gpu = pytest.mark.skip(reason="needs an NVIDIA GPU")
    for item in items if not torch.cuda.is_available() else ():
        if "gpu" in item.keywords:
            item.add_marker(without_gpu)


@pytest.fixture
def command(tmp_path):
    """Runs `python …` as a user would, in an empty folder; returns the finished process."""

    def run(*arguments: object, input: str = "", timeout: float = 200) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment.pop("HYDRA_FULL_ERROR", None)
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def program(tmp_path):
    """Runs `python -m MODULE …` in the same way, from a process that has imported torch already."""

    def run(module: str, *arguments: object, **settings) -> subprocess.CompletedProcess:
        return processes.train(*arguments, folder=tmp_path, module=module, **settings)

    return run


@pytest.fixture
def train(tmp_path):
    """Runs `python train.py …` in the same way, from a process that has imported torch already."""
    return partial(processes.train, folder=tmp_path)


@pytest.fixture
def reviews_file(tmp_path):
    """Documents with a class, as JSON lines."""
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in reviews(160)))
    return path
