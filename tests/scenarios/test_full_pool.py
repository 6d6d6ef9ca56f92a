"""Somebody fills the pool with orders that nobody pays for; a client who pays gets in all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pot_lab.crypto.canonical import decode
from pot_lab.crypto.identity import Identity
from pot_lab.demo import digits
from pot_lab.network.client.ledger import refusal
from pot_lab.notebook.lab import Lab, connect
from pot_lab.protocol import transactions
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import PoolFull
from pot_lab.protocol.orders.transactions import MAX_UNFUNDED_ORDERS
from pot_lab.protocol.transactions import Put, Reply
from pot_lab.testnet.testnet import Testnet
from tests.scenarios.processes import await_nothing_left
from tests.testnets import register_miners

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(2_400)]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    net = Testnet.up(
        "full",
        providers=1,
        validators=3,
        verifiers=0,
        durability="flush",
        parameters={"pool_ms": 3_600_000},  # so that the pool is full as long as a busy machine needs to fill it
    )
    try:
        register_miners(net)
        with connect("full") as lab:
            yield lab
    finally:
        net.down()
    assert await_nothing_left(tmp_path) == []


def fill(lab: Lab) -> list[Reply]:
    """Put unpaid orders, alike but for their clients and numbers, until there is room for no more."""
    model, train, test = digits()
    mine = lab.order(model, train, test, reward=5, train_for="30min")
    like = lab.client.order(mine.id).order
    per_account = lab.client.network().parameters.max_live_orders_per_account
    replies = []
    for _ in range(-(-MAX_UNFUNDED_ORDERS // per_account)):
        stranger, calls = Identity.generate(), []
        for nonce in range(1, per_account + 1):
            body = Put(msgspec.structs.replace(like, client=stranger.address, nonce=nonce))
            request = transactions.sign(lab.genesis.network_id, body, stranger, nonce)
            calls.append(lab.client.transport.submit(request, timeout_s=800))
        # one stranger after the other: all at once they would fill the pool of requests, too, and wait for each other
        replies += [decode(call.result(800), Reply, limit_bytes=1 << 16) for call in calls]
    return replies


def test_an_order_that_is_paid_gets_into_a_full_pool(lab: Lab) -> None:
    replies = fill(lab)
    assert all(reply.accepted for reply in replies)
    model, train, test = digits()
    stranger = Identity.generate()
    like = lab.client.order(lab.orders()[0].id).order
    with pytest.raises(PoolFull, match="whose escrow is on the chain"):
        request = transactions.sign(
            lab.genesis.network_id, Put(msgspec.structs.replace(like, client=stranger.address)), stranger, 1
        )
        raise refusal(
            decode(lab.client.transport.submit(request, timeout_s=400).result(400), Reply, limit_bytes=1 << 16)
        )
    order = lab.order(model, train, test, reward=5, train_for="30min")
    assert order.id != like.id
    assert lab.client.order(order.id).window in (Window.COMMIT, Window.WAITING)
