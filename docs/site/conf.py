"""Sphinx's configuration; `build.py` prepares the folder that it reads."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

project = "unroll"
copyright = "MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "unroll"
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style, pygments_dark_style = "friendly", "monokai"
highlight_language = "none"  # a block without a language is what one types or sees
default_role = "code"  # docstrings have Markdown's backticks
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # as a forge names them
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_typehints = "none"  # the texts give shapes and types
napoleon_use_ivar = True

LETTER_AFTER = re.compile(r"(`[^`]+`)(?=\w)")  # as in `Window`s
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")


def from_markdown(app, what, name, obj, options, lines):
    """What docstrings have as Markdown has it: indented programs and drawings, and letters that follow a backtick."""
    result, in_section, in_block = [], False, False
    for line in lines:
        indented = line.startswith("    ")
        if line and not indented:
            in_section, in_block = bool(SECTION.match(line)), False
        elif indented and not in_section and not in_block and (not result or not result[-1]):
            result += ["::", ""]
            in_block = True
        result.append(line if in_block else LETTER_AFTER.sub(r"\1\\ ", line))
    lines[:] = result


def setup(app):
    app.connect("autodoc-process-docstring", from_markdown, priority=100)  # before napoleon
