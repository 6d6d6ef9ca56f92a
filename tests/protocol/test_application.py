"""The ledger behind consensus' interface: what it remembers of a transaction between admission and execution."""

from __future__ import annotations

import pytest

from pot_lab.agreement.application import Application, Batch, RequestId
from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import BadSignature, recover
from pot_lab.errors import PotLabError
from pot_lab.protocol import application
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Claim, Put, Register, Reply, sign
from tests.protocol.world import START_MS, World, key

ALICE = key("alice")


class Recoveries:
    """The real recovery of a signer, counted."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []

    def __call__(self, digest: bytes, signature: bytes) -> bytes:
        self.digests.append(digest)
        return recover(digest, signature)


@pytest.fixture
def recoveries() -> Recoveries:
    return Recoveries()


@pytest.fixture
def ledger(recoveries: Recoveries) -> LedgerApplication:
    return LedgerApplication(World().genesis, recover=recoveries)


def register(ledger: LedgerApplication, nonce: int) -> bytes:
    return sign(ledger.ledger.state.genesis.network_id, Register(int(Role.PROVIDER)), ALICE, nonce)


def test_a_transaction_is_authenticated_once_for_admission_and_execution(
    ledger: LedgerApplication, recoveries: Recoveries
) -> None:
    request = register(ledger, 7)
    assert ledger.validate(request) == ledger.validate(bytes(bytearray(request))) == RequestId(ALICE.address, 7)
    execution = ledger.execute(Batch(1, START_MS, (request,)))
    assert len(recoveries.digests) == 1
    assert decode(execution.replies[0], Reply, limit_bytes=1 << 12).code == "InsufficientStake"


def test_a_transaction_is_hashed_once(ledger: LedgerApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    request, hashed = register(ledger, 1), []
    digest = application.Transaction.digest.fget
    monkeypatch.setattr(
        application.Transaction, "digest", property(lambda each: hashed.append(each.nonce) or digest(each))
    )
    ledger.validate(request)
    ledger.execute(Batch(1, START_MS, (request,)))
    assert hashed == [1]


def test_what_was_not_signed_by_its_account_is_not_remembered(
    ledger: LedgerApplication, recoveries: Recoveries
) -> None:
    request = register(ledger, 1)
    forged = request[:-1] + bytes([request[-1] ^ 1])
    for _ in range(2):
        with pytest.raises(BadSignature):
            ledger.validate(forged)
    assert len(recoveries.digests) == 2


def test_the_oldest_are_forgotten_when_too_many_wait(
    ledger: LedgerApplication, recoveries: Recoveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [register(ledger, nonce) for nonce in range(100, 104)]
    each_bytes = len(requests[0]) + 1_024
    monkeypatch.setattr(application, "_REMEMBERED_BYTES", 3 * each_bytes)
    for request in requests:
        ledger.validate(request)
    for request in requests[1:]:
        ledger.validate(request)
    assert len(recoveries.digests) == 4, "three fit"
    ledger.validate(requests[0])
    assert len(recoveries.digests) == 5, "the first was forgotten"
    ledger.validate(requests[1])
    assert len(recoveries.digests) == 6, "and made room by forgetting the second"
    monkeypatch.setattr(application, "_REMEMBERED_BYTES", 1)
    for _ in range(2):
        ledger.validate(requests[2])
    assert len(recoveries.digests) == 7, "the newest always stays"


def test_it_answers_as_the_ledger_that_executed_the_same(ledger: LedgerApplication) -> None:
    other = Ledger(ledger.ledger.state.genesis)
    request = register(ledger, 1)
    ledger.validate(request)
    execution = ledger.execute(Batch(1, START_MS, (request,), 0))
    replies, events = other.execute(1, START_MS, [ledger._open(request)])
    assert execution.replies == tuple(encode(reply) for reply in replies)
    assert execution.events == tuple(encode(event) for event in events)
    assert execution.digest == other.state.digest == ledger.ledger.state.digest
    assert ledger.snapshot() == other.snapshot() and ledger.due_ms() == other.due_ms()
    third = LedgerApplication(ledger.ledger.state.genesis)
    third.restore(ledger.snapshot())
    assert third.snapshot() == ledger.snapshot()
    assert third.query("network", b"") == ledger.query("network", b"")


def test_the_seats_are_the_same_object_until_the_aggregators_change(ledger: LedgerApplication) -> None:
    seats = ledger.seats()
    assert [seat.address for seat in seats] == [each.key for each in ledger.ledger.state.aggregators]
    assert ledger.seats() is seats
    ledger.ledger.state.aggregators = ledger.ledger.state.aggregators[:-1]
    assert len(ledger.seats()) == len(seats) - 1


def test_the_application_is_what_consensus_asks_for() -> None:
    world = World()
    subject: Application = LedgerApplication(world.genesis)
    request = sign(world.network_id, Register(0), ALICE, 1)
    named = subject.validate(request)
    assert (named.account, named.nonce) == (ALICE.address, 1)
    for bad in (b"", request[1:], request[:-1] + bytes([request[-1] ^ 1])):
        with pytest.raises(PotLabError):
            subject.validate(bad)
    execution = subject.execute(Batch(1, world.now_ms, (request,)))
    (reply,) = (decode(raw, Reply, limit_bytes=10_000) for raw in execution.replies)
    assert reply.code == "InsufficientStake" and len(execution.digest) == 32
    other = LedgerApplication(world.genesis)
    other.restore(subject.snapshot())
    assert other.snapshot() == subject.snapshot()
    assert other.execute(Batch(2, world.now_ms, ())) == subject.execute(Batch(2, world.now_ms, ()))


def test_what_strangers_send_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "_REMEMBERED_BYTES", 20_000)
    world = World()
    subject = LedgerApplication(world.genesis)
    requests = [sign(world.network_id, Claim(bytes(32), bytes(32)), ALICE, nonce) for nonce in range(1, 60)]
    for request in requests:
        subject.validate(request)
        assert sum(map(len, subject._opened)) <= 20_000
    assert 2 <= len(subject._opened) < len(requests)
    execution = subject.execute(Batch(1, world.now_ms, tuple(requests)))
    assert len(execution.replies) == len(requests), "what was forgotten is checked again"


def test_an_account_is_funded_while_stake_earnings_a_seat_or_an_escrow_stand_behind_it() -> None:
    world = World()
    subject = LedgerApplication(world.genesis)
    subject.ledger = world.ledger
    seated, staked, client = world.aggregators[0], key("provider"), world.client
    found = [subject.is_funded(each.address) for each in (seated, staked, client, ALICE)]
    assert found == [True, False, False, False]
    world.stake(staked, Role.PROVIDER)
    order = world.new_order()
    world.submit(ALICE, Register(0))
    world.must(client, Put(order))
    assert not subject.is_funded(client.address) and not subject.is_funded(ALICE.address)
    world.escrow(order)
    assert subject.is_funded(client.address) and subject.is_funded(staked.address)
    assert not subject.is_funded(ALICE.address)
