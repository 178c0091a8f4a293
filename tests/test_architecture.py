"""The arrows of the house: which package may import which. Imports are read from the code."""

import ast
import re
import sys
from pathlib import Path

import pytest
import pytorch_lightning
import torch
from conftest import ROOT

PACKAGES = ("unroll", "lm", "vision", "series", "reading")
TASKS = ("lm", "vision", "series")
COPIES = ("pytorch_lightning", "lightning_fabric", "lightning")
LIGHTNING = (*COPIES, "unroll.lightning")


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
        ("unroll", (*TASKS, "reading"), ()),
        ("reading", (*TASKS, "hydra", "omegaconf", "unroll.cli", "unroll.training"), ()),
        *((package, COPIES, ("unroll.lightning", "unroll.cli")) for package in PACKAGES),
        ("unroll.kernels", ("unroll.nn", "unroll.streams", "unroll.resume", "unroll.training"), ()),
        ("unroll.nn", (*LIGHTNING, "unroll.streams", "unroll.resume", "unroll.training"), ()),
        ("unroll.streams", (*LIGHTNING, "unroll.nn", "unroll.resume", "unroll.training"), ()),
        ("unroll.resume", ("unroll.training",), ()),
        ("lm", ("vision", "series", "hydra", "omegaconf", "unroll.cli"), ()),
        ("vision", ("lm", "series", "hydra", "omegaconf", "unroll.cli"), ()),
        ("series", ("lm", "vision", "hydra", "omegaconf", "unroll.cli"), ()),
        ("lm.text", ("lm.language", "lm.tagging", "lm.documents"), ("lm.text.tokens",)),
        ("lm.language", ("lm.tagging", "lm.documents"), ()),
        ("lm.tagging", ("lm.language", "lm.documents"), ()),
        ("lm.documents", ("lm.tagging",), ()),
        ("lm", ("lm.export", "lm.explore"), ("lm.export", "lm.explore")),  # tools: no task knows them
    ],
)
def test_the_arrows_point_one_way(source, forbidden, apart):
    assert breaches(source, forbidden, apart) == []


LEAVES = (
    "unroll.checks",
    "unroll.device",
    "unroll.distributed",
    "unroll.errors",
    "unroll.files",
    "unroll.lazy",
    "unroll.precision",
    "unroll.state",
)
MODELS = (
    "lm.language.blocks",
    "lm.language.heads",
    "lm.language.human_numbers",
    "lm.language.model",
    "lm.language.nietzsche",
    "lm.language.stacks",
    "lm.tagging.crf",
    "lm.tagging.model",
    "lm.documents.model",
    "vision.models",
)


@pytest.mark.parametrize("source", [*MODELS, "unroll.nn", "unroll.kernels"])
def test_a_model_imports_torch_layers_and_leaves_alone(source):
    """So that it can be read, and taken out, by itself."""
    layers = ("unroll.kernels",) if source == "unroll.kernels" else ("unroll.nn", "unroll.kernels")
    allowed = ("torch", "typing_extensions", "unroll.nn", *layers, *LEAVES, *MODELS)
    for module, file in modules():
        if within(module, source):
            third_party = {name for name in imports(file) if name.split(".")[0] not in sys.stdlib_module_names}
            # `from unroll.checks import Size` counts as unroll.checks and unroll.checks.Size
            outside = [name for name in sorted(third_party) if not any(within(name, root) for root in allowed)]
            assert [name for name in outside if name != "unroll"] == [], module  # `from unroll import nn`


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
        (("unroll",), ("torch", "hydra", "omegaconf", "lm", "vision", "series")),
        (
            ("unroll.carry", "unroll.streams", "unroll.training.schedules"),
            LIGHTNING,
        ),  # a program chooses one
        (
            (
                "unroll.streams",
                "unroll.carry",
                "unroll.nn",
                "unroll.kernels",
                "unroll.resume.last_checkpoint",
                "unroll.training",
            ),
            ("hydra", "rich", "platformdirs", "pooch", "PIL", "matplotlib", "unroll.cli"),
        ),
        (("unroll.cli.program",), ("torch", *LIGHTNING, "numpy", "matplotlib")),
        (("lm.text", "lm.language", "lm.generate", "lm.language.checkpoint"), ("hydra", *LIGHTNING)),
        (("vision.data", "vision.models", "vision.classify"), ("hydra", *LIGHTNING)),
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
    assert breaches("unroll", ("lm",)) == ["unroll.bad imports lm.text", "unroll.bad imports lm.text.Vocabulary"]


def private_names_of_lightning() -> set[str]:
    """Attributes and methods with an underscore of what we use of Lightning: trainer, loops, modules, loggers, …"""
    root = Path(pytorch_lightning.__file__).parent
    folders = ("core", "loggers", "loops", "plugins", "strategies", "trainer")
    files = [file for folder in folders for file in (root / folder).rglob("*.py")]
    files += [root / "callbacks" / f"{name}.py" for name in ("callback", "checkpoint", "model_checkpoint")]
    files += [root / "callbacks" / "weight_averaging.py"]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    attributes = re.findall(r"self\.(_[a-z]\w*)(?::[^=\n]+)? = ", source)
    return {*attributes, *re.findall(r"def (_[a-z]\w*)\(", source)} - {*dir(torch.Tensor)}


def private_uses(source: str, names: set[str]) -> list[str]:
    """Where code reads, sets, defines or spells out one of these names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        kinds = {ast.Attribute: "attr", ast.Constant: "value", ast.FunctionDef: "name"}
        name = getattr(node, kinds.get(type(node), ""), None)
        if isinstance(name, str) and name in names:
            found.append(f"line {node.lineno}: {name}")
    return found


def test_lightnings_private_names_are_in_one_file():
    names = private_names_of_lightning()
    allowed = ROOT / "unroll" / "resume" / "lightning.py"
    assert private_uses(allowed.read_text(encoding="utf-8"), names)
    files = [file for package in (*PACKAGES, "series") for file in (ROOT / package).rglob("*.py") if file != allowed]
    uses = {str(file.relative_to(ROOT)): private_uses(file.read_text(encoding="utf-8"), names) for file in files}
    assert {file: found for file, found in uses.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "loader = trainer.fit_loop._data_source.dataloader()",
        "trainer = getattr(self, '_trainer', None)",
        "class Average(WeightAveraging):\n    def _swap_models(self, module): ...",
        "logger._experiment = None",
    ],
)
def test_a_private_name_is_found(source):
    assert len(private_uses(source, private_names_of_lightning())) == 1
