"""What one peer costs is paid from its own budget, and forwards that do not validate mute it."""

from __future__ import annotations

from collections import Counter

import pytest

from pot_lab.agreement.application import RequestId
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import (
    Decisions,
    FetchBodies,
    FetchDecisions,
    Forward,
    Message,
    Status,
    decode_message,
    encode_message,
)
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import Received, Recovered, Tick
from pot_lab.crypto.canonical import encode
from pot_lab.network.aggregator.peer_budget import BURST_S, MUTE_S, SHARE, ForwardFilter, PeerBudgets, is_measured
from pot_lab.network.aggregator.serving_clock import ServingClock
from pot_lab.network.wire import MAX_PEER_FRAME_BYTES
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.transactions import Register, Transaction
from tests.network.toy import Toy, toy_request
from tests.protocol.world import World, key

COST_S = 0.001


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Slow(Toy):
    """Each validation takes `COST_S` of the clock's time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.validated = clock, 0

    def validate(self, request: bytes) -> RequestId:
        self.clock.now_s += COST_S
        self.validated += 1
        return super().validate(request)


class Side:
    def __init__(self) -> None:
        self.clock = Clock()
        self.application = Slow(self.clock)
        self.budgets = PeerBudgets(self.clock)
        self.counters: Counter[str] = Counter()
        self.now_s = 0.0
        self.filter = ForwardFilter(self.application, self.budgets, self.counters, lambda: self.now_s)


@pytest.fixture
def side() -> Side:
    return Side()


GOOD = [toy_request(key("honest"), nonce) for nonce in range(20)]
BAD = bytes(65) + GOOD[0][65:]


def test_a_budget_is_spent_by_time_and_comes_back_by_its_share(side: Side) -> None:
    budgets = side.budgets
    assert budgets.wants(1) and not budgets.is_anyone_waiting
    budgets.charge(1, BURST_S)
    assert not budgets.wants(1) and budgets.wants(2) and budgets.is_anyone_waiting
    side.clock.now_s += 0.1 / SHARE
    assert budgets.wants(1) and not budgets.is_anyone_waiting
    budgets.charge(1, 0.0999)
    assert budgets.wants(1)
    budgets.charge(1, 0.0002)
    assert not budgets.wants(1)
    budgets.clear()
    assert budgets.wants(1)


def test_a_long_silence_saves_nothing_up(side: Side) -> None:
    side.budgets.charge(1, 0.1)
    side.clock.now_s += 1_000
    side.budgets.charge(1, BURST_S)
    assert not side.budgets.wants(1)


def test_a_peer_that_sends_only_votes_pays_for_their_signatures(side: Side) -> None:
    frames = 0
    while side.budgets.wants(1):
        side.budgets.charge_frame(1, 300, 0.0)
        frames += 1
    assert 5_000 < frames < 10_000


def test_what_is_read_for_a_peer_is_read_within_its_budget_and_in_its_time(side: Side) -> None:
    budgets = side.budgets
    assert budgets.may_serve(1)
    side.clock.now_s += 0.3
    assert budgets.clock() - budgets.answer_began_s() == pytest.approx(0.3)
    assert budgets.answer_began_s() == side.clock.now_s, "each answer once"
    budgets.charge(1, BURST_S)
    assert not budgets.may_serve(1) and budgets.may_serve(2)


@pytest.mark.parametrize(
    ("message", "is_dear"),
    [(FetchDecisions(1, 9), True), (FetchBodies(()), True), (Status(0, True, 0, bytes(32), 0, True), True),
     (Forward(()), False), (Decisions(()), False)],
)  # fmt: skip
def test_what_may_cost_more_than_its_bytes_is_measured(message: Message, is_dear: bool) -> None:
    assert is_measured(message) is is_dear


def test_forwards_that_validate_pass_whole(side: Side) -> None:
    forward = Forward(tuple(GOOD))
    assert side.filter.admit(1, forward) is forward
    assert not side.counters and side.application.validated == 20


def test_a_peer_whose_forward_does_not_validate_is_muted_for_a_while(side: Side) -> None:
    assert side.filter.admit(1, Forward((GOOD[0], BAD, GOOD[1]))) == Forward((GOOD[0],))
    assert side.counters == {"peers_muted": 1, "forwards_muted": 2} and side.application.validated == 2
    assert side.filter.admit(1, Forward(tuple(GOOD))) is None
    assert side.application.validated == 2 and side.counters["forwards_muted"] == 22
    other = Forward((GOOD[0],))
    assert side.filter.admit(2, other) is other
    side.now_s += MUTE_S
    assert side.filter.admit(1, other) is other
    assert side.filter.admit(1, Forward((BAD,))) is None


def test_forwards_beyond_their_senders_time_are_dropped_and_counted(side: Side) -> None:
    side.budgets.charge(1, BURST_S - 5.5 * COST_S * (1 - SHARE))
    admitted = side.filter.admit(1, Forward(tuple(GOOD)))
    assert admitted is not None and len(admitted.requests) == 6
    assert side.counters == {"forwards_over_budget": 14} and side.application.validated == 6
    assert side.filter.admit(1, Forward(tuple(GOOD))) is None
    other = Forward(tuple(GOOD))
    assert side.filter.admit(2, other) is other


def attack() -> tuple[Replica, LedgerApplication, Forward]:
    """One frame of a seat: 4,096 bodies under a signature of another account."""
    world = World()
    application = LedgerApplication(world.genesis)
    members = tuple(each.address for each in world.aggregators)
    membership = Membership(network_id=world.network_id, addresses=members, index=0)
    replica = Replica(membership, world.aggregators[0], application)
    replica.step(Tick(world.now_ms))
    replica.step(Recovered((), True))
    signature = world.signed(key("x"), Register(0))[-65:]
    bodies = tuple(
        encode(
            Transaction(
                network_id=world.network_id,
                kind="register",
                account=key("y").address,
                nonce=nonce,
                body=encode(Register(0)),
                signature=signature,
            )
        )
        for nonce in range(1, 4_097)
    )
    frame = encode_message(Forward(bodies))
    assert len(frame) < MAX_PEER_FRAME_BYTES
    message = decode_message(frame, limit_bytes=MAX_PEER_FRAME_BYTES)
    assert isinstance(message, Forward)
    return replica, application, message


def test_a_frame_of_4096_false_requests_costs_the_validation_of_one() -> None:
    _, application, message = attack()
    counters: Counter[str] = Counter()
    validated = []
    validate = application.validate
    application.validate = lambda request: (validated.append(request), validate(request))[1]  # type: ignore[method-assign]
    assert ForwardFilter(application, PeerBudgets(ServingClock()), counters).admit(3, message) is None
    assert len(validated) == 1 and counters["forwards_muted"] == 4_096


def test_without_the_filter_the_replica_checks_every_one_of_them() -> None:
    replica, _, message = attack()
    replica.step(Received(3, message))
    assert replica.counters["forwards_refused"] == 4_096
