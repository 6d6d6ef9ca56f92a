"""One transaction that a handler does not survive would end every aggregator, and again at each replay of the log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pot_lab.agreement.application import Batch
from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import RESULT, SignedVote
from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import InvariantBroken, Malformed
from pot_lab.protocol import ledger as rules
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.book import HALTS, Book
from pot_lab.protocol.cycle import TABLE, Phase, VoidReason, Window
from pot_lab.protocol.transactions import Accuse, Register, Reply
from tests.protocol.scenes import PROVIDERS, bring_to, finish, new_world
from tests.protocol.world import POT, World, key

STRANGER = key("a stranger without stake")


def votes(phase: int) -> bytes:
    """Two votes that contradict each other, of any phase, signed by nobody."""
    one = SignedVote(phase, 0, 1, bytes(32), 0, bytes(32), bytes(65))
    return encode(Equivocation(one, msgspec.structs.replace(one, digest=bytes([1]) * 32)))


@pytest.mark.parametrize("phase", [0, RESULT + 1, 255, 256, (1 << 63) - 1, (1 << 64) - 1])
def test_evidence_of_an_impossible_phase_is_refused_by_name(world: World, phase: int) -> None:
    reply = world.submit(STRANGER, Accuse(votes(phase)))
    assert (reply.accepted, reply.code) == (False, "Malformed")
    with pytest.raises(Malformed):
        decode(votes(phase), Equivocation, limit_bytes=1_024)


@pytest.mark.parametrize("fault", [OverflowError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError])
def test_a_handler_that_fails_refuses_and_leaves_every_replica_running_and_equal(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def failing(book: Book, account: bytes, body: Any) -> bytes:
        raise fault("text of the interpreter, which changes with its version")

    monkeypatch.setitem(rules.HANDLERS, "register", failing)
    world = World()
    request = world.signed(STRANGER, Register(0))
    replicas = [LedgerApplication(world.genesis) for _ in range(2)]
    for replica in replicas:
        replica.validate(request)
    first, second = (replica.execute(Batch(1, world.now_ms, (request,))) for replica in replicas)
    assert first == second
    reply = decode(first.replies[0], Reply, limit_bytes=10_000)
    assert (reply.code, reply.seen, reply.wanted) == ("UnprocessableTransaction", "", "")
    assert "interpreter" not in reply.message


def stops_the_network(world: World, how: type[Exception]) -> bool:
    """A transaction whose handler fails in the middle of its work: does any ledger execute the next batch?"""

    def failing(book: Book, account: bytes, body: Any) -> bytes:
        book.state.deposited_grains += POT  # half of a deposit
        raise how("planted")

    world.expects_faults = True
    rules.HANDLERS["register"], handler = failing, rules.HANDLERS["register"]
    try:
        world.submit(STRANGER, Register(0))
    except how:
        return True
    finally:
        rules.HANDLERS["register"] = handler
    return world.ledger.state.deposited_grains != 0


@pytest.mark.parametrize("fault", [OverflowError, KeyError, AssertionError, InvariantBroken])
def test_half_of_a_transaction_is_taken_back(fault: type[Exception]) -> None:
    assert not stops_the_network(World(), fault)


def test_did_faults_leave_the_ledger_one_transaction_would_stop_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "HALTS", (*HALTS, KeyError))
    assert stops_the_network(World(), KeyError)


def test_were_they_not_taken_back_half_a_deposit_would_stop_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "roll_back", lambda book, to: None)
    with pytest.raises(InvariantBroken, match="money is not conserved"):
        stops_the_network(World(), KeyError)


def waits_for_ever(world: World) -> bool:
    """An order whose deadline the ledger cannot carry out: does another one that is due later come to its end?"""
    world.expects_faults = True
    other, _ = world.start()
    order_id = bring_to(world, Window.REVEAL)
    world.ledger.state.orders[order_id].claims[PROVIDERS[0].address].bond_grains += POT  # more than is locked
    try:
        finish(world)
    except InvariantBroken:
        return True
    return TABLE[world.order(other).window].phase is not Phase.ENDED


def test_a_deadline_that_cannot_be_carried_out_sets_its_order_aside() -> None:
    world = new_world()
    assert not waits_for_ever(world)
    reasons = {order.void_reason for order in world.ledger.state.orders.values()}
    assert reasons == {VoidReason.FAULT, VoidReason.NO_CLAIMS}


def test_were_deadlines_not_attempted_one_order_would_stop_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "attempt", lambda book, where, act, order_id=b"": act() or True)
    assert waits_for_ever(new_world())
