"""The parameters of a recipe, read from its code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pot_lab.jobs.recipe_parameters import recipe_parameters
from pot_lab.jobs.recipes import recipe


def write(path: Path, source: str, *tags: str) -> Path:
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source, "outputs": []}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]}))
    return path


@pytest.mark.parametrize("role", ["provider", "validator", "verifier"])
def test_each_stock_notebook_says_what_may_be_set(role: str) -> None:
    names = [one["name"] for one in recipe_parameters(recipe(role))]
    assert "threads" in names and "workspace" not in names


def test_types_defaults_and_comments_are_read_and_nothing_is_run(tmp_path: Path) -> None:
    source = """rate: float = 0.1  # the peak
name: str = "a # b"  # a name
x = 1
now: int = __import__("os").system("false")
bare: int
"""
    assert recipe_parameters(write(tmp_path / "a.ipynb", source, "parameters")) == [
        {"name": "rate", "type": "float", "default": 0.1, "about": "the peak"},
        {"name": "name", "type": "str", "default": "a # b", "about": "a name"},
    ]


def test_a_notebook_without_parameters_has_none(tmp_path: Path) -> None:
    assert recipe_parameters(write(tmp_path / "a.ipynb", "x: int = 1")) == []
