"""A recipe's file: read as editors write it, made whole, and refused before a job is made of it if it cannot run.

Jobs always run Python. Notebooks of generators and editors lack what papermill wants (a language, a minor version), or
begin with a byte order mark; what is missing is filled in here.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pot_lab.crypto.nested_json import load_json
from pot_lab.errors import near_names
from pot_lab.jobs.errors import BadJobParameters, NotebookUnusable

NOTEBOOK_LIMIT_BYTES = 32 << 20
_PYTHON = frozenset({"python", "python3", "ipython"})
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read(path: Path) -> bytes:
    """A notebook's file as a job runs it.

    Raises:
        NotebookUnusable: it cannot be read, is no notebook, or is in another language than Python.
    """
    try:
        size = path.stat().st_size
        if size > NOTEBOOK_LIMIT_BYTES:
            raise NotebookUnusable("the notebook is too large", seen=size, wanted=f"{NOTEBOOK_LIMIT_BYTES} bytes")
        raw = path.read_bytes()
        encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8-sig")
        content = load_json(raw.decode(encoding))
    except (OSError, ValueError) as error:
        raise NotebookUnusable("the notebook cannot be read", seen=f"{path}: {error}") from error
    if not isinstance(content, dict) or content.get("nbformat") != 4 or not isinstance(content.get("cells"), list):
        raise NotebookUnusable("not a notebook", seen=str(path), wanted="nbformat 4")
    return json.dumps(_whole(content, path), ensure_ascii=False).encode()


def _whole(content: dict[str, Any], path: Path) -> dict[str, Any]:
    metadata = content.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    spec, info = (
        dict(metadata[name]) if isinstance(metadata.get(name), dict) else {} for name in ("kernelspec", "language_info")
    )
    for language in (spec.get("language"), info.get("name")):
        if language and str(language).lower() not in _PYTHON:
            raise NotebookUnusable("the notebook is in another language", seen=f"{path}: {language}", wanted="Python")
    metadata["kernelspec"] = {"display_name": "Python 3", **spec, "language": "python", "name": "python3"}
    metadata["language_info"] = {**info, "name": "python"}
    cells = [_whole_cell(cell, path) for cell in content["cells"]]
    minor = content.get("nbformat_minor")
    minor = minor if isinstance(minor, int) else 5
    if minor < 5 or not all("id" in cell for cell in cells):
        minor = min(minor, 4)  # cells have ids from 4.5 on
        for cell in cells:
            cell.pop("id", None)
    return {**content, "metadata": metadata, "nbformat_minor": minor, "cells": cells}


def _whole_cell(cell: Any, path: Path) -> dict[str, Any]:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        raise NotebookUnusable("a cell of the notebook is of no known kind", seen=f"{path}: {str(cell)[:60]}")
    whole: dict[str, Any] = {"metadata": {}, "source": "", **cell}
    if whole["cell_type"] == "code":
        whole = {"execution_count": None, "outputs": [], **whole}
    return whole


def check_parameters(path: Path, names: Iterable[str]) -> None:
    """Check that a recipe uses each of these parameters: a slip would leave the default in force without a word.

    Raises:
        NotebookUnusable: as of `read`.
        BadJobParameters: a name stands nowhere in the notebook's code.
    """
    sources = [cell["source"] for cell in json.loads(read(path))["cells"] if cell["cell_type"] == "code"]
    code = "\n".join(text if isinstance(text, str) else "".join(text) for text in sources)
    words = set(re.findall(r"[^\W\d]\w*", code))
    for name in names:
        if name not in words:
            near = near_names(name, sorted(words))
            raise BadJobParameters(
                "the notebook has no such parameter",
                seen=name,
                wanted=f"did you mean {near[0]!r}?" if near else f"a name that the code of {path.name} uses",
            )


def checked_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook's parameters, if they can be written down as JSON.

    Raises:
        BadJobParameters: a name that is none of Python's, or a value that JSON cannot hold (such as NaN).
    """
    for name in parameters:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise BadJobParameters("a parameter's name must be a Python name", seen=name)
    for name, value in parameters.items():
        where = _not_json(value)
        if where is not None:
            raise BadJobParameters(f"parameter {name!r} is not a JSON value", seen=where, wanted="JSON")
    return dict(parameters)


def _not_json(value: Any) -> str | None:
    """A description of the first part of `value` that JSON cannot hold, or None."""
    if value is None or isinstance(value, bool | int | str):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else repr(value)
    if isinstance(value, list | tuple):
        return next((where for item in value if (where := _not_json(item)) is not None), None)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"key {key!r}"
            if (where := _not_json(item)) is not None:
                return where
        return None
    return type(value).__name__
