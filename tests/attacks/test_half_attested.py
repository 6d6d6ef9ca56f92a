"""Aggregators that lie one after the other, never more than f at a time: f+1 in all attest a blob that is nowhere."""

from __future__ import annotations

import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.records import HeldBlob
from pot_lab.protocol.transactions import Accuse, AttestBlobs, Put
from tests.protocol.scenes import new_world
from tests.protocol.test_bounds import contradiction
from tests.protocol.world import World, key


def starts(world: World) -> bool:
    """Whether an order starts whose files only a convicted liar and its successor in lying attest to hold."""
    world.keeps = False
    world.have_validators()
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    blobs = AttestBlobs(tuple(HeldBlob(link.digest, link.size_bytes) for link in order.files))
    world.must(world.aggregators[-1], blobs)
    world.must(key("reporter"), Accuse(encode(contradiction(world))))
    world.must(world.aggregators[0], blobs)
    return world.order(order.id).window is Window.COMMIT


def test_who_was_convicted_attests_no_more(world: World) -> None:
    assert not starts(world)


def test_did_all_count_who_ever_attested_the_order_would_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "count_members", lambda book, accounts: len(set(accounts)))
    assert starts(new_world())
