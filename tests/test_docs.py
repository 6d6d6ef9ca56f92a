"""What the docs say about the code, held against the code."""

from __future__ import annotations

from pathlib import Path

from pot_lab.protocol.cycle import diagram

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_cycle_diagram_is_drawn_from_the_table() -> None:
    text = (DOCS / "explanation" / "protocol.md").read_text()
    between = text.split("<!-- cycle diagram: begin -->")[1].split("<!-- cycle diagram: end -->")[0]
    assert between.strip() == f"```mermaid\n{diagram()}\n```", "run pot_lab.protocol.cycle.diagram() and paste it"


def test_every_page_that_a_page_links_to_is_there() -> None:
    root = DOCS.parent
    for page in [root / "README.md", root / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for part in page.read_text().split("](")[1:]:
            target = part.split(")")[0].split("#")[0]
            if target and "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
