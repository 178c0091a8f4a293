"""What the README and docs/ show works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from helpers.processes import train
from hydra import compose, initialize_config_dir

from unroll.cli.config import CONFIG_DIR

PAGES = {
    page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")  # a block that begins with its file's name


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    parts = re.split(r"^```(.*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [content for kind, content in zip(parts[1::4], parts[2::4], strict=True) if kind == language]


def typed(page: Path) -> list[str]:
    """The commands of a page, without what explains them."""
    lines = re.findall(r"^((?:PYTHONPATH=\. )?python .*?)(?:   +.*)?$", "\n".join(blocks(page, "")), re.MULTILINE)
    return lines + re.findall(r"`(python (?:train\.py|-m) [^`]+)`", page.read_text(encoding="utf-8"))


COMMANDS = [(name, line) for name, page in PAGES.items() for line in dict.fromkeys(typed(page))]


def overrides_of(line: str) -> list[str] | None:
    """What is typed after `train.py`, if it can be composed by itself."""
    words = shlex.split(line)
    if words[1] != "train.py" or {"--config-dir", "-sc", "--help"} & set(words):
        return None
    sweeps = "-m" in words
    words = [word for word in words[2:] if word not in ("-m", "--cfg", "job")]
    if any(part in word for word in words for part in ("resume=", "…", "ckpt=")):
        return None
    return [word.partition(",")[0] if sweeps and "[" not in word else word for word in words]


@pytest.mark.parametrize(
    "line", sorted({line for _, line in COMMANDS if overrides_of(line) is not None}), ids=lambda line: line[7:]
)
def test_the_choices_and_settings_that_are_typed_exist(line):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose("train", overrides=overrides_of(line))


@pytest.mark.parametrize(
    "module", sorted({shlex.split(line)[2] for _, line in COMMANDS if line.startswith("python -m ")} - {"pytest"})
)
def test_the_programs_and_their_options_exist(module):
    used = {
        word.partition("=")[0]
        for _, line in COMMANDS
        if f"-m {module}" in line
        for word in shlex.split(line)[3:]
        if word.startswith("--")
    }
    shown = train("--help", folder=ROOT, module=module)
    assert shown.returncode == 0, shown.stderr
    assert [option for option in used if option not in shown.stdout] == []


SNIPPETS = [
    pytest.param(block, id=f"{name} {number}")
    for name, page in PAGES.items()
    for number, block in enumerate(block for block in blocks(page, "python") if not FILE.match(block))
]


@pytest.mark.parametrize("script", SNIPPETS)
def test_a_snippet_runs_twice_in_the_same_folder(program, tmp_path, script):
    (tmp_path / "snippet.py").write_text(script, encoding="utf-8")
    for _ in range(2):  # the second time there is a checkpoint to resume from
        finished = program("snippet.py")
        assert finished.returncode == 0, finished.stderr


def test_what_extending_shows_works_from_the_first_file_to_the_last_command(tmp_path):
    page = PAGES["docs/extending.md"]
    for block in blocks(page, "python") + blocks(page, "yaml"):
        name, content = FILE.match(block)[1], block.partition("\n")[2]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    commands = [line for line in typed(page) if line.startswith("PYTHONPATH=. ")]
    assert len(commands) >= 8
    for line in commands:
        words = shlex.split(line)[2:]
        module, words = (words[1], words[2:]) if words[0] == "-m" else (None, words[1:])
        finished = train(*words, folder=tmp_path, module=module, path=tmp_path)
        assert finished.returncode == 0, f"{line}\n{finished.stderr}"


def test_links_lead_somewhere():
    for name, page in PAGES.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{name}: {target}"


def test_the_readme_is_short():
    text = PAGES["README.md"].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200
