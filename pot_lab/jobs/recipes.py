"""Where the notebooks of the three loops are: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from pot_lab.jobs.errors import NotebookUnusable

_PACKAGE = Path(__file__).resolve().parent.parent


def training_seed(account: bytes) -> int:
    """The seed, 0 .. 2^31 - 1, with which the stock provider trains for an account (20-byte address).

    Two providers of one seed make the same model, and the later of the two claims is dropped.
    """
    return int.from_bytes(account[:4], "big") >> 1


def recipe(name: str) -> Path:
    """The notebook `<name>.ipynb` that comes with this package; raises NotebookUnusable."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "notebooks"):
        if (folder / f"{name}.ipynb").is_file():
            return folder / f"{name}.ipynb"
    raise NotebookUnusable(
        "the package has no such notebook", seen=name, wanted="provider, validator, verifier or order"
    )
