"""Custody in the ledger: what is named, who attested, what counts; nothing outlives the order that named it."""

from __future__ import annotations

import pytest

from pot_lab.protocol import custody_index
from pot_lab.protocol.custody import in_custody
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import HeldBlob
from pot_lab.protocol.transactions import AttestBlobs, Put
from tests.protocol.scenes import MODELS, bring_to, new_world
from tests.protocol.world import World, key, link


def held(name: str) -> HeldBlob:
    blob = link(name)
    return HeldBlob(blob.digest, blob.size_bytes)


def named(world: World) -> set[bytes]:
    return {each.link.digest for each in world.ledger.book.custody.all_named()}


def test_only_an_order_with_money_names_its_files() -> None:
    world = World()
    world.have_validators()
    order = world.new_order()
    world.must(world.client, Put(order))
    assert named(world) == set()
    before = world.ledger.book.custody.version
    world.escrow(order)
    files = (order.model, order.weights, order.train, order.test.link)
    assert named(world) == {each.digest for each in files}
    assert world.ledger.book.custody.version > before


def test_models_are_named_when_revealed_and_transcripts_when_opened() -> None:
    world = new_world()
    bring_to(world, Window.RELEASE)
    assert {link(name).digest for name in MODELS} <= named(world)
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    transcripts = {each.transcript.digest for each in world.order(order_id).validations if each.transcript}
    assert transcripts and transcripts <= named(world)


def test_a_blob_counts_when_one_more_than_may_be_faulty_attest_it() -> None:
    world = new_world()
    world.keeps = False
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    order_id, model = order.id, order.model
    first, second, *_ = world.aggregators
    world.must(first, AttestBlobs((held("graph"),)))
    assert not in_custody(world.ledger.book, model)
    assert world.submit(first, AttestBlobs((held("graph"),))).code == "AlreadyDone"
    assert not in_custody(world.ledger.book, model)
    world.must(second, AttestBlobs((held("graph"), held("nobody names this"))))
    assert in_custody(world.ledger.book, model)
    assert [event.kind for event in world.events if event.order == order_id].count("blobs_attested") == 2


def test_a_wrong_length_is_another_blob() -> None:
    world = new_world()
    bring_to(world, Window.COMMIT)
    wrong = HeldBlob(link("graph").digest, link("graph").size_bytes + 1)
    assert world.submit(world.aggregators[0], AttestBlobs((wrong,))).code == "UnknownBlob"


def test_nobody_else_may_attest() -> None:
    world = new_world()
    bring_to(world, Window.COMMIT)
    assert world.submit(key("stranger"), AttestBlobs((held("graph"),))).code == "NotAllowed"


def test_the_winning_model_stays_until_the_order_is_forgotten_and_nothing_after() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    world.wait_for(order_id, Window.FINALIZATION)
    world.settle()
    order = world.order(order_id)
    sealed = order.claims[order.winner].sealed
    assert sealed is not None
    ciphertext = sealed.ciphertext
    assert named(world) == {order.order.model.digest, ciphertext.digest}
    kept = HeldBlob(ciphertext.digest, ciphertext.size_bytes)
    assert set(world.ledger.state.custody) == {held("graph").key, kept.key}
    world.wait(world.parameters.retention_ms + 1)
    assert named(world) == set()
    assert world.ledger.state.custody == {}


def test_a_restored_ledger_names_the_same() -> None:
    world = new_world()
    bring_to(world, Window.CHALLENGE)
    other = Ledger(world.genesis)
    other.restore(world.ledger.snapshot())
    assert {*other.book.custody.all_named()} == {*world.ledger.book.custody.all_named()}
    assert other.snapshot() == world.replayed().snapshot()


def test_a_reader_learns_which_orders_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody_index, "CHANGES_KEPT", 4)
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    index, third = world.ledger.book.custody, world.aggregators[2]
    start = index.version
    assert index.changed_since(start) == set()
    world.must(third, AttestBlobs((held("graph"),)))
    assert index.changed_since(start) == {order_id} and set(index.orders()) == {order_id}
    last = index.version
    other, _ = world.start(title="another")
    assert index.changed_since(last) == {other}
    assert index.changed_since(start) == {order_id, other}
    assert {each.link.digest for each in index.of_order(other)} <= named(world)
    for aggregator in world.aggregators:
        world.submit(aggregator, AttestBlobs((held("graph"), held("weights"))))
    assert set(index.changed_since(last)) == {order_id, other}  # more changes than are kept: all
