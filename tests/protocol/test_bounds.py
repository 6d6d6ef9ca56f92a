"""Every integer and every byte string of every transaction, nested ones too, at and beyond its bounds.

Each rightful transaction is changed in one place to each of the values below, signed, and executed: the answer is a
reply with a rule's name, never an exception, and never the refusal that stands for a fault of a handler.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import PREPARE, SignedVote, vote_digest
from pot_lab.crypto.canonical import Record, encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Malformed, Oversize
from pot_lab.protocol.cycle import TABLE, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.proposals import OwnerActDue, change
from pot_lab.protocol.records import HeldBlob, OrderId
from pot_lab.protocol.transactions import (
    BODIES,
    Accuse,
    Attest,
    AttestBlobs,
    DeniedOrder,
    DenyEscrow,
    Join,
    Leave,
    Propose,
    ProposeVersion,
    Put,
    Register,
    RotateKeys,
    SignEpoch,
    SignOwnerAct,
    SignRotation,
    Transaction,
    Unregister,
    Vote,
    VoteSeat,
    open_transaction,
)
from tests.protocol.scenes import PROVIDERS, RESTING, VALIDATORS, bring_to, new_world, speech
from tests.protocol.test_chain_events import SHAPES
from tests.protocol.test_members import application_for
from tests.protocol.world import POT, World, key

_NEAR = {sign * (1 << bits) + more for bits in range(65) for sign in (1, -1) for more in (-1, 0, 1)}
INTEGERS = sorted(value for value in _NEAR if -(1 << 63) <= value < 1 << 64)
"""Both sides of every power of two that msgpack can carry."""
LENGTHS = (0, 1, 19, 20, 21, 31, 32, 33, 64, 65, 66, 257, 4_097)
NEWCOMER = key("newcomer")


def contradiction(world: World) -> Equivocation:
    """Two votes of the last aggregator that contradict each other."""
    liar, votes = world.aggregators[-1], []
    for digest in (bytes(32), bytes([1]) * 32):
        signed = vote_digest(world.network_id, PREPARE, 3, 5, digest, 4, bytes(32))
        votes.append(SignedVote(PREPARE, 3, 5, digest, 4, bytes(32), liar.sign(signed)))
    return Equivocation(*votes)


def outside_orders(world: World) -> Iterator[tuple[Identity, Record]]:
    """A transaction of each kind that needs no order in a certain window."""
    first = world.aggregators[0]
    yield NEWCOMER, Register(1)
    yield PROVIDERS[0], Unregister(0)
    yield world.client, Put(world.new_order(nonce=77))
    yield NEWCOMER, application_for(Join, world, NEWCOMER, NEWCOMER)
    yield first, application_for(RotateKeys, world, first, NEWCOMER)
    yield first, VoteSeat(NEWCOMER.address, True)
    yield first, Leave()
    yield first, SignEpoch(1, 1, bytes(65))
    yield first, DenyEscrow(1, 1, (DeniedOrder(OrderId(bytes(32))),))
    yield first, SignRotation(2, bytes(65))
    yield NEWCOMER, Accuse(encode(contradiction(world)))
    order = world.new_order(nonce=78)
    world.must(world.client, Put(order))
    world.escrow(order)
    yield first, AttestBlobs((HeldBlob(order.model.digest, order.model.size_bytes),))
    yield PROVIDERS[0], Propose(0, (change("update_ms", 5_000), change("min_stake_grains", (POT, POT, POT, POT))))
    yield PROVIDERS[0], ProposeVersion(0, 2, "pot-lab 2")
    number = int.from_bytes(world.must(VALIDATORS[0], Propose(1, (change("update_ms", 9_000),))).result, "big")
    yield PROVIDERS[0], Vote(number, True)
    due = OwnerActDue(changes=(change("update_ms", 9_000),), until_ms=1 << 62)
    world.ledger.state.governance.acts[number] = due
    digest = bytes([7]) * 32
    yield first, SignOwnerAct(proposal=number, number=1, digest=digest, signature=first.sign(digest))
    for event in SHAPES.values():
        yield first, Attest(world.ledger.state.next_chain_event, (event,))


def changed(value: Any) -> Iterator[Any]:
    """The value with one integer or byte string of it, at any depth, replaced; bytes that hold a record are opened."""
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield from INTEGERS
    elif isinstance(value, bytes):
        yield from (bytes(length) for length in LENGTHS)
        if value[:1] and 0x90 <= value[0] <= 0x9F and len(value) > 33:  # an array in canonical bytes
            try:
                inner = msgspec.msgpack.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return
            yield from (encode(each) for each in changed(inner))
            yield from (encode(each) for each in changed_together(inner))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            for each in changed(part):
                yield [*value[:place], each, *value[place + 1 :]]


def changed_together(record: Any) -> Iterator[Any]:
    """A record of two parts of one shape with the same integer changed in both: both votes of a contradiction."""
    first, second = record[0], record[1]
    if isinstance(first, list) and isinstance(second, list):
        for place, part in enumerate(first):
            if isinstance(part, int):
                for value in INTEGERS:
                    yield [[*each[:place], value, *each[place + 1 :]] for each in (first, second)]


def restored(world: World, snapshot: bytes) -> None:
    world.ledger = Ledger(world.genesis)
    world.ledger.restore(snapshot)


def check_all(world: World, who: Identity, body: Record, by: list[Identity] | None = None) -> int:
    """Execute each change of a body on the world as it is; returns how many there were."""
    kind = next(kind for kind, type_ in BODIES.items() if type_ is type(body))
    snapshot, nonces, count = world.ledger.snapshot(), dict(world.nonces), 0
    for raw in changed(msgspec.msgpack.decode(encode(body))):
        count += 1
        restored(world, snapshot)
        world.nonces = dict(nonces)
        for each in by or [who]:
            nonce = world.nonces[each.address] = world.nonces.get(each.address, 0) + 1
            bare = Transaction(
                network_id=world.network_id,
                kind=kind,
                account=each.address,
                nonce=nonce,
                body=encode(raw),
                signature=b"",
            )
            request = encode(msgspec.structs.replace(bare, signature=each.sign(bare.digest)))
            try:
                open_transaction(request, world.network_id)
            except (Malformed, Oversize):
                continue
            (reply,) = world.ordered(request)
            assert reply.code != "UnprocessableTransaction", (kind, raw)
        assert world.ledger.snapshot(), (kind, raw)
    restored(world, snapshot)
    return count


@pytest.mark.parametrize("window", [window for window in RESTING if TABLE[window].accepts])
def test_what_an_order_accepts(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    for kind in TABLE[window].accepts:
        assert check_all(world, *speech(world, order_id, kind)) >= len(LENGTHS)


@pytest.mark.parametrize("place", range(16 + len(SHAPES)))
def test_what_no_order_is_needed_for(place: int) -> None:
    world = new_world()
    who, body = list(outside_orders(world))[place]
    by = world.aggregators[:2] if isinstance(body, Attest) else None  # f+1, so that the event is applied
    assert check_all(world, who, body, by) >= 0


def test_each_kind_is_among_them() -> None:
    world = new_world()
    bodies = {type(body) for _, body in outside_orders(world)}
    accepted = {BODIES[kind] for window in RESTING for kind in TABLE[window].accepts}
    assert bodies | accepted == set(BODIES.values())
