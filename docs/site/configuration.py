"""The configuration reference: every choice and every key, with the comments of the yaml files.

A key without a comment has the meaning that the docstring of its class gives the argument.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

NOT_SETTINGS = ("defaults", "_target_", "_partial_", "_recursive_", "gives", "takes")
LEFT_OUT = ("hydra", "recipe")


def documented(target: str) -> dict[str, str]:
    """What the docstring of a class or function says of its arguments, the first sentence of each."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return {}
    text = f"{inspect.getdoc(found)}\n{inspect.getdoc(getattr(found, '__init__', None))}"
    arguments = re.search(r"^Args:\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", arguments[1] if arguments else "", re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


def rows(file: Path, prefix: str) -> list[tuple[str, str, str]]:
    """Key as it is typed, value and meaning of every setting in a file; the value of a part is empty."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()

    def comment(node: yaml.Node) -> str:
        """What stands behind a key or a value, on the line where it ends."""
        behind = re.match(r":?\s+# (.*)$", lines[node.end_mark.line][node.end_mark.column :])
        return behind[1] if behind else ""

    def walk(node: yaml.MappingNode, path: list[str], meanings: dict[str, str]) -> Iterator[tuple[str, str, str]]:
        target = next((value.value for key, value in node.value if key.value == "_target_"), None)
        if target is not None:
            meanings = documented(target)
        for key, value in node.value:
            name = key.value
            if name in NOT_SETTINGS:
                continue
            if isinstance(value, yaml.MappingNode) and value.value:
                if said := comment(key):
                    yield ".".join([*path, name]), "", said
                yield from walk(value, [*path, name], {})
            else:
                shown = text[value.start_mark.index : value.end_mark.index].strip()
                said = comment(value) if shown else comment(key)
                yield ".".join([*path, name]), shown or "null", said or meanings.get(name, "")

    root = yaml.compose(text)
    return [] if root is None else list(walk(root, [prefix] if prefix else [], {}))


def prefix_of(file: Path, group: str) -> str:
    """What the keys of a file are typed behind."""
    package = re.search(r"^# @package (\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return group if package is None else package[1].replace("_global_", "")


def introduction(file: Path) -> str:
    """The comment that a file begins with."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("# "))
    return " ".join(lines)


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def section(file: Path, title: str, prefix: str) -> list[str]:
    lines = [f"## {title}", "", escaped(introduction(file)), ""]
    found = rows(file, prefix)
    if found:
        lines += ["| key | value | meaning |", "|---|---|---|"]
        lines += [
            f"| `{key}` | {f'`{value}`'.replace('|', chr(92) + '|') if value else ''} | {escaped(meaning)} |"
            for key, value, meaning in found
        ]
        lines.append("")
    return lines


def pages(conf: Path) -> dict[str, str]:
    """A page for the root of the configuration and each group of choices, by name, as Markdown."""
    found = {"settings": "\n".join(["# Settings of a run", "", *section(conf / "train.yaml", "train.yaml", "")])}
    for folder in sorted(path for path in conf.iterdir() if path.is_dir() and path.name not in LEFT_OUT):
        lines = [f"# {folder.name}", ""]
        for file in sorted(folder.glob("*.yaml"), key=lambda file: (not file.name.startswith("_"), file.name)):
            shared = file.name.startswith("_")
            title = f"{file.stem} (shared)" if shared else f"{folder.name}={file.stem}"
            lines += section(file, title, prefix_of(file, folder.name))
        found[folder.name] = "\n".join(lines)
    return found
