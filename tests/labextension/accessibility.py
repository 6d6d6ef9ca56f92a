"""What axe-core objects to in a page. It is a tool of these tests alone, and no part of the extension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AXE = Path(__file__).resolve().parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"


def findings(page: Any, where: str) -> list[str]:
    """The violations below a selector, with their impact and elements; none where the front end was not built here."""
    if not AXE.is_file():
        return []
    page.evaluate(AXE.read_text() + "; undefined")
    found = page.evaluate("where => axe.run(where).then(told => told.violations)", where)
    return [f"{one['id']} ({one['impact']}): {[node['html'][:120] for node in one['nodes']]}" for one in found]
