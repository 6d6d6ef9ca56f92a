"""A text that one Python calls printable and another does not would part the ledgers of their aggregators."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from msgspec import structs

import pot_lab
from pot_lab.crypto.link import Link
from pot_lab.crypto.text import unwanted_character
from pot_lab.errors import Malformed
from pot_lab.protocol.transactions import Put
from tests.protocol.world import World

TABLES = {"isprintable", "isalpha", "isalnum", "isdecimal", "isdigit", "isidentifier", "isnumeric", "isspace"}
PURE = ("agreement", "consensus", "crypto", "protocol")


@pytest.mark.parametrize("title", ["\U0001f6dc", "\U0002ebf0", "\u0378 was assigned to nobody yet", "数字", "é"])
def test_a_character_of_any_unicode_version_is_decided_alike(title: str) -> None:
    world = World()
    order = world.new_order(title=title)
    assert world.submit(world.client, Put(order)).accepted


@pytest.mark.parametrize("unwanted", list("\n\x00\x7f\x85\u200b\u202e\u2066\ufeff\U000e0041"))
def test_what_shows_nothing_or_turns_its_neighbours_is_refused_by_its_number(unwanted: str) -> None:
    world = World()
    reply = world.submit(world.client, Put(world.new_order(title=f"a{unwanted}b")))
    assert (reply.code, reply.seen) == ("BadOrder", f"U+{ord(unwanted):04X}")
    tagged = world.submit(world.client, Put(world.new_order(tags=(unwanted,))))
    assert tagged.code == "BadOrder"


def test_text_that_people_write_passes() -> None:
    for text in ("MNIST, 98 %", "Größe", "עברית", "हिन्दी", "emoji 🙂", "a—b", "´`^", ""):
        assert unwanted_character(text) is None, text


@pytest.mark.parametrize("uri", ["https://example.org/é", "file:///\U0001f6dc", "https://example.org/\t", ""])
def test_an_address_is_plain_ascii(uri: str) -> None:
    with pytest.raises(Malformed):
        Link(bytes(32), 1, uri).check()
    order = World().new_order()
    structs.replace(order.train, uri="https://example.org/%C3%A9").check()


def test_no_rule_asks_the_interpreters_tables() -> None:
    root = Path(pot_lab.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for room in PURE
        for path in (root / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in TABLES
    ]
    assert found == []
