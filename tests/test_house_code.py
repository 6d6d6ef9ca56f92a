"""House rules on the shape of the code: sizes, names, docstrings, citations, circles, asserts."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_LINES = 500
MOST_FIELDS = 12
BUT_FOR = {"ReplicaState": "composed of parts once the simulator has tested them"}
"""Classes with more fields, and why."""
CITATION = re.compile(r'([\w-]+\.md)(?:,|\s\()\s*"([^"]+)"')


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its path."""
    paths = sorted(path for path in (ROOT / "pot_lab").rglob("*.py") if "labextension" not in path.parts)
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def fields(node: ast.ClassDef) -> set[str]:
    """What a class's methods assign on `self`."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def test_no_import_contract_has_an_exception() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    assert len(contracts.sections()) > 5
    assert [name for name in contracts.sections() if contracts.has_option(name, "ignore_imports")] == []


def test_every_part_of_the_package_stands_in_the_table_of_rooms() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    listed = set(re.findall(r"pot_lab\.\w+", contracts["importlinter:contract:rooms"]["layers"]))
    parts = {path.split("/")[1].removesuffix(".py") for path in trees()} - {"__init__"}
    assert listed == {f"pot_lab.{part}" for part in parts}
