"""What is installed: a wheel of the library alone, and an editable installation of the checkout.

Nothing is downloaded. A clean environment is a folder with links to torch, Lightning, numpy and what these need.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BASE = ("torch", "pytorch-lightning", "numpy")
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
NOT_NEEDED = ("hydra-core", "omegaconf", "rich", "matplotlib", "pillow", "pooch", "platformdirs", "num2words")


def python(*arguments: object, cwd: Path, path: tuple[Path, ...] = (), executable: object = sys.executable) -> str:
    """What `python …` prints, with these folders on its path in place of the environment's own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [str(executable), *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr + finished.stdout
    return finished.stdout


def install(wheel: Path, folder: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", folder]
    python("-m", "pip", "install", *options, wheel, cwd=folder.parent)


def closure(names: tuple[str, ...]) -> dict[str, Distribution]:
    """These distributions and all that they need here, without extras."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        try:
            needed = found.setdefault(name, distribution(name))
        except PackageNotFoundError:
            continue  # such as setuptools, which one of them may list and do without
        for requirement in map(Requirement, needed.requires or ()):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and canonicalize_name(requirement.name) not in found:
                waiting.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory) -> Path:
    """A folder with the base dependencies, and what they need, alone."""
    folder = tmp_path_factory.mktemp("dependencies")
    for needed in closure(BASE).values():
        for name in {file.parts[0] for file in needed.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / name).exists():
                (folder / name).symlink_to(Path(str(needed.locate_file(name))).resolve())
    return folder


@pytest.fixture(scope="module")
def installed(wheel, dependencies, tmp_path_factory) -> tuple[Path, Path]:
    """The folders of a clean environment that the wheel was installed into."""
    folder = tmp_path_factory.mktemp("environment") / "unroll"
    install(wheel, folder)
    return folder, dependencies


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert wheel.name.startswith("unroll_rnn-")
    assert {name for name in names if name.startswith("unroll/")} == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "unroll").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert all(re.match(r"unroll/|unroll_rnn-[^/]+\.dist-info/", name) for name in names)


def test_the_library_needs_torch_lightning_and_numpy(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(file.read(name).decode())
    requirements = map(Requirement, metadata.get_all("Requires-Dist"))
    assert metadata["Name"] == "unroll-rnn"
    assert {each.name for each in requirements if "extra" not in str(each.marker)} == set(BASE)


@pytest.mark.slow
def test_the_version_is_that_of_the_installation(wheel, installed, tmp_path):
    found = python("-S", "-c", "import unroll; print(unroll.__version__)", cwd=tmp_path, path=installed).strip()
    assert wheel.name == f"unroll_rnn-{found}-py3-none-any.whl"


def test_a_tag_makes_the_version_and_a_copy_without_one_installs_too(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def version():
        return python("-m", "hatchling", "version", cwd=tmp_path).strip()

    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert version() == "0.0.0"
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert version().startswith("0.0.1.dev1+g")
    git("tag", "v1.2.3")
    assert version() == "1.2.3"


def test_a_clean_environment_has_no_more_than_that(installed, tmp_path):
    script = "import importlib.metadata as m; print(*sorted(d.metadata['Name'].lower() for d in m.distributions()))"
    found = python("-S", "-c", script, cwd=tmp_path, path=installed).split()
    assert {"unroll-rnn", *BASE} <= set(found)
    assert not set(NOT_NEEDED) & set(found)


def test_the_wheel_imports_without_the_checkout(installed, tmp_path):
    script = "import importlib.util, unroll; from unroll import *; print(unroll.__file__)"
    script += "; print([name for name in ('lm', 'vision', 'series', 'hydra') if importlib.util.find_spec(name)])"
    file, found = python("-S", "-c", script, cwd=tmp_path, path=installed).splitlines()
    assert Path(file) == installed[0] / "unroll" / "__init__.py"
    assert found == "[]"


@pytest.mark.slow
def test_a_typed_program_that_uses_it_is_accepted(installed, tmp_path):
    """By mypy --strict, from outside; a name whose type got lost would be an error here."""
    shutil.copy(ROOT / "tests" / "helpers" / "typed_program.py", tmp_path)
    options = ["--strict", "--follow-imports=silent", "--cache-dir", tmp_path / "cache"]
    environment = {**os.environ, "MYPYPATH": str(installed[0])}
    command = [sys.executable, "-m", "mypy", *map(str, options), "typed_program.py"]
    checked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert (installed[0] / "unroll" / "py.typed").exists()


@pytest.mark.slow
def test_the_program_of_the_readme_runs_on_the_wheel(installed, tmp_path):
    (script,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "sine.py").write_text(script, encoding="utf-8")
    python("-S", "sine.py", cwd=tmp_path, path=installed)
    assert (tmp_path / "runs" / "sine" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_the_wheel(installed, tmp_path, name):
    shutil.copy(ROOT / "examples" / name, tmp_path)
    assert python("-S", name, cwd=tmp_path, path=installed)


@pytest.fixture
def editable(tmp_path, dependencies):
    """Runs Python of an environment with an editable installation of a clone that is called `unroll`."""
    clone = tmp_path / "projects" / "unroll"
    clone.parent.mkdir()
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "__pycache__", "outputs", "build", "dist"))
    (tmp_path / "wheel").mkdir()
    build = "import sys, hatchling.build; hatchling.build.build_editable(sys.argv[1])"  # as pip install -e does
    python("-c", build, tmp_path / "wheel", cwd=clone)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    python("-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    executable = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    install(wheel, site)

    def run(script: str, cwd: Path) -> str:
        return python("-c", script, cwd=cwd, path=(dependencies,), executable=executable).strip()

    return clone, run


@pytest.mark.slow
def test_an_editable_installation_is_a_plain_entry_on_the_path(editable, tmp_path):
    clone, run = editable
    found = run("from unroll import Stream; import unroll; print(unroll.__file__)", cwd=clone.parent)
    assert Path(found) == clone / "unroll" / "__init__.py"
    found = run("import lm, vision, series; print(lm.__file__)", cwd=tmp_path)
    assert Path(found) == clone / "lm" / "__init__.py"
