"""One transaction that a handler does not survive would end every aggregator, and again at each replay of the log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pot_lab.agreement.application import Batch
from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import RESULT, SignedVote
from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import Malformed
from pot_lab.protocol import ledger as rules
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.book import Book
from pot_lab.protocol.transactions import Accuse, Register, Reply
from tests.protocol.world import World, key

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


def test_a_broken_invariant_still_halts(monkeypatch: pytest.MonkeyPatch) -> None:
    def minting(book: Book, account: bytes, body: Any) -> bytes:
        book.state.deposited_grains += 1
        raise ValueError

    monkeypatch.setitem(rules.HANDLERS, "register", minting)
    world = World()
    with pytest.raises(Exception, match="money is not conserved"):
        world.submit(STRANGER, Register(0))
