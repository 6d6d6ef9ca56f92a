"""The public face of the package: its names load when they are used, and every error is among them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pot_lab
from pot_lab.errors import PotLabError

PACKAGE = Path(pot_lab.__file__).parent


def errors_of_the_package() -> dict[str, str]:
    """Every class derived from PotLabError, by its name (no two classes have one), with its module."""
    bases: dict[str, set[str]] = {}
    homes: dict[str, str] = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(("pot_lab", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                homes[node.name] = module
    found = {"PotLabError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return {name: homes[name] for name in found}


def test_every_error_is_public() -> None:
    declared = {name: module for module, names in pot_lab._ERRORS.items() for name in names}
    assert declared == {name: module for name, module in errors_of_the_package().items() if name != "PotLabError"}


def test_every_public_name_loads() -> None:
    for name in pot_lab.__all__:
        assert getattr(pot_lab, name) is not None
    for module, names in pot_lab._ERRORS.items():
        for name in names:
            error = getattr(pot_lab, name)
            assert issubclass(error, PotLabError) and error.__module__ == module and error.__name__ == name


def test_what_is_listed_is_what_a_user_begins_with() -> None:
    shown = {name for name in dir(pot_lab) if not name.startswith("_")}
    assert set(pot_lab.__all__) - {"__version__"} <= shown
    assert shown & errors_of_the_package().keys() == {"PotLabError"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pot_lab' has no attribute 'Nonesuch'"):
        pot_lab.Nonesuch  # noqa: B018
