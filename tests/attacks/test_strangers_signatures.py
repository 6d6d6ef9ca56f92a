"""Signatures of settlements by strangers, and by an aggregator that was convicted: to fill the ledger, and to count."""

from __future__ import annotations

import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.settlement import settlement_digest
from pot_lab.protocol.transactions import Accuse, SignEpoch
from tests.protocol.scenes import bring_to, new_world
from tests.protocol.test_bounds import contradiction
from tests.protocol.world import World, key

STRANGERS = [key(f"stranger {number}") for number in range(12)]


def kept(world: World) -> int:
    """How many signatures of strangers and of a convicted liar the pending settlement keeps."""
    bring_to(world, Window.FINALIZATION)
    world.wait(world.parameters.update_ms + 100)
    liar = world.aggregators[-1]
    world.must(STRANGERS[0], Accuse(encode(contradiction(world))))
    pending = world.ledger.state.pending
    assert pending is not None
    settlement, genesis = pending.settlement, world.genesis
    digest = settlement_digest(genesis.chain_id, genesis.settlement_contract, settlement)
    for each in [*STRANGERS, liar]:
        world.submit(each, SignEpoch(settlement.epoch, settlement.round, each.sign(digest)))
    assert world.ledger.state.pending is pending
    return len(pending.signatures)


def test_none_of_them_is_kept(world: World) -> None:
    assert kept(world) == 0


def test_without_the_rule_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "require_member", lambda book, address: book.members.get(address, 0))
    assert kept(new_world()) == len(STRANGERS) + 1
