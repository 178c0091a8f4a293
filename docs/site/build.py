"""Builds the site: `make docs`, or `python docs/site/build.py FOLDER`. A broken link or a bad docstring is an error.

The pages are those of `docs/`, as a forge shows them, with README, CONTRIBUTING and CHANGELOG. Links to files of the
project lead to copies of these, and the reference is made here: of the library and the models from their docstrings, of
the configuration from its comments. Notebooks are pages with their texts and programs, and with what these show if
`make notebooks` has executed them.
"""

import base64
import json
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import configuration
from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXECUTED = ROOT / "build" / "notebooks"
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".ipynb": "json"}
ABOVE = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

# The reference, page by page: title, and the names on it. "module:" documents a whole module.
REFERENCE = {
    "streams": ("Streams and windows", ["unroll.Stream", "unroll.Window", "unroll.IndependentWindows"]),
    "state": (
        "The state",
        ["unroll.CarriesState", "unroll.save_state", "unroll.load_state", "module:unroll.state"],
    ),
    "checkpoints": ("Checkpoints", ["unroll.LastCheckpoint", "unroll.CheckpointFiles", "unroll.UserError"]),
    "layers": ("Recurrent layers: unroll.nn", "unroll.nn"),
    "kernels": ("Kernels: unroll.kernels", "unroll.kernels"),
    "learners": (
        "Learners, objectives and data",
        [
            *("unroll.Learner", "unroll.WindowLearner", "unroll.Objective", "unroll.Scored"),
            *("unroll.CrossEntropy", "unroll.MeanSquaredError", "unroll.Data"),
        ],
    ),
    "schedules": (
        "Schedules",
        [f"unroll.{name}" for name in ("count_steps", "one_cycle", "sgdr", "steps", "constant")],
    ),
    "callbacks": ("Callbacks", "unroll.training.callbacks"),
    "language_models": ("Language models", "lm.language"),
    "other_models": (
        "Taggers, classifiers, forecasters and images",
        [
            *("lm.tagging.model.Tagger", "lm.documents.model.Classifier", "series.model.Forecaster"),
            *(f"vision.models.{name}" for name in import_module("vision.models").__all__),
        ],
    ),
}


def site_path(target: Path, pages: Path) -> str:
    """Where a file of the project is on the site, from the site's root; it is put there if it is not a page."""
    relative = target.relative_to(ROOT).as_posix()
    if relative in ABOVE:
        return "/" + ABOVE[relative]
    if target.suffix == ".md" and target.is_relative_to(DOCS):
        return "/" + target.relative_to(DOCS).as_posix()
    if target.suffix == ".ipynb":
        return "/" + target.relative_to(ROOT).with_suffix(".md").as_posix()
    if target.suffix in (".png", ".svg"):
        shutil.copy(target, pages / target.name)
        return "/" + target.name
    page = pages / "source" / f"{relative}.md"
    if not page.exists():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("", encoding="utf-8")  # a folder links to its files, which may link back
        page.write_text(source_page(target, pages), encoding="utf-8")
    return f"/source/{relative}.md"


def source_page(target: Path, pages: Path) -> str:
    """A file as it is, or the list of a folder's files."""
    title = f"---\norphan: true\n---\n\n# {target.relative_to(ROOT).as_posix()}\n\n"
    if target.is_dir():
        files = sorted(path for path in target.rglob("*") if path.suffix in (".py", ".yaml", ".ipynb"))
        links = (f"- [{path.relative_to(target).as_posix()}]({site_path(path, pages)})" for path in files)
        return title + "\n".join(links) + "\n"
    language = LANGUAGES.get(target.suffix, "none")
    return f"{title}````{language}\n{target.read_text(encoding='utf-8')}\n````\n"


def notebook(file: Path, pictures: Path) -> str:
    """The text of a page: what the cells hold, and what they print and draw if the notebook has been executed.

    Args:
        file: the notebook.
        pictures: the folder of the page, where its pictures are put.
    """
    executed = EXECUTED / file.name
    parts = []
    for number, cell in enumerate(json.loads((executed if executed.exists() else file).read_bytes())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"````python\n{source}\n````")
        printed = "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
        if printed:
            parts.append(f"````none\n{printed.rstrip()}\n````")
        for output in cell["outputs"]:
            shown = output.get("data", {})
            if "text/html" in shown:
                parts.append(f"````{{raw}} html\n{''.join(shown['text/html'])}\n````")
            elif "image/png" in shown:
                picture = pictures / f"{file.stem}_{number}.png"
                picture.write_bytes(base64.b64decode(shown["image/png"]))
                parts.append(f"![What the cell draws]({picture.name})")
    return "\n\n".join(parts) + "\n"


def page(file: Path, pages: Path) -> str:
    """A page with its links as the site has them."""

    def on_the_site(match: re.Match[str]) -> str:
        target = (file.parent / match[1]).resolve()
        if not target.exists():
            sys.exit(f"error: {file.relative_to(ROOT)}: {match[1]} does not exist")
        return f"]({site_path(target, pages)}{match[2] or ''})"

    return LINK.sub(on_the_site, file.read_text(encoding="utf-8"))


def contents(index: str) -> str:
    """The table of contents, from the index: a part for each of its bold lines, with the pages below it."""
    parts = re.split(r"^\*\*(.+?)\*\*.*$", index, flags=re.MULTILINE)
    listed = [("Start", ["readme"])]
    for caption, text in zip(parts[1::2], parts[2::2], strict=True):
        links = re.findall(r"\]\(/([\w/]+)\.md", text)
        listed.append((caption, [link for link in dict.fromkeys(links) if not link.startswith("source/")]))
    listed.append(("Reference", [*(f"reference/{name}" for name in REFERENCE), "reference/configuration/index"]))
    listed.append(("The project", ["contributing", "changelog"]))
    seen: set[str] = set()
    lines = []
    for caption, names in listed:
        fresh = [name for name in names if name not in seen]
        seen.update(fresh)
        if not fresh:
            continue
        lines += ["```{toctree}", ":hidden:", f":caption: {caption}", "", *fresh, "```", ""]
    return "\n".join(lines)


def reference(title: str, names: str | list[str]) -> str:
    """A page of the reference."""
    directives = []
    if isinstance(names, str):
        directives.append(f".. automodule:: {names}\n   :no-members:\n")
        names = [f"{names}.{name}" for name in sorted(import_module(names).__all__)]
    for name in names:
        if name.startswith("module:"):
            directives.append(f".. automodule:: {name.removeprefix('module:')}\n")
            continue
        module, _, attribute = name.rpartition(".")
        kind = "class" if isinstance(getattr(import_module(module), attribute), type) else "function"
        directives.append(f".. auto{kind}:: {name}\n")
    return f"# {title}\n\n```{{eval-rst}}\n" + "\n".join(directives) + "```\n"


def write(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def prepare(pages: Path) -> None:
    """Writes the folder that Sphinx reads."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for file in [*DOCS.rglob("*.md"), *(ROOT / name for name in ABOVE)]:
        text = page(file, pages)
        if file == DOCS / "index.md":
            text += "\n" + contents(text)
        write(text, pages / site_path(file, pages)[1:])
    (pages / "notebooks").mkdir()
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        write(notebook(file, pages / "notebooks"), pages / site_path(file, pages)[1:])
    for name, (title, names) in REFERENCE.items():
        write(reference(title, names), pages / "reference" / f"{name}.md")
    choices = configuration.pages(ROOT / "conf")
    for name, text in choices.items():
        write(text, pages / "reference" / "configuration" / f"{name}.md")
    introduction = "# Configuration\n\nEvery choice and every key, as `python train.py` takes them.\n\n"
    toc = "\n".join(["```{toctree}", ":maxdepth: 2", "", *choices, "```", ""])
    write(introduction + toc, pages / "reference" / "configuration" / "index.md")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()
    prepare(folder / "pages")
    config = str(Path(__file__).parent)
    options = ["-W", "--keep-going", "-q", "-b", "html", "-c", config, "-d", str(folder / "cache")]
    sys.exit(sphinx([*options, str(folder / "pages"), str(folder / "html")]))
