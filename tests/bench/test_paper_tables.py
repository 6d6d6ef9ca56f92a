"""`notebooks/paper_tables.ipynb` runs to its end: from what is kept, and from what it measures itself."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
MIN_PICTURE_BYTES = 5_000


@pytest.mark.slow
@pytest.mark.parametrize("measure", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_tables_are_drawn_beside_the_papers(tmp_path: Path, measure: bool) -> None:
    results = ROOT / "benchmarks" / "results" if not measure else tmp_path
    given = {"measure": measure, "results": str(results), "nodes": 4, "runs": 2}
    papermill.execute_notebook(ROOT / "notebooks" / "paper_tables.ipynb", tmp_path / "out.ipynb", given)
    outputs = [
        output.get("data", {})
        for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    pictures = [base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data]
    assert len(pictures) == 3
    assert all(picture.startswith(PNG) and len(picture) > MIN_PICTURE_BYTES for picture in pictures)
    tables = "".join(data.get("text/plain", "") for data in outputs)
    assert all(scenario in tables for scenario in ("1 + 10", "1 + 100", "10 + 50", "admitted, flush", "uplink s"))
    assert ("paper, 20 cores" in tables) == (not measure)
    assert "paper's scheme today, USD" in tables and ("30 signers" in tables) == (not measure)
