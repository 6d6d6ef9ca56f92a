"""An aggregator's transactions carry growing nonces and the signature of the key in use."""

from __future__ import annotations

from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.transactions import Register, open_transaction
from tests.network.duties.parts import signer_of
from tests.protocol.world import World, key


def test_nonces_follow_the_clock_and_never_go_back() -> None:
    times_us = iter([100, 100, 50, 102, 200])
    signer = TransactionSigner(bytes(32), key("a"), clock_us=lambda: next(times_us))
    nonces = [open_transaction(signer.sign(Register(0)), bytes(32)).nonce for _ in range(5)]
    assert nonces == [100, 101, 102, 103, 200]


def test_the_key_in_use_is_the_one_with_a_seat() -> None:
    world, stranger = World(), key("stranger")
    seated = world.aggregators[1]
    assert signer_of(world, stranger, seated).identity is seated
    assert signer_of(world, seated, stranger).identity is seated
    assert signer_of(world, stranger, key("another")).identity is stranger
    assert signer_of(world, stranger).identity is stranger
    assert TransactionSigner(world.network_id, stranger, [seated]).identity is stranger


def test_a_transaction_is_signed_by_the_key_in_use_or_the_one_given() -> None:
    world, stranger = World(), key("stranger")
    signer = signer_of(world, stranger, world.aggregators[1])
    accounts = [
        open_transaction(request, world.network_id).account
        for request in (signer.sign(Register(0)), signer.sign(Register(0), stranger))
    ]
    assert accounts == [world.aggregators[1].address, stranger.address]


def test_the_contracts_key_is_looked_up_by_address() -> None:
    world, stranger = World(), key("stranger")
    seated = world.aggregators[1]
    signer = signer_of(world, seated, stranger)
    assert signer.signer_of({stranger.address}) is stranger
    assert signer.signer_of({seated.address, stranger.address}) is seated
    assert signer.signer_of(()) is seated
