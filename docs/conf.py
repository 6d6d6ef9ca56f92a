"""The site: Sphinx reads the Markdown of this folder (by MyST) after `generate.py` has written the reference pages.

`make docs` builds it into `build/docs` with every warning an error, so a link or a heading that is not there fails.
The build needs no network, and the pages load nothing from elsewhere.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

_PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = "PoT Lab"
author = copyright = "PoT Lab contributors"
version = release = _PROJECT["version"]

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
master_doc = "index"
language = "en"

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
add_module_names = False
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"PoT Lab {release}"
html_copy_source = False
html_show_sourcelink = False


def setup(app: Any) -> dict[str, bool]:
    """Write the generated pages first; diagrams in Mermaid show as text, and as a picture where a forge draws them."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("mermaid", TextLexer)
    app.connect("config-inited", lambda _app, _config: generate.write())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
