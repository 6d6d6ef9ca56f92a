"""Bytes that somebody signed once are said again, elsewhere or later, by others; nothing happens."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import BadSignature
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import WrongNetwork
from pot_lab.protocol.transactions import Claim, Put, Transaction, Withdraw, open_transaction
from tests.protocol.scenes import PROVIDERS, bring_to, speech
from tests.protocol.test_refusals import frozen
from tests.protocol.world import World, key

H = b"\x02" * 32


@pytest.mark.parametrize("window", [Window.COMMIT, Window.REVEAL, Window.RELEASE, Window.SCORE, Window.OPEN_SCORES])
def test_a_whole_history_said_again_changes_nothing(world: World, window: Window) -> None:
    bring_to(world, window)
    requests = [request for _, batch in world.log for request in batch]
    world.batch()
    before = frozen(world, b"")
    assert {reply.code for reply in world.ordered(*requests)} == {"StaleNonce"}
    assert frozen(world, b"") == before


def test_a_transaction_of_another_network_is_not_admitted(world: World) -> None:
    other = World(aggregators=5)
    order_id = bring_to(world, Window.COMMIT)
    request = world.signed(*speech(world, order_id, "claim"))
    with pytest.raises(WrongNetwork):
        LedgerApplication(other.genesis).validate(request)
    renamed = structs.replace(decode(request, Transaction, limit_bytes=10_000), network_id=other.network_id)
    with pytest.raises(BadSignature):
        LedgerApplication(other.genesis).validate(encode(renamed))


def test_an_order_of_another_network_is_refused_even_when_its_client_signs_it_here(world: World) -> None:
    other = World(aggregators=4, parameters=structs.replace(world.parameters, update_ms=3_000))
    order = other.new_order()
    assert world.submit(world.client, Put(order)).code == "WrongNetwork"


def test_nobody_speaks_in_anothers_name(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT)
    request = decode(world.signed(PROVIDERS[0], Claim(order_id, H)), Transaction, limit_bytes=10_000)
    for forged in (
        structs.replace(request, account=PROVIDERS[1].address),
        structs.replace(request, signature=key("mallory").sign(request.digest)),
        structs.replace(request, nonce=request.nonce + 1),
        structs.replace(request, body=encode(Claim(order_id, b"\x03" * 32))),
        structs.replace(request, kind="withdraw"),
    ):
        with pytest.raises(BadSignature):
            open_transaction(encode(forged), world.network_id)


def test_a_put_said_again_after_it_was_forgotten_brings_no_money_back(world: World) -> None:
    # A stranger's nonce is forgotten with its last order, so anybody can bring the same record again. It is only a
    # record: its client signed it, it starts nothing without its own escrow, and it expires again.
    client = key("passer-by")
    order = world.new_order(client=client.address)
    put = world.signed(client, Put(order))
    world.ordered(put)
    world.must(client, Withdraw(order.id))
    world.wait(world.parameters.pool_ms)
    assert client.address not in world.ledger.state.accounts
    (reply,) = world.ordered(put)
    assert reply.accepted and world.order(order.id).window == Window.WAITING
    world.wait(2 * world.parameters.pool_ms)
    assert order.id not in world.ledger.state.orders and client.address not in world.ledger.state.accounts


def test_a_put_said_again_after_its_order_ended_is_refused_for_good(world: World) -> None:
    order_id = bring_to(world, Window.SETTLED)
    put = next(r for _, b in world.log for r in b if open_transaction(r, world.network_id).kind == "put")
    world.wait(world.parameters.retention_ms + 1)
    assert order_id in world.ledger.state.headers
    assert world.ordered(put)[0].code == "StaleNonce"
    order = decode(open_transaction(put, world.network_id).body, Put, limit_bytes=100_000).order
    assert world.submit(world.client, Put(order)).code == "OrderExists"
