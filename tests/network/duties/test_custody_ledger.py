"""What the ledger wants of custody: by order, from the link or a member that has it, and who has yet to attest."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.network.duties.custody import Standing
from pot_lab.network.duties.custody_ledger import OrdersCustody
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import HeldBlob
from pot_lab.protocol.transactions import AttestBlobs, Put
from pot_lab.store.custody import ExpectedBlob
from tests.network.duties.parts import opened, signer_of
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to, new_world
from tests.protocol.world import key, link


class Wanting:
    """A world, and what its first aggregator wants."""

    def __init__(self) -> None:
        self.world = new_world()
        self.ledger = self.world.ledger
        own = self.world.aggregators[0]
        self.custody = OrdersCustody(
            lambda: self.ledger, signer_of(self.world, own), lambda it: f"http://{it.hex()[:4]}"
        )

    def uris(self, order_id: bytes, name: str) -> tuple[str, ...]:
        return next(each.uris for each in self.custody.wants()[order_id] if each.digest == link(name).digest)

    def places(self) -> bytes:
        """A new order with money, whose files nobody has attested."""
        self.world.keeps = False
        order = self.world.new_order()
        self.world.must(self.world.client, Put(order))
        self.world.escrow(order)
        return order.id

    def attests(self, index: int, *names: str) -> None:
        blobs = tuple(HeldBlob(link(name).digest, link(name).size_bytes) for name in names)
        self.world.must(self.world.aggregators[index], AttestBlobs(blobs))


def blob(name: str) -> ExpectedBlob:
    return ExpectedBlob(link(name).digest, link(name).size_bytes)


@pytest.fixture
def wanting() -> Wanting:
    return Wanting()


def test_an_orders_files_are_wanted_and_its_models_once_they_are_revealed(wanting: Wanting) -> None:
    assert wanting.custody.wants() == {}
    order_id = bring_to(wanting.world, Window.REVEAL)
    spec = wanting.world.order(order_id).order
    files = [spec.model, spec.weights, spec.train, spec.test.link]
    wanted = wanting.custody.wants()[order_id]
    assert [each.uris for each in wanted] == [(it.uri,) for it in (*files, link(MODELS[1]))]
    assert {each.payer for each in wanted[:4]} == {spec.client} and wanted[4].payer == PROVIDERS[1].address
    assert wanting.world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    assert {each.digest for each in wanting.custody.wants()[order_id]} > {each.digest for each in wanted}


def test_while_nothing_changes_it_is_the_same_object_and_orders_keep_their_tuples(wanting: Wanting) -> None:
    first, _ = wanting.world.start()
    before = wanting.custody.wants()
    wanting.world.wait(1_000)
    assert wanting.custody.wants() is before
    second, _ = wanting.world.start()
    after = wanting.custody.wants()
    assert after[first] is before[first] and second in after and second not in before


def test_a_change_looks_at_no_other_order(wanting: Wanting, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [wanting.world.start()[0] for _ in range(3)]
    wanting.custody.wants()
    looked: list[bytes] = []
    real = wanting.ledger.book.custody.of_order
    monkeypatch.setattr(wanting.ledger.book.custody, "of_order", lambda it: looked.append(it) or real(it))
    for _ in range(3):
        wanting.custody.wants()
    assert looked == []
    last = wanting.places()
    wanting.custody.wants()
    assert looked == [last] and set(wanting.custody.wants()) == {*orders, last}


def test_a_ledger_that_was_taken_over_is_read_anew(wanting: Wanting) -> None:
    gone, _ = wanting.world.start()
    assert set(wanting.custody.wants()) == {gone}
    other = new_world()
    there, _ = other.start(title="another")
    wanting.ledger = Ledger(other.genesis)
    wanting.ledger.restore(other.ledger.snapshot())
    assert set(wanting.custody.wants()) == {there}


def test_what_others_attested_may_be_had_from_them_until_it_is_attested_here(wanting: Wanting) -> None:
    order_id = wanting.places()
    wanting.custody.wants()
    origin, peer = link("graph").uri, wanting.world.aggregators[2].address.hex()[:4]
    wanting.attests(2, "graph")
    assert wanting.uris(order_id, "graph") == (origin, f"http://{peer}/{link('graph').digest.hex()}")
    assert wanting.uris(order_id, "weights") == (link("weights").uri,)
    wanting.attests(0, "graph")
    assert wanting.uris(order_id, "graph") == (origin,)


def test_two_links_to_one_blob_are_two_places_of_it(wanting: Wanting) -> None:
    order = wanting.world.new_order()
    there = structs.replace(order.model, uri="https://example.org/elsewhere")
    order_id, _ = wanting.world.start(train=there)
    uris = next(each.uris for each in wanting.custody.wants()[order_id] if each.digest == there.digest)
    assert uris == (order.model.uri, there.uri)


def test_an_attestation_is_due_while_a_seat_has_not_made_it_and_the_blob_is_named(wanting: Wanting) -> None:
    assert wanting.custody.standing(blob("graph")) is Standing.OVER
    wanting.places()
    assert wanting.custody.standing(blob("graph")) is Standing.DUE
    [transaction] = opened(wanting.world, [wanting.custody.attest([blob("graph"), blob("train")])])
    assert transaction.account == wanting.world.aggregators[0].address
    wanting.attests(0, "graph")
    assert wanting.custody.standing(blob("graph")) is Standing.OVER
    silent = OrdersCustody(lambda: wanting.ledger, signer_of(wanting.world, wanting.world.aggregators[1]))
    assert silent.standing(blob("graph")) is Standing.LATER  # it serves nothing
    stranger = OrdersCustody(lambda: wanting.ledger, signer_of(wanting.world, key("stranger")))
    assert stranger.standing(blob("graph")) is Standing.LATER
