"""Requests are admitted once, forwarded when it is time, and their censorship by a primary is noticed in time."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.application import RequestId
from pot_lab.agreement.votes import PRE_PREPARE, vote_digest
from pot_lab.consensus.batching import Pending
from pot_lab.consensus.messages import (
    FetchBodies,
    Forward,
    Prepare,
    PrePrepare,
    Requests,
    ViewChange,
    batch_digest,
    request_digest,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.steps import (
    Broadcast,
    Effect,
    Input,
    Received,
    Send,
    SendRefusal,
    SendReply,
    SetTimer,
    Submitted,
    Tick,
)
from pot_lab.errors import Oversize
from tests.consensus.cluster import START_MS, Cluster, Node, Register, make_request

LIMITS = ConsensusParameters()
TIMEOUT_MS = LIMITS.request_timeout_ms
SPARE = 16


class Alone:
    """A backup that nobody answers: what it sends is looked at."""

    def __init__(self, parameters: ConsensusParameters = LIMITS) -> None:
        self.node: Node = Cluster(4, parameters=parameters).nodes[1]
        self.replica = self.node.replica
        self.now_ms = START_MS

    def step(self, *inputs: Input, after_ms: int = 0) -> list[Effect]:
        self.now_ms += after_ms
        return self.replica.step(Tick(self.now_ms), *inputs)

    def forwards(self, effects: list[Effect]) -> list[tuple[int | None, tuple[bytes, ...]]]:
        """What was forwarded: to whom (None: all), and the requests."""
        found: list[tuple[int | None, tuple[bytes, ...]]] = []
        for effect in effects:
            if isinstance(effect, Send | Broadcast) and isinstance(effect.message, Forward):
                found.append((effect.to if isinstance(effect, Send) else None, effect.message.requests))
        return found


def test_a_request_of_the_largest_size_is_admitted_and_a_byte_more_refused() -> None:
    alone = Alone(ConsensusParameters(request_bytes=100, batch_bytes=100))
    fits, too_large = make_request(1, 0, bytes(72)), make_request(1, 1, bytes(73))
    assert len(fits) == 100
    assert not [each for each in alone.step(Submitted(fits, True)) if isinstance(each, SendRefusal)]
    (refusal,) = [each for each in alone.step(Submitted(too_large, True)) if isinstance(each, SendRefusal)]
    assert isinstance(refusal.error, Oversize) and refusal.digest == request_digest(too_large)
    assert str(refusal.error) == "a request is too large (seen: 101 bytes, wanted: at most 100 bytes)"
    assert len(alone.replica.pool) == 1
    assert alone.replica.counters["requests_admitted"] == alone.replica.counters["requests_refused"] == 1


def test_the_digest_that_the_host_has_computed_is_used() -> None:
    validated: list[bytes] = []

    class Watching(Register):
        def validate(self, request: bytes) -> RequestId:
            validated.append(request)
            return super().validate(request)

    cluster = Cluster(4)
    cluster.nodes[1].start(Watching)
    request = make_request(1, 0)
    for _ in range(3):
        cluster.nodes[1].step(Submitted(request, True, b"d" * 32))
    assert cluster.nodes[1].replica.pool.get(b"d" * 32) is not None
    assert cluster.nodes[1].replica.pool.get(request_digest(request)) is None
    assert validated == [request]


def test_a_request_that_one_replica_got_is_spread_at_once_and_one_that_all_got_is_not() -> None:
    alone = Alone()
    only_here, everywhere = make_request(1, 0), make_request(2, 0)
    assert alone.forwards(alone.step(Submitted(only_here))) == [(None, (only_here,))]
    assert alone.forwards(alone.step(Submitted(everywhere, True))) == []


def test_a_request_becomes_one_that_all_got_and_stays_so() -> None:
    alone = Alone()
    request = make_request(1, 0)
    entry = lambda: alone.replica.pool.get(request_digest(request))  # noqa: E731
    alone.step(Submitted(request))
    assert not entry().spread
    alone.step(Submitted(request, True))
    assert entry().spread
    alone.step(Received(2, Forward((request,))))
    assert entry().spread and alone.replica.counters["requests_admitted"] == 1


def test_the_primary_is_reminded_after_the_delay_and_then_every_second() -> None:
    alone = Alone()
    request = make_request(1, 0)
    alone.step(Submitted(request, True))
    assert alone.forwards(alone.step(after_ms=LIMITS.forward_delay_ms - 1)) == []
    assert alone.forwards(alone.step(after_ms=1)) == [(0, (request,))]
    # half of the primary's time has passed when it is reminded again, so all others are told as well
    assert alone.forwards(alone.step(after_ms=999)) == []
    assert alone.forwards(alone.step(after_ms=LIMITS.forward_delay_ms)) == [(None, (request,))]


def test_reminders_are_a_second_apart_to_the_millisecond() -> None:
    alone = Alone(ConsensusParameters(forward_delay_ms=1, request_timeout_ms=60_000))
    everywhere, only_here = make_request(1, 0), make_request(2, 0)
    alone.step(Submitted(everywhere, True), Submitted(only_here))
    assert alone.forwards(alone.step(after_ms=1)) == [(0, (everywhere,))]
    assert alone.forwards(alone.step(after_ms=998)) == []
    assert alone.forwards(alone.step(after_ms=1)) == [(0, (only_here,))]
    assert alone.forwards(alone.step(after_ms=1)) == [(0, (everywhere,))]


def test_a_reminder_has_room_for_256_kib() -> None:
    alone = Alone(ConsensusParameters(forward_delay_ms=10))
    large = [make_request(account, 0, bytes(128 * 1024 - 28)) for account in range(3)]
    alone.step(*(Submitted(request, True) for request in large))
    assert alone.forwards(alone.step(after_ms=10)) == [(0, (large[0], large[1]))]
    assert alone.forwards(alone.step(after_ms=10)) == [(0, (large[2],))]


def test_a_request_that_nobody_orders_is_forgotten_after_its_time() -> None:
    alone = Alone(ConsensusParameters(pending_ttl_ms=400, forward_delay_ms=100, request_timeout_ms=60_000))
    alone.step(Submitted(make_request(1, 0), True))
    alone.step(after_ms=400)
    assert len(alone.replica.pool) == 1 and not alone.replica.counters["requests_expired"]
    alone.step(after_ms=100)
    assert len(alone.replica.pool) == 0 and alone.replica.counters["requests_expired"] == 1


def test_a_forwarded_request_is_admitted_once_and_a_bad_one_counted() -> None:
    alone = Alone()
    good, bad = make_request(1, 0), make_request(1, 1, b"invalid")
    assert alone.forwards(alone.step(Received(2, Forward((bad, good, good))))) == []
    counters = alone.replica.counters
    assert (counters["forwards_refused"], counters["requests_admitted"]) == (1, 1)
    assert alone.replica.pool.get(request_digest(good)) is not None


def test_a_retry_of_an_executed_request_gets_its_reply_and_no_place_in_the_queue() -> None:
    cluster = Cluster(4)
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(200)
    replica = cluster.nodes[2].replica
    before = len(replica.pool), replica.counters["requests_admitted"]
    effects = replica.step(Tick(cluster.now_ms), Submitted(request, True), Received(1, Forward((request,))))
    replies = [each for each in effects if isinstance(each, SendReply)]
    assert [(each.digest, each.sequence, each.reply) for each in replies] == [(request_digest(request), 1, b"done 1")]
    assert (len(replica.pool), replica.counters["requests_admitted"]) == before
    assert replica.counters["retries_answered"] == 1


# Censorship.


def waiting(alone: Alone, count: int = 1) -> list[Pending]:
    """Requests of as many accounts, submitted now."""
    requests = [make_request(account, 0) for account in range(count)]
    alone.step(*(Submitted(request, True) for request in requests))
    return list(alone.replica.pool)


def overtaken(alone: Alone, count: int) -> None:
    """Let requests of others be executed."""
    alone.replica.counters["requests_executed"] += count


@pytest.mark.parametrize("count", [1, 5])
def test_a_request_is_censored_once_more_others_ran_than_could_come_before_it(count: int) -> None:
    """As many as wait now, as many again that arrive, and a few more."""
    alone = Alone(ConsensusParameters(batch_requests=1))
    entry = waiting(alone, count)[0]
    fits = count == 1
    alone.replica.now_ms += TIMEOUT_MS
    assert not alone.replica._censored(entry) and entry.overtaken_at == 2 * count + SPARE
    overtaken(alone, 2 * count + SPARE)
    assert not alone.replica._censored(entry)
    overtaken(alone, 1)
    assert alone.replica._censored(entry)
    assert fits or len(alone.replica.pool) > 1


def test_a_young_request_is_not_censored_however_many_others_ran() -> None:
    alone = Alone()
    entry = waiting(alone)[0]
    alone.replica.now_ms += TIMEOUT_MS - 1
    overtaken(alone, 10_000)
    assert not alone.replica._censored(entry) and not entry.overtaken_at
    alone.replica.now_ms += 1
    assert not alone.replica._censored(entry) and entry.overtaken_at == 10_000 + 2 + SPARE


def test_when_all_that_waits_fits_one_batch_two_timeouts_are_enough() -> None:
    alone = Alone(ConsensusParameters(batch_requests=2))
    entry = waiting(alone, 2)[0]
    alone.replica.now_ms += 2 * TIMEOUT_MS - 1
    assert not alone.replica._censored(entry)
    alone.replica.now_ms += 1
    assert alone.replica._censored(entry)


@pytest.mark.parametrize(
    "parameters",
    [
        ConsensusParameters(batch_requests=2),
        ConsensusParameters(batch_bytes=3 * 28 - 1, request_bytes=28),
    ],
    ids=["requests", "bytes"],
)
def test_when_more_waits_than_fits_one_batch_time_alone_proves_nothing(parameters: ConsensusParameters) -> None:
    alone = Alone(parameters)
    entry = waiting(alone, 3)[0]
    assert alone.replica.pool.size_bytes == 3 * 28
    alone.replica.now_ms += 20 * TIMEOUT_MS
    assert not alone.replica._censored(entry)


def test_what_fits_by_the_last_byte_fits() -> None:
    alone = Alone(ConsensusParameters(batch_bytes=3 * 28, request_bytes=28))
    entry = waiting(alone, 3)[0]
    alone.replica.now_ms += 2 * TIMEOUT_MS
    assert alone.replica._censored(entry)


def test_only_the_next_request_of_an_account_that_is_in_no_batch_can_be_censored() -> None:
    alone = Alone()
    first, second = make_request(1, 0), make_request(1, 1)
    alone.step(Submitted(first, True), Submitted(second, True))
    one, two = (alone.replica.pool.get(request_digest(request)) for request in (first, second))
    alone.replica.now_ms += 2 * TIMEOUT_MS
    assert alone.replica._censored(one) and not alone.replica._censored(two)
    alone.replica.pool.propose([one.digest])
    assert not alone.replica._censored(one) and alone.replica._censored(two)


def test_a_new_primary_has_its_own_time() -> None:
    alone = Alone()
    entry = waiting(alone)[0]
    alone.replica.now_ms += 5 * TIMEOUT_MS
    alone.replica._watching_since_ms = alone.replica.now_ms
    assert not alone.replica._censored(entry)
    alone.replica.now_ms += 2 * TIMEOUT_MS
    assert alone.replica._censored(entry)


# Bodies that a proposal only names.


class Named(Alone):
    """A backup that has a proposal of the primary without the bodies of its requests."""

    def __init__(self, requests: list[bytes], parameters: ConsensusParameters = LIMITS) -> None:
        super().__init__(parameters)
        self.requests = requests
        digests = tuple(map(request_digest, requests))
        state, members = self.replica.state, self.replica.membership
        digest = batch_digest(1, self.now_ms, digests)
        signed = vote_digest(members.network_id, PRE_PREPARE, 0, 1, digest, 0, state)
        signature = self.node.cluster.identities[0].sign(signed)
        nothing = (b"",) * len(requests)
        self.step(Received(0, PrePrepare(0, 1, self.now_ms, digests, nothing, 0, state, signature)))
        self.slot = self.replica._slots[1]

    def prepares(self, effects: list[Effect]) -> int:
        """How many prepares were sent."""
        return sum(isinstance(each, Broadcast) and isinstance(each.message, Prepare) for each in effects)


def test_a_body_that_comes_by_any_way_completes_the_proposal() -> None:
    """From its client, from a peer that forwards it, or from the primary that was asked."""
    first, second, third = requests = [make_request(account, 0) for account in range(3)]
    named = Named(requests)
    assert named.slot.missing == set(map(request_digest, requests)) and not named.slot.bodies
    assert not named.prepares(named.step(Submitted(first, True)))
    assert not named.prepares(named.step(Received(2, Forward((second,)))))
    assert named.slot.missing == {request_digest(third)}
    assert named.prepares(named.step(Received(0, Requests((third,))))) == 1
    assert named.slot.bodies == {request_digest(request): request for request in requests}
    assert not named.replica._wanted
    assert all(named.replica.pool.get(request_digest(each)).proposed for each in (first, second))
    assert named.replica.pool.waiting == 0


def test_a_body_that_was_not_asked_for_or_that_the_application_refuses_is_dropped() -> None:
    refused = make_request(1, 0, b"invalid")
    named = Named([refused])
    counters = named.replica.counters
    named.step(Received(0, Requests((make_request(7, 0),))))
    assert (counters["dropped_unasked"], counters["dropped_invalid_request"]) == (1, 0)
    assert not named.prepares(named.step(Received(0, Requests((refused,)))))
    assert (counters["dropped_unasked"], counters["dropped_invalid_request"]) == (1, 1)
    assert named.slot.missing == {request_digest(refused)}


def test_bodies_that_a_peer_asks_for_are_sent_up_to_a_batch() -> None:
    """Those that wait as well as those in an open proposal; one that does not fit is left out, a smaller one not."""
    alone = Alone(ConsensusParameters(batch_bytes=300, request_bytes=300))
    sizes = (100, 201, 200, 1)
    requests = [make_request(account, 0, bytes(size - 28) if size > 28 else b"") for account, size in enumerate(sizes)]
    alone.step(*(Submitted(request, True) for request in requests))
    digests = tuple(map(request_digest, requests))

    def asked(*names: bytes) -> list[tuple[int, tuple[bytes, ...]]]:
        effects = alone.step(Received(3, FetchBodies(names)))
        sent = [each for each in effects if isinstance(each, Send) and isinstance(each.message, Requests)]
        return [(each.to, each.message.bodies) for each in sent if isinstance(each.message, Requests)]

    assert asked(*digests) == [(3, (requests[0], requests[2]))]
    assert asked(digests[0], digests[2], digests[3]) == [(3, (requests[0], requests[2]))]
    assert asked(bytes(32), digests[3]) == [(3, (requests[3],))]
    assert asked(bytes(32)) == []


def test_the_bodies_of_a_proposal_are_served_too() -> None:
    request = make_request(1, 0)
    named = Named([request])
    named.step(Received(0, Requests((request,))))
    assert named.replica.pool.get(request_digest(request)) is None
    effects = named.step(Received(2, FetchBodies((request_digest(request),))))
    assert Send(2, Requests((request,))) in effects


def test_a_body_that_a_batch_does_not_name_changes_nothing_of_it() -> None:
    """A place in the list of what is wanted may be left behind by a proposal that has the body by now."""
    request, other = make_request(1, 0), make_request(2, 0)
    named = Named([request])
    named.replica._wanted[request_digest(other)] = {1, 9}
    named.step(Submitted(other, True))
    assert named.slot.missing == {request_digest(request)} and not named.slot.bodies
    assert request_digest(other) not in named.replica._wanted


# Who is reminded, and who is left.


def test_a_censoring_primary_is_left_a_millisecond_after_it_is_found_out() -> None:
    alone = Alone(ConsensusParameters(request_timeout_ms=1_000, forward_delay_ms=1))
    alone.step(Submitted(make_request(1, 0), True))
    for after_ms in (*[100] * 19, 99):  # woken in time, or it would take itself for one that stood still
        alone.step(after_ms=after_ms)
        alone.replica._patience.executed()  # the primary is not slow: it has something executed all the time
    counters = alone.replica.counters
    effects = alone.step(after_ms=1)
    assert SetTimer(alone.now_ms + 1) in effects
    assert counters["suspected_censored"] == 0 and not alone.replica.changing
    effects = alone.step(after_ms=1)
    assert counters["suspected_censored"] == 1 and alone.replica.changing
    assert any(isinstance(each, Broadcast) and isinstance(each.message, ViewChange) for each in effects)
    alone.step(after_ms=1)
    alone.step(after_ms=1)
    assert counters["suspected_censored"] == 1  # it has left already


def test_one_censored_request_among_others_is_enough() -> None:
    alone = Alone(ConsensusParameters(request_timeout_ms=1_000, forward_delay_ms=1))
    first, second = make_request(1, 0), make_request(2, 0)
    alone.step(Submitted(first, True))
    for _ in range(19):
        alone.step(after_ms=100)
        alone.replica._patience.executed()
    alone.step(Submitted(second, True), after_ms=100)
    alone.step(after_ms=1)
    assert alone.replica.counters["suspected_censored"] == 1


def test_a_primary_reminds_nobody_and_suspects_nobody() -> None:
    alone = Alone()
    alone.node = alone.node.cluster.nodes[0]
    alone.replica = alone.node.replica
    alone.replica.parameters = msgspec.structs.replace(LIMITS, in_flight=1, window=1)
    alone.step(Submitted(make_request(1, 0), True))
    for nonce in range(1, 4):
        effects = alone.step(Submitted(make_request(1, nonce), True), after_ms=LIMITS.forward_delay_ms)
        assert alone.forwards(effects) == []
    assert len(alone.replica.pool) == 4


def test_a_replica_without_a_seat_forwards_nothing() -> None:
    cluster = Cluster(4)
    alone = Alone()
    alone.node = cluster.add_host()
    alone.replica = alone.node.replica
    alone.step(Submitted(make_request(1, 0), True))
    assert len(alone.replica.pool) == 1
    for _ in range(5):
        assert alone.forwards(alone.step(after_ms=LIMITS.forward_delay_ms)) == []
