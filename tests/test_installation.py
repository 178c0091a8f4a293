"""What is said where a library or an extra is not installed: one line, with the command that fits this installation."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

HIDE = """
import sys

def hide(library):  # importing it then fails as if it was not installed
    names = {library, *(name for name in sys.modules if name.split(".")[0] == library)}
    sys.modules.update(dict.fromkeys(names))

"""


def run(folder, code):
    return subprocess.run(
        [sys.executable, "-c", HIDE + code], cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder with what a wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "unroll", folder / "unroll", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_command_is_the_one_that_fits(wheel):
    code = "from unroll.errors import install_command; print(install_command('series'))"
    assert run(ROOT, code).stdout == "pip install -c constraints.txt -e '.[series]'\n"
    assert run(wheel, code).stdout == "pip install 'unroll-rnn[series]'\n"


# A library, what needs it, and how it is used.
USES = [
    ("rich", "unroll.training.callbacks.Progress", "from unroll.training.callbacks import Progress"),
    ("PIL", "ConfusionMatrix", "ConfusionMatrix('.')"),
    ("matplotlib", "Curves", "Curves('.')"),
    ("tensorboard", "logger.tensorboard", "TensorBoard('.')"),
    ("pooch", "a download", "download('file:a', '')"),
    ("platformdirs", "the cache folder", "cache_folder(None)"),
]


@pytest.mark.slow
def test_a_library_of_the_application_is_named_by_what_needs_it(wheel):
    code = f"""
from unroll.errors import UserError
from unroll.training.cache import cache_folder, download
from unroll.training.callbacks import ConfusionMatrix, Curves
from unroll.training.loggers import TensorBoard
for library, _, statement in {USES}:
    hide(library)
    try: exec(statement)
    except UserError as error: print(error)
"""
    answer = run(wheel, code)
    expected = [f"{who} needs the {library} library: pip install 'unroll-rnn[app]'" for library, who, _ in USES]
    assert answer.stdout.splitlines() == expected, answer.stderr


@pytest.mark.parametrize(
    "program",
    [
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')",
        "runpy.run_module('unroll.cli.report', run_name='__main__', alter_sys=True)",
    ],
    ids=["train.py", "report"],
)
def test_the_command_line_without_hydra_ends_in_one_line(wheel, program):
    answer = run(wheel, f"hide('hydra'); import runpy; {program}")
    assert answer.returncode == 1
    assert answer.stderr == "error: the command line needs the hydra library: pip install 'unroll-rnn[app]'\n"
