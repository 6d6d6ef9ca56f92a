"""Where the notebooks of the three loops are: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from pot_lab.jobs.errors import NotebookUnusable

_PACKAGE = Path(__file__).resolve().parent.parent


def recipe(name: str) -> Path:
    """The notebook `<name>.ipynb` that comes with this package; raises NotebookUnusable."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "notebooks"):
        if (folder / f"{name}.ipynb").is_file():
            return folder / f"{name}.ipynb"
    raise NotebookUnusable(
        "the package has no such notebook", seen=name, wanted="provider, validator, verifier or order"
    )
