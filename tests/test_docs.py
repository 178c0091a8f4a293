"""What the README and docs/ show works as it stands there."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from helpers.configuration import composed
from helpers.processes import train

PAGES = {
    page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
ALL_PAGES = {**PAGES, **{name: ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md")}}
WIDTH = 120
FENCE = re.compile(r"^```(.*)\n", re.MULTILINE)
FILE = re.compile(r"^`(\S+)`:\n\n```(?:python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # the file's name, above it
PACKAGES = ("unroll", "lm", "vision", "series", "reading", "benchmarks")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    parts = FENCE.split(text_of(page))
    return [content for kind, content in zip(parts[1::4], parts[2::4], strict=True) if kind == language]


def prose(page: Path) -> str:
    """What is outside fenced blocks."""
    return "".join(FENCE.split(text_of(page))[::4])


def typed(page: Path) -> list[str]:
    """The commands of a page, without what explains them."""
    shell = re.sub(r" \\\n +", " ", "\n".join(blocks(page, "")))
    lines = re.findall(r"^((?:PYTHONPATH=\. )?python .*?)(?:   +.*)?$", shell, re.MULTILINE)
    return lines + re.findall(r"`(python (?:train\.py|-m) [^`]+)`", text_of(page))


COMMANDS = [(name, line) for name, page in PAGES.items() for line in dict.fromkeys(typed(page))]


def overrides_of(line: str) -> list[str] | None:
    """What is typed after `train.py`, if it can be composed by itself."""
    words = shlex.split(line)
    if words[1] != "train.py" or {"--config-dir", "-sc", "--help"} & set(words):
        return None
    sweeps = "-m" in words
    words = [word for word in words[2:] if word not in ("-m", "--cfg", "job")]
    if any(word.endswith("=?") for word in words) or any(
        part in word for word in words for part in ("resume=", "…", "ckpt=")
    ):
        return None
    return [word.partition(",")[0] if sweeps and "[" not in word else word for word in words]


@pytest.mark.parametrize(
    "line", sorted({line for _, line in COMMANDS if overrides_of(line) is not None}), ids=lambda line: line[7:]
)
@pytest.mark.few(20)
def test_the_choices_and_settings_that_are_typed_exist(line):
    composed(*overrides_of(line))


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


def snippets(name: str) -> list[str]:
    """The programs of a page, other than the files that it shows by name."""
    files = {content for _, content in FILE.findall(text_of(PAGES[name]))}
    return [block for block in blocks(PAGES[name], "python") if block not in files]


IN_PROCESS = ("docs/migrate.md", "docs/pitfalls.md")  # pages of many short programs, each by itself; `py` is not run


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=f"{Path(name).stem}-{number}")
        for name in IN_PROCESS
        for number, script in enumerate(snippets(name))
    ],
)
@pytest.mark.few(8)
def test_a_program_runs_by_itself_and_is_short(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    assert len(script.splitlines()) < 50
    exec(compile(script, "snippet", "exec"), {"__name__": "__main__"})


def test_the_programs_of_the_readme_and_the_pages_run_in_one_folder_twice(program, tmp_path):
    assert snippets("README.md")
    pages = [name for name in PAGES if name not in ("README.md", *IN_PROCESS) and snippets(name)]
    for _ in range(2):  # the second time there are checkpoints to resume from
        for script in [script for name in ("README.md", *pages) for script in snippets(name)]:
            (tmp_path / "snippet.py").write_text(script, encoding="utf-8")
            finished = program("snippet.py")
            assert finished.returncode == 0, f"{script}\n{finished.stderr}"


@pytest.mark.slow
def test_what_extending_shows_works_as_it_is_printed_from_the_first_file_to_the_last_command(tmp_path):
    page = PAGES["docs/extending.md"]
    files = FILE.findall(text_of(page))
    assert len(files) == len(blocks(page, "python") + blocks(page, "yaml"))
    for name, content in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    commands = [line for line in typed(page) if line.startswith("PYTHONPATH=. ")]
    assert len(commands) >= 9
    for line in commands:
        words = shlex.split(line)[2:]
        module, words = (words[1], words[2:]) if words[0] == "-m" else (None, words[1:])
        finished = train(*words, folder=tmp_path, module=module, path=tmp_path)
        assert finished.returncode == 0, f"{line}\n{finished.stderr}"


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for name, page in ALL_PAGES.items():
        for shown, target, anchor in re.findall(r"\[([^\]]*)\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text_of(page)):
            found = page.parent / target if target else page
            assert found.exists(), f"{name}: {target}"
            assert not anchor or anchor in anchors(found), f"{name}: {target}#{anchor}"
            if re.fullmatch(r"[\w/]+\.\w+", shown):  # a path: that of the file, from this page or the project's folder
                assert target.endswith(shown), f"{name}: {shown} leads to {target}"


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(([^)#]+\.md)", text_of(PAGES["docs/index.md"])))
    assert {f"docs/{target}" for target in linked if not target.startswith("..")} == set(PAGES) - {
        "README.md",
        "docs/index.md",
    }


def test_lines_are_short_enough_to_read():
    for name, page in ALL_PAGES.items():
        shown = [prose(page), *(block for language in ("", "python", "yaml") for block in blocks(page, language))]
        for line in "\n".join(shown).splitlines():
            whole = line.startswith(("|", "python3 -m venv"))  # a row of a table, and a command that .ci/run reads
            assert len(line) <= WIDTH or whole or " " not in line.strip(), f"{name}: {line}"


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or a class, function or attribute in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_names_that_are_mentioned_exist():
    """Such as `unroll.kernels.use(False)`, `lm/language/heads.py` and `tests/test_resume.py`."""
    folders = "|".join((*PACKAGES, "tests", "examples", "conf", "docs"))
    for name, page in ALL_PAGES.items():
        its_own = {file for file, _ in FILE.findall(text_of(page))}
        for mentioned in set(re.findall(r"`([^`\s]+)`", prose(page))) - its_own:
            if re.fullmatch(rf"(?:{folders})/[a-z\d_/.]*", mentioned):
                assert (ROOT / mentioned).exists(), f"{name}: {mentioned}"
            dotted = re.match(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+", mentioned)
            if dotted and not mentioned.endswith((".py", ".md", ".json", ".db")):
                assert exists(dotted[0]), f"{name}: {mentioned}"


def test_metrics_are_not_called_figures():
    """One thing has one name; a figure is a plot."""
    for name, page in ALL_PAGES.items():
        assert not re.findall(r"(?i).*\bfigures?\b.*", text_of(page)), name
