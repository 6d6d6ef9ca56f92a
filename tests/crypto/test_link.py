"""A link whose fields cannot be right is refused."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.link import URI_LIMIT_CHARACTERS, Link
from pot_lab.errors import Malformed

LINK = Link(b"\x01" * 32, 10, "https://example.org/blob")


@pytest.mark.parametrize(
    "change", [{}, {"size_bytes": 0}, {"size_bytes": (1 << 50) - 1}, {"uri": "a" * URI_LIMIT_CHARACTERS}]
)
def test_a_possible_link_passes(change: dict[str, object]) -> None:
    structs.replace(LINK, **change).check()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"digest": b""}, "digest"),
        ({"digest": b"\x01" * 31}, "digest"),
        ({"digest": b"\x01" * 33}, "digest"),
        ({"size_bytes": -1}, "size"),
        ({"size_bytes": 1 << 50}, "size"),
        ({"uri": ""}, "address"),
        ({"uri": "a" * (URI_LIMIT_CHARACTERS + 1)}, "address"),
        ({"uri": "https://example.org/\n"}, "address"),
        ({"uri": "https://example.org/\x1b[2J"}, "address"),
    ],
)
def test_an_impossible_link_is_refused_by_its_rule(change: dict[str, object], rule: str) -> None:
    with pytest.raises(Malformed, match=rule):
        structs.replace(LINK, **change).check()
