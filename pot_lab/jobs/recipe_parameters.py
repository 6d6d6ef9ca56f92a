"""The parameters of a recipe with their types, defaults and comments, for a form: read from its code, never run."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from pot_lab.jobs import recipe_files

GIVEN_BY_SUPERVISOR = frozenset({"workspace"})


def recipe_parameters(path: Path) -> list[dict[str, Any]]:
    """What may be set of a notebook, in its order: `name`, `type`, `default` and `about` (the comment beside it).

    Raises:
        NotebookUnusable: the file is no notebook.
    """
    cells = json.loads(recipe_files.read(path))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if not tagged:
        return []
    source = tagged[0]["source"]
    code = source if isinstance(source, str) else "".join(source)
    lines = code.splitlines()
    found = []
    for node in ast.parse(code).body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            continue
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            continue  # computed: no form can say it
        if node.target.id not in GIVEN_BY_SUPERVISOR:
            about = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :].partition("#")[2].strip()
            kind = ast.unparse(node.annotation)
            found.append({"name": node.target.id, "type": kind, "default": default, "about": about})
    return found
