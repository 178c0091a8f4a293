"""The arrows of the house: which package may import which. Imports are read from the code."""

import ast
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGES = ("unroll", "lm", "vision")


def modules():
    """Every module of the packages: its name and file."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imports(file: Path) -> set[str]:
    """The modules that a file imports anywhere, functions and `TYPE_CHECKING` included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def breaches(source: str, forbidden: tuple[str, ...], apart: tuple[str, ...] = ()) -> list[str]:
    """Imports of the forbidden packages in the modules of `source`."""
    return [
        f"{module} imports {name}"
        for module, file in modules()
        if within(module, source) and not any(within(module, other) for other in apart)
        for name in sorted(imports(file))
        if any(within(name, package) for package in forbidden)
    ]


@pytest.mark.parametrize(
    ("source", "forbidden", "apart"),
    [
        ("unroll", ("hydra", "omegaconf", "unroll.cli"), ("unroll.cli",)),
        ("unroll", ("lm", "vision"), ()),
        ("lm", ("vision", "hydra", "unroll.cli"), ()),
        ("vision", ("lm", "hydra", "unroll.cli"), ()),
        ("unroll.streams", ("pytorch_lightning", "unroll.training.learner", "unroll.training.callbacks"), ()),
        ("series", ("unroll.cli",), ()),
    ],
)
def test_the_arrows_point_one_way(source, forbidden, apart):
    assert breaches(source, forbidden, apart) == []


LEAVES = ("unroll.checks", "unroll.distributed", "unroll.errors", "unroll.state")


@pytest.mark.parametrize("package", ["lm.language", "vision.models"])
def test_models_import_torch_and_the_leaves_of_unroll_alone(package):
    allowed = ("torch", package, *LEAVES)
    for module, file in modules():
        if within(module, package):
            third_party = {name for name in imports(file) if name.split(".")[0] not in sys.stdlib_module_names}
            # `from unroll.checks import Size` counts as unroll.checks and unroll.checks.Size
            assert [name for name in sorted(third_party) if not any(within(name, root) for root in allowed)] == [], (
                module
            )


def imported_at_once(file: Path) -> set[str]:
    """The modules that importing a file imports: not those in functions, nor under `TYPE_CHECKING`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reached(*names: str) -> set[str]:
    """All that importing these modules imports, through our own packages."""
    files, found, waiting = dict(modules()), set(), list(names)
    while waiting:
        parts = waiting.pop().split(".")
        for name in (".".join(parts[:length]) for length in range(1, len(parts) + 1)):
            if name not in found:
                found.add(name)
                waiting += imported_at_once(files[name]) if name in files else []
    return found


@pytest.mark.parametrize(
    ("names", "unwanted"),
    [
        (("unroll",), ("torch", "hydra", "omegaconf", "lm", "vision")),
        (("unroll.streams", "unroll.state", "unroll.carry", "unroll.resume.last"), ("hydra", "rich", "unroll.cli")),
        (("unroll.cli.program",), ("torch", "pytorch_lightning", "numpy", "matplotlib")),
        (("lm.data", "lm.language", "lm.generate", "lm.language.checkpoint"), ("hydra", "pytorch_lightning")),
        (("vision.data", "vision.models", "vision.classify"), ("hydra", "pytorch_lightning")),
    ],
    ids=lambda names: " ".join(names),
)
def test_what_is_imported_with_a_module(names, unwanted):
    assert not {name for name in reached(*names) if any(within(name, package) for package in unwanted)}


def test_leaves_import_nothing_of_the_house_but_leaves():
    for module, file in modules():
        if module in LEAVES:
            ours = {name for name in imports(file) if name.split(".")[0] in PACKAGES}
            assert all(any(within(name, leaf) for leaf in LEAVES) for name in ours), module


def test_a_breach_is_found(tmp_path, monkeypatch):
    (tmp_path / "unroll").mkdir()
    (tmp_path / "unroll" / "bad.py").write_text("def later():\n    from lm.text import Vocabulary\n")
    monkeypatch.setattr("test_architecture.ROOT", tmp_path)
    assert breaches("unroll", ("lm",)) == ["unroll.bad imports lm.data", "unroll.bad imports lm.data.Vocabulary"]
