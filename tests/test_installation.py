"""What is said where a library or an extra is not installed: one line, with the command that fits this installation."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

WITHOUT = "import sys; sys.modules[{!r}] = None\n"  # importing it then fails as if it was not installed


def run(folder, code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
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


@pytest.mark.parametrize(
    ("library", "before", "code", "who"),
    [
        ("rich", "", "from unroll.training.callbacks import Progress", "unroll.training.callbacks.Progress"),
        ("matplotlib", "from unroll.training.callbacks import Curves", "Curves('.')", "Curves"),
        ("PIL", "from unroll.training.callbacks import ConfusionMatrix", "ConfusionMatrix('.')", "ConfusionMatrix"),
        ("tensorboard", "from unroll.training.loggers import TensorBoard", "TensorBoard('.')", "logger.tensorboard"),
        ("pooch", "", "from unroll.training.cache import download; download('file:a', '')", "a download"),
        ("platformdirs", "", "from unroll.training.cache import cache_folder; cache_folder(None)", "the cache folder"),
    ],
)
def test_a_library_of_the_application_is_named_by_what_needs_it(wheel, library, before, code, who):
    answer = run(wheel, f"{before}\n{WITHOUT.format(library)}{code}")
    last = answer.stderr.splitlines()[-1]
    assert last == f"unroll.errors.UserError: {who} needs the {library} library: pip install 'unroll-rnn[app]'"


@pytest.mark.parametrize("module", ["unroll.cli", "unroll.cli.report"])
def test_the_command_line_without_hydra_ends_in_one_line(wheel, module):
    program = {
        "unroll.cli": f"import runpy; runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')",
        "unroll.cli.report": f"import runpy; runpy.run_module({module!r}, run_name='__main__')",
    }
    answer = run(wheel, WITHOUT.format("hydra") + program[module])
    assert answer.returncode == 1
    assert answer.stderr == "error: the command line needs the hydra library: pip install 'unroll-rnn[app]'\n"
