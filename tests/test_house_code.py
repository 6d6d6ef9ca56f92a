"""House rules on the shape of the code: sizes, names, docstrings, citations, circles, asserts."""

from __future__ import annotations

import ast
import configparser
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

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


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in trees()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_class_has_more_fields_than_can_be_kept_in_mind() -> None:
    counts = {f"{path}: {node.name}": len(fields(node)) for path, node in classes() if node.name not in BUT_FOR}
    assert {name: count for name, count in counts.items() if count > MOST_FIELDS} == {}


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path, node in classes():
        homes[node.name].append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_every_citation_names_a_heading_that_exists() -> None:
    headings: dict[str, set[str]] = defaultdict(set)
    for page in (ROOT / "docs").rglob("*.md"):
        headings[page.name] |= {
            line.lstrip("#").strip().strip("`") for line in page.read_text().splitlines() if line.startswith("#")
        }
    dangling = [
        f"{path}: {page}, {heading!r}"
        for path in trees()
        for page, cited in CITATION.findall((ROOT / path).read_text())
        if (heading := " ".join(cited.split())) not in headings[page]
    ]
    assert dangling == []


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Public functions and classes, and the public members of those classes, by their dotted names."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def repeats_another(node: Definition) -> bool:
    """Whether a definition only completes another of its name: an overload, or a property's setter."""
    names = [ast.unparse(each) for each in node.decorator_list]
    return any(name.endswith(("overload", ".setter")) for name in names)


def test_every_public_name_has_a_docstring() -> None:
    silent = [
        f"{path}:{node.lineno}: {name}"
        for path, tree in trees().items()
        for name, node in public_definitions(tree.body)
        if not repeats_another(node) and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("pot_lab", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


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


def test_no_assert_guards_anything() -> None:
    """`python -O` drops them: what has to hold is checked and raises."""
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []
