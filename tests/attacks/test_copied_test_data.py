"""A stranger copies the test data of a live order into an order of its own that ends earlier, to read them early."""

from __future__ import annotations

import hashlib

import pytest
from msgspec import structs

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import encode, sha256
from pot_lab.crypto.sealed_box import seal
from pot_lab.crypto.shamir import split
from pot_lab.network.duties.release_shares import ReleaseShares
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol import records
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderRecord, key_commitment, sealing_binding, share_commitment, share_context
from pot_lab.protocol.transactions import Put
from tests.protocol.world import WINDOWS, World, deterministic_bytes, key

MALLORY, PUPPET = key("mallory"), key("mallory's provider")
LONG = {name: 10 * getattr(WINDOWS, name) for name in WINDOWS.__struct_fields__}


def sealed_order(world: World, **changes: object) -> OrderRecord:
    """An order whose shares are sealed to the aggregators as a client seals them."""
    order = world.new_order(**changes)
    secret, n = sha256(b"secret %d" % order.nonce), len(world.aggregators)
    binding = sealing_binding(world.network_id, order.client, order.nonce, order.test.root)
    shares = split(secret, correct(n), n, deterministic_bytes("shares"))
    boxes = tuple(
        seal(sealing.public, encode(share), share_context(binding, aggregator.address, index))
        for index, (sealing, aggregator, share) in enumerate(zip(world.sealing, world.aggregators, shares, strict=True))
    )
    test = structs.replace(
        order.test,
        key_commitment=key_commitment(binding, secret),
        share_commitments=tuple(share_commitment(binding, share) for share in shares),
        sealed_shares=boxes,
    )
    return structs.replace(order, test=test)


def released(world: World) -> int:
    """Let each aggregator's real duty do its work once; returns how many shares the ledger took."""
    accepted = 0
    for identity, sealing in zip(world.aggregators, world.sealing, strict=True):
        signer = TransactionSigner(world.network_id, identity)
        duty = ReleaseShares(lambda: world.ledger, signer, [sealing])
        for request in duty.poll(world.now_ms):
            accepted += world.ordered(request)[0].accepted
    return accepted


def stolen_key(world: World) -> bytes:
    """The test key that the attack brings out, and empty if none; the victim's order still trains then."""
    world.have_validators()
    victim = sealed_order(world, windows=structs.replace(WINDOWS, **LONG))
    world.must(world.client, Put(victim))
    world.escrow(victim)
    world.stake(PUPPET, Role.PROVIDER)
    copy = world.new_order(client=MALLORY.address, nonce=77, test=victim.test)
    world.must(MALLORY, Put(copy))
    world.escrow(copy)
    assert world.claim(copy.id, PUPPET, "junk").accepted
    world.wait_for(copy.id, Window.REVEAL)
    assert world.reveal(copy.id, PUPPET, "junk").accepted
    assert world.order(copy.id).window is Window.RELEASE
    released(world)
    assert world.order(victim.id).window is Window.COMMIT
    if not world.order(copy.id).test_key:
        world.wait_for(copy.id, Window.VOID)
        assert world.order(copy.id).void_reason is VoidReason.NOT_RELEASED
        return b""
    return world.order(copy.id).test_key


def test_a_copy_opens_nothing_and_its_order_ends_void() -> None:
    assert stolen_key(World()) == b""


def test_the_same_boxes_open_in_their_own_order() -> None:
    world = World()
    world.have_validators()
    order = sealed_order(world)
    world.must(world.client, Put(order))
    world.escrow(order)
    world.stake(PUPPET, Role.PROVIDER)
    assert world.claim(order.id, PUPPET, "model").accepted
    world.wait_for(order.id, Window.REVEAL)
    assert world.reveal(order.id, PUPPET, "model").accepted
    assert released(world) == len(world.aggregators)
    assert world.order(order.id).test_key == sha256(b"secret %d" % order.nonce)


def test_it_would_if_shares_were_bound_to_network_and_root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack works where the rule is off, so it is the rule that stops it."""

    def weak(network_id: bytes, client: bytes, nonce: int, test_root: bytes) -> bytes:
        return hashlib.sha256(network_id + test_root).digest()

    monkeypatch.setattr(records, "sealing_binding", weak)
    monkeypatch.setattr(f"{__name__}.sealing_binding", weak)
    assert stolen_key(World()) != b""
