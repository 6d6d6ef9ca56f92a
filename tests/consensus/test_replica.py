"""The normal case as sentences: order, batching, clients, time, lies, and what a replica does with them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pot_lab.agreement.votes import COMMIT, PRE_PREPARE, PREPARE, vote_digest
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import (
    Commit,
    Decisions,
    Forward,
    Message,
    Prepare,
    PrePrepare,
    batch_digest,
    decode_message,
    encode_message,
    request_digest,
)
from pot_lab.consensus.parameters import BadParameters, ConsensusParameters
from pot_lab.consensus.records import Accepted, Decided, Prepared
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.replica_state import BadLog, StateDiverged
from pot_lab.consensus.steps import (
    Broadcast,
    Executed,
    Persist,
    Received,
    Recovered,
    Send,
    SendRefusal,
    SendReply,
    Tick,
)
from pot_lab.errors import Oversize
from tests.consensus.cluster import NETWORK_ID, START_MS, Cluster, Node, Register, make_request
from tests.consensus.test_messages import messages

PATIENT = ConsensusParameters(request_timeout_ms=3_600_000)
"""For what a view's primary may not do, watched for longer than a primary would keep its place."""


class Puppet:
    """A primary (replica 0) whose process is down and whose key the test uses to say what it likes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.run(50)
        cluster.nodes[0].crash()
        self.identity = cluster.identities[0]

    def proposal(self, sequence: int, time_ms: int, requests: list[bytes]) -> PrePrepare:
        backup = self.cluster.nodes[1].replica
        digests = tuple(map(request_digest, requests))
        digest = batch_digest(sequence, time_ms, digests)
        signed = vote_digest(NETWORK_ID, PRE_PREPARE, 0, sequence, digest, backup.executed, backup.state)
        signature = self.identity.sign(signed)
        return PrePrepare(0, sequence, time_ms, digests, tuple(requests), backup.executed, backup.state, signature)

    def say(self, message: Message, to: tuple[int, ...] = (1, 2, 3)) -> None:
        for index in to:
            self.cluster.deliver(0, index, encode_message(message))

    def propose(self, sequence: int, time_ms: int, requests: list[bytes], to: tuple[int, ...] = (1, 2, 3)) -> None:
        self.say(self.proposal(sequence, time_ms, requests), to)


def executed_everywhere(cluster: Cluster, request: bytes) -> bool:
    return all(request in node.application.executed for node in cluster.nodes if node.up)


# Order.


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10])
def test_a_request_on_an_idle_network_is_executed_after_three_message_delays(n: int) -> None:
    cluster = Cluster(n, delay_ms=10)
    cluster.run(2_000)
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(30)
    assert executed_everywhere(cluster, request)
    assert cluster.answered(request)


def test_all_replicas_execute_all_requests_in_one_order() -> None:
    cluster = Cluster(4, seed=3)
    cluster.jitter_ms = 30
    requests = [make_request(account, nonce) for nonce in range(20) for account in range(5)]
    for request in requests:
        cluster.submit(request)
        cluster.run(cluster.random.randint(0, 3))
    cluster.run_until(lambda: all(map(cluster.answered, requests)))
    cluster.run(1_000)
    orders = [node.application.executed for node in cluster.nodes]
    assert orders == [orders[0]] * 4
    assert sorted(orders[0]) == sorted(requests)


def test_what_queues_while_batches_are_open_makes_the_next_batch_larger() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(beside_requests=0), delay_ms=20)
    requests = [make_request(account, 0) for account in range(300)]
    for request in requests:
        cluster.submit(request)
        if cluster.now_ms < START_MS + 300:
            cluster.run(1)
        assert cluster.nodes[0].replica.open_batches <= cluster.parameters.in_flight
    cluster.run_until(lambda: all(map(cluster.answered, requests)))
    assert cluster.heights()[0] < 30


def test_a_small_batch_waits_for_the_open_one_and_a_large_one_does_not() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(beside_requests=2), delay_ms=50)
    primary = cluster.nodes[0].replica
    requests = [make_request(account, 0) for account in range(9)]
    cluster.submit(requests[0])
    cluster.run(10)
    assert primary.open_batches == 1
    for request in requests[1:8]:
        cluster.submit(request)
    cluster.run(10)
    assert primary.open_batches == 1
    cluster.submit(requests[8])
    cluster.run(10)
    assert primary.open_batches == 2
    late = make_request(9, 0)
    cluster.submit(late)
    cluster.run_until(lambda: all(map(cluster.answered, [*requests, late])), 600)
    assert cluster.heights()[0] == 3


def test_batches_are_bounded_in_count_and_bytes() -> None:
    parameters = ConsensusParameters(batch_requests=7, batch_bytes=2_000, request_bytes=1_000)
    cluster = Cluster(4, parameters=parameters)
    requests = [make_request(account, 0, bytes(account % 3 * 400)) for account in range(60)]
    for request in requests:
        cluster.submit(request)
    cluster.run_until(lambda: all(map(cluster.answered, requests)))
    sizes = [effect.requests for effect in cluster.nodes[1].effects if isinstance(effect, Executed)]
    assert max(sizes) <= 7 and sum(sizes) == 60
    proposals = [effect.message for effect in cluster.nodes[0].effects if isinstance(effect, Broadcast)]
    bodies = [sum(map(len, message.bodies)) for message in proposals if isinstance(message, PrePrepare)]
    assert 1_000 < max(bodies) <= 2_000


def test_an_idle_network_makes_no_batches() -> None:
    cluster = Cluster(4)
    cluster.run(60_000)
    assert cluster.heights() == [0, 0, 0, 0]


def test_a_due_deadline_makes_one_empty_batch_at_its_time() -> None:
    cluster = Cluster(4)
    for node in cluster.nodes:
        node.application.wanted_ms = [START_MS + 5_000, START_MS + 9_000]
        node.crash()

    def application() -> Register:
        register = Register()
        register.wanted_ms = [START_MS + 5_000, START_MS + 9_000]
        return register

    for node in cluster.nodes:
        node.start(application)
    cluster.run(60_000)
    assert cluster.heights() == [2, 2, 2, 2]
    times = cluster.nodes[3].application.times_ms
    assert START_MS + 5_000 <= times[0] <= START_MS + 5_050 and START_MS + 9_000 <= times[1] <= START_MS + 9_050


# Clients.


@pytest.mark.parametrize("to", range(4))
def test_any_replica_takes_a_request(to: int) -> None:
    cluster = Cluster(4)
    request = make_request(1, 0)
    cluster.submit(request, [to])
    cluster.run(100)
    assert executed_everywhere(cluster, request)


def test_a_request_that_only_backups_got_reaches_the_primary_though_the_client_said_all_have_it() -> None:
    cluster = Cluster(4)
    request = make_request(1, 0)
    cluster.submit(request, [2], spread=True)
    cluster.run(1_000)
    assert executed_everywhere(cluster, request)


def test_a_large_body_that_backups_lack_is_fetched() -> None:
    cluster = Cluster(4)
    request = make_request(1, 0, bytes(100_000))
    cluster.submit(request, [0, 1], spread=True)
    cluster.run(100)
    assert executed_everywhere(cluster, request)
    assert cluster.nodes[2].replica.counters["bodies_fetched"] == 1
    assert cluster.nodes[1].replica.counters["bodies_fetched"] == 0


def test_a_body_that_comes_from_its_client_a_little_later_is_not_fetched() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(body_delay_ms=40))
    request = make_request(1, 0, bytes(100_000))
    cluster.submit(request, [0, 1, 2], spread=True)
    cluster.run(35)
    assert [node.replica.executed for node in cluster.nodes] == [1, 1, 1, 0]
    cluster.submit(request, [3], spread=True)
    cluster.run(100)
    assert executed_everywhere(cluster, request)
    assert cluster.nodes[3].replica.counters["bodies_fetched"] == 0


def test_votes_are_repeated_when_none_comes_any_more_and_not_while_some_still_come() -> None:
    """A set whose votes drip in for seconds is slow, not lossy: repeating all of them would make it slower yet."""
    cluster = Cluster(7, parameters=PATIENT)
    replica = cluster.nodes[1].replica
    held: list[tuple[int, bytes]] = []

    def hold(sender: int, to: int, data: bytes) -> bytes | None:
        if to == 1:
            held.append((sender, data))
        return None if to == 1 else data

    cluster.tamper = hold
    cluster.submit(make_request(1, 0), [0])
    cluster.run(100)
    kinds = (PrePrepare, Prepare, Commit)
    votes = [each for each in held if isinstance(decode_message(each[1], limit_bytes=1 << 24), kinds)]
    for sender, data in votes[:6]:
        cluster.deliver(sender, 1, data)
        cluster.run(cluster.parameters.resend_ms - 50)
        assert replica.counters["votes_repeated"] == 0
    assert replica.open_batches == 1
    cluster.run(60)
    assert replica.counters["votes_repeated"] == 1


def test_a_clock_set_forward_and_back_by_minutes_stops_no_wait() -> None:
    cluster = Cluster(4)
    node = cluster.nodes[3]
    cluster.run(100)
    node.crash()
    requests = [make_request(1, nonce) for nonce in range(5)]
    for request in requests:
        cluster.submit(request)
        cluster.run(20)
    node.skew_ms = 120_000
    node.start()
    cluster.run(30)
    assert node.replica.executed == 0 and node.replica.clock_ms > START_MS + 120_000
    node.skew_ms = 0
    cluster.run(5_000)
    assert node.now_ms - 1_500 < node.replica.clock_ms <= node.now_ms
    assert executed_everywhere(cluster, requests[-1])
    late = make_request(1, 5)
    cluster.submit(late, [3])
    cluster.run(1_000)
    assert executed_everywhere(cluster, late)


def test_a_retry_is_answered_and_not_run_again() -> None:
    cluster = Cluster(4)
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(100)
    before = len(cluster.nodes[1].effects)
    for _ in range(3):
        cluster.submit(request)
        cluster.run(100)
    replies = [effect for effect in cluster.nodes[1].effects[before:] if isinstance(effect, SendReply)]
    assert [reply.reply for reply in replies] == [b"done 1"] * 3
    assert cluster.nodes[1].application.executed == [request] and cluster.heights() == [1] * 4


def test_a_repetition_older_than_the_reply_cache_is_refused_by_its_nonce() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(cached_replies=5))
    requests = [make_request(1, nonce) for nonce in range(10)]
    for request in requests:
        cluster.submit(request)
        cluster.run(50)
    cluster.submit(requests[0])
    cluster.run(100)
    assert all(node.application.executed == requests for node in cluster.nodes)


def test_a_primary_that_proposes_a_request_again_makes_nobody_run_it_again() -> None:
    cluster = Cluster(4)
    puppet = Puppet(cluster)
    first, second = make_request(1, 0), make_request(1, 1)
    puppet.propose(1, cluster.now_ms, [first])
    cluster.run(100)
    puppet.propose(2, cluster.now_ms, [second, first])
    cluster.run(100)
    assert cluster.heights()[1:] == [2, 2, 2]
    for node in cluster.nodes[1:]:
        events = [effect.execution.events for effect in node.effects if isinstance(effect, Executed)]
        assert events == [(b"event " + first,), (b"event " + second,)]


def test_a_refused_request_is_never_ordered_and_its_client_hears_why() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(request_bytes=1_000))
    cluster.submit(b"short")
    cluster.submit(make_request(1, 0, bytes(1_000)))
    cluster.run(1_000)
    assert cluster.heights() == [0] * 4
    assert [refusal.error.code for refusal in cluster.refusals] == ["Malformed"] * 4 + ["Oversize"] * 4
    assert isinstance(cluster.refusals[-1].error, Oversize)


def test_a_flooding_account_does_not_keep_another_out() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(batch_requests=10, in_flight=1), delay_ms=10)
    for nonce in range(256):
        cluster.submit(make_request(1, nonce))
    other = make_request(2, 0)
    cluster.submit(other)
    cluster.run(70)
    assert executed_everywhere(cluster, other)
    assert len(cluster.nodes[1].application.executed) < 40


def test_a_waiting_queue_that_is_full_refuses_and_later_takes_again() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(pending_per_account=3, in_flight=1))
    cluster.cut = lambda sender, to: True
    for nonce in range(5):
        cluster.submit(make_request(1, nonce))
    assert {refusal.error.code for refusal in cluster.refusals} == {"QueueFull"} and len(cluster.refusals) == 8
    cluster.cut = lambda sender, to: False
    cluster.run(3_000)
    cluster.submit(make_request(1, 3))
    cluster.run(200)
    assert [len(node.application.executed) for node in cluster.nodes] == [4] * 4


# Time.


def test_batch_times_never_run_back_even_if_the_primarys_clock_does() -> None:
    cluster = Cluster(4)
    for nonce in range(10):
        cluster.nodes[0].skew_ms = 800 if nonce % 2 else 0
        cluster.submit(make_request(1, nonce))
        cluster.run(50)
    times = cluster.nodes[2].application.times_ms
    assert len(times) == 10 and times == sorted(times)


def test_an_early_proposal_waits_until_its_time_is_near_and_is_not_lost() -> None:
    cluster = Cluster(4)
    puppet = Puppet(cluster)
    request = make_request(1, 0)
    puppet.propose(1, cluster.now_ms + 4_000, [request])
    cluster.run(1_400)
    assert cluster.heights()[1:] == [0, 0, 0]
    cluster.run(300)
    assert cluster.heights()[1:] == [1, 1, 1]


def test_a_proposal_from_before_the_last_batch_is_refused() -> None:
    cluster = Cluster(4, parameters=PATIENT)
    puppet = Puppet(cluster)
    puppet.propose(1, cluster.now_ms, [make_request(1, 0)])
    cluster.run(100)
    puppet.propose(2, cluster.now_ms - 101, [make_request(1, 1)])
    cluster.run(10_000)
    assert cluster.heights()[1:] == [1, 1, 1]
    assert cluster.nodes[1].replica.counters["refused_bad_time"] == 1


def test_a_back_dated_proposal_is_refused_when_its_requests_came_later() -> None:
    cluster = Cluster(4, parameters=PATIENT)
    cluster.run(10_000)
    puppet = Puppet(cluster)
    request = make_request(1, 0)
    cluster.submit(request)
    puppet.propose(1, cluster.now_ms - 2_600, [request])
    cluster.run(10_000)
    assert cluster.heights()[1:] == [0, 0, 0]


def test_a_proposal_whose_way_was_slow_is_taken_when_its_requests_were_there_in_time() -> None:
    cluster = Cluster(4, parameters=PATIENT)
    puppet = Puppet(cluster)
    request = make_request(1, 0)
    cluster.submit(request)
    proposed_ms = cluster.now_ms
    cluster.run(8_000)
    puppet.propose(1, proposed_ms, [request])
    cluster.run(100)
    assert cluster.heights()[1:] == [1, 1, 1]
    assert cluster.nodes[1].application.times_ms == [proposed_ms]


# Lies.


def test_a_primary_that_proposes_two_batches_is_caught_and_at_most_one_is_executed() -> None:
    cluster = Cluster(4)
    puppet = Puppet(cluster)
    puppet.propose(1, cluster.now_ms, [make_request(1, 0)], to=(1,))
    puppet.propose(1, cluster.now_ms, [make_request(2, 0)], to=(2, 3))
    cluster.run(200)
    assert cluster.accusations and {accusation.accused for accusation in cluster.accusations} == {0}
    evidence = cluster.accusations[0].evidence
    assert evidence.accused(NETWORK_ID) == cluster.addresses[0]
    cluster.run(5_000)
    assert cluster.heights()[1:] == [1, 1, 1] and cluster.nodes[1].replica.view == 1
    assert all(node.application.executed == [make_request(2, 0)] for node in cluster.nodes[1:])


def test_a_backup_that_prepares_two_batches_is_caught() -> None:
    cluster = Cluster(4)
    cluster.run(50)
    cluster.nodes[3].crash()
    replica = cluster.nodes[1].replica
    for digest in (b"a" * 32, b"b" * 32):
        signed = vote_digest(NETWORK_ID, PREPARE, 0, 1, digest, 0, replica.state)
        vote = Prepare(0, 1, digest, 0, replica.state, 3, cluster.identities[3].sign(signed))
        cluster.deliver(3, 1, encode_message(vote))
    assert [accusation.accused for accusation in cluster.accusations] == [3]


def test_forged_votes_count_for_nothing() -> None:
    """Prepares with broken signatures, votes in another's name, a prepare offered as a commit."""
    cluster = Cluster(4)
    puppet = Puppet(cluster)
    cluster.nodes[3].crash()
    cluster.nodes[2].crash()
    request = make_request(1, 0)
    puppet.propose(1, cluster.now_ms, [request], to=(1,))
    digest = cluster.nodes[1].replica._slots[1].digest
    state = cluster.nodes[1].replica.state
    genuine = cluster.identities[2].sign(vote_digest(NETWORK_ID, PREPARE, 0, 1, digest, 0, state))
    forged = cluster.identities[3].sign(vote_digest(NETWORK_ID, PREPARE, 0, 1, digest, 0, state))
    cluster.deliver(2, 1, encode_message(Prepare(0, 1, digest, 0, state, 2, forged)))
    cluster.deliver(3, 1, encode_message(Prepare(0, 1, digest, 0, state, 2, genuine)))
    cluster.deliver(0, 1, encode_message(Prepare(0, 1, digest, 0, state, 0, genuine)))
    committed = [effect for effect in cluster.nodes[1].effects if isinstance(effect, Broadcast)]
    assert not any(isinstance(effect.message, Commit) for effect in committed)
    assert cluster.nodes[1].replica.counters["dropped_bad_signature"] == 1
    assert cluster.nodes[1].replica.counters["dropped_bad_sender"] == 2
    cluster.deliver(2, 1, encode_message(Prepare(0, 1, digest, 0, state, 2, genuine)))
    committed = [effect for effect in cluster.nodes[1].effects if isinstance(effect, Broadcast)]
    assert any(isinstance(effect.message, Commit) for effect in committed)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 9, 10])
def test_one_vote_less_than_a_quorum_decides_nothing_and_one_more_does(n: int) -> None:
    """Also where n is not 3f+1, and the paper's 2f+1 would already decide."""
    cluster = Cluster(n, parameters=PATIENT)
    puppet = Puppet(cluster)
    q = cluster.nodes[1].replica.q
    for node in cluster.nodes[q - 1 :]:
        node.crash()
    backups = tuple(range(1, q - 1))
    puppet.propose(1, cluster.now_ms, [make_request(1, 0)], to=backups)
    cluster.run(1_000)
    assert not any(cluster.nodes[index].replica._slots[1].prepared for index in backups)
    cluster.nodes[q - 1].start()
    puppet.propose(1, cluster.now_ms - 1_000, [make_request(1, 0)], to=(q - 1,))
    cluster.run(5_000)
    assert all(cluster.nodes[index].replica._slots[1].prepared for index in backups)
    assert not any(cluster.heights())


def test_a_proposal_nobody_signed_or_with_a_swapped_body_is_dropped() -> None:
    cluster = Cluster(4, parameters=PATIENT)
    puppet = Puppet(cluster)
    good = puppet.proposal(1, cluster.now_ms, [make_request(1, 0)])
    puppet.say(msgspec.structs.replace(good, time_ms=good.time_ms + 1))
    puppet.say(msgspec.structs.replace(good, view=0, bodies=(make_request(2, 0),)))
    cluster.run(1_000)
    assert cluster.heights()[1:] == [0, 0, 0]
    puppet.say(good)
    cluster.run(100)
    assert cluster.heights()[1:] == [1, 1, 1]


def test_a_batch_with_a_request_that_the_application_does_not_admit_is_not_prepared() -> None:
    cluster = Cluster(4, parameters=PATIENT)
    puppet = Puppet(cluster)
    puppet.propose(1, cluster.now_ms, [make_request(1, 0, b"invalid")])
    cluster.run(1_000)
    assert cluster.heights()[1:] == [0, 0, 0]


def test_messages_of_later_views_and_far_sequences_are_kept_within_bounds() -> None:
    cluster = Cluster(4)
    replica = cluster.nodes[1].replica
    for number in range(500):
        vote = Commit(7, 1 + number, bytes(32), 0, replica.state, 2, bytes(65))
        cluster.deliver(2, 1, encode_message(vote))
        far = Commit(0, 10_000 + number, bytes(32), 0, replica.state, 2, bytes(65))
        cluster.deliver(2, 1, encode_message(far))
    assert len(replica._early) == 2 * 4 * cluster.parameters.in_flight
    assert len(replica._slots) == 0
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(100)
    assert executed_everywhere(cluster, request)


def early_commit(replica: Replica, sequence: int) -> Commit:
    return Commit(0, sequence, bytes(32), 0, replica.state, 2, bytes(65))


def test_a_vote_at_the_high_watermark_counts_and_one_above_waits_until_it_moves() -> None:
    """To the sequence: neither is the last place of the window lost, nor one above it used."""
    cluster = Cluster(4, parameters=ConsensusParameters(window=16, in_flight=8, beside_requests=0))
    node = cluster.nodes[1]
    replica = node.replica
    assert replica.high == 16
    for sequence in (16, 17, 20, 21):
        cluster.deliver(2, 1, encode_message(early_commit(replica, sequence)))
    assert sorted(replica._slots) == [16] and len(replica._early) == 3
    for nonce in range(4):
        cluster.submit(make_request(1, nonce))
        cluster.run(100)
    assert (replica.low, replica.high) == (4, 20)
    assert [sequence for sequence in replica._slots if sequence > 4] == [16, 17, 20] and len(replica._early) == 1


def test_a_replica_whose_state_diverged_stops_and_the_others_go_on() -> None:
    cluster = Cluster(4)
    wrong = cluster.nodes[2]
    wrong.application.salt = b"cosmic ray"
    cluster.on_executed = lambda node, effect: None  # type: ignore[method-assign]
    for nonce in range(3):
        cluster.submit(make_request(1, nonce))
        cluster.run(200)
    assert [index for index, _ in cluster.halts] == [2]
    assert isinstance(cluster.halts[0][1], StateDiverged)
    assert [len(node.application.executed) for node in cluster.nodes if node is not wrong] == [3, 3, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([3, 3, 3, -1, 4]), messages), max_size=25))
def test_nothing_that_one_liar_says_stops_a_replica_or_grows_in_it(sent: list[tuple[int, Message]]) -> None:
    cluster = Cluster(4)
    node = cluster.nodes[1]
    for sender, message in sent:
        node.step(Received(sender, message))
    cluster.run(3_000)
    assert not cluster.halts
    assert len(node.replica._slots) <= cluster.parameters.window
    assert len(node.replica._early) <= 2 * 4 * cluster.parameters.in_flight
    request = make_request(1, 2**60)
    cluster.submit(request)
    cluster.run_until(lambda: cluster.answered(request))


# Coming back.


def test_a_restarted_replica_is_where_it_was() -> None:
    cluster = Cluster(4)
    for nonce in range(20):
        cluster.submit(make_request(1, nonce))
        cluster.run(10)
    cluster.run(500)
    node = cluster.nodes[1]
    before = node.replica
    node.crash(keep_unsynced=len(node.unsynced))
    node.start()
    after = node.replica
    assert (after.executed, after.state, after.time_ms) == (before.executed, before.state, before.time_ms)
    assert after.replies.snapshot() == before.replies.snapshot()


def test_votes_are_written_before_they_are_sent() -> None:
    cluster = Cluster(4)
    cluster.submit(make_request(1, 0))
    cluster.run(100)
    for node in cluster.nodes:
        written: set[tuple[type, int]] = set()
        for effect in node.effects:
            if isinstance(effect, Persist) and isinstance(effect.record, Accepted | Prepared):
                assert effect.urgent
                if isinstance(effect.record, Prepared):
                    written.add((Commit, effect.record.commit.sequence))
                else:
                    written |= {
                        (PrePrepare, effect.record.proposal.sequence),
                        (Prepare, effect.record.proposal.sequence),
                    }
            elif isinstance(effect, Broadcast | Send) and isinstance(effect.message, PrePrepare | Prepare | Commit):
                assert (type(effect.message), effect.message.sequence) in written


def test_a_restarted_replica_never_votes_for_another_batch_than_before() -> None:
    cluster = Cluster(4)
    puppet = Puppet(cluster)
    cluster.nodes[2].crash()
    cluster.nodes[3].crash()
    puppet.propose(1, cluster.now_ms, [make_request(1, 0)], to=(1,))
    node = cluster.nodes[1]
    first = [e.message for e in node.effects if isinstance(e, Broadcast) and isinstance(e.message, Prepare)]
    node.crash()
    node.effects.clear()
    node.start()
    puppet.propose(1, cluster.now_ms, [make_request(2, 0)], to=(1,))
    cluster.run(3_000)
    again = [e.message for e in node.effects if isinstance(e, Broadcast) and isinstance(e.message, Prepare)]
    assert again and set(again) == set(first)
    assert {accusation.accused for accusation in cluster.accusations} == {0}


def test_all_replicas_may_crash_at_once_with_batches_open_and_go_on() -> None:
    for seed in range(20):
        cluster = Cluster(4, seed=seed, delay_ms=5)
        requests = [make_request(account, 0) for account in range(30)]
        for request in requests:
            cluster.submit(request)
            cluster.run(1)
        for node in cluster.nodes:
            node.crash(keep_unsynced=cluster.random.randint(0, 3))
        cluster.run(20_000)
        for node in cluster.nodes:
            node.start()
        for request in requests:
            cluster.submit(request)
        cluster.run_until(lambda c=cluster, r=requests: all(map(c.answered, r)))
        assert all(node.application.executed.count(request) <= 1 for node in cluster.nodes for request in requests)


def test_a_log_that_contradicts_itself_is_refused() -> None:
    cluster = Cluster(4)
    for nonce in range(3):
        cluster.submit(make_request(1, nonce))
        cluster.run(50)
    records = [effect.record for effect in cluster.nodes[1].effects if isinstance(effect, Persist)]
    decided = [record for record in records if isinstance(record, Decided)]
    for damaged in (records[1:], [r for r in records if r is not decided[0]], [decided[1]]):
        membership = Membership(network_id=NETWORK_ID, addresses=cluster.addresses, index=1)
        replica = Replica(membership, cluster.identities[1], Register())
        with pytest.raises(BadLog):
            replica.step(Recovered(tuple(damaged)))


def test_a_replica_refuses_anothers_key_and_limits_that_cannot_work() -> None:
    cluster = Cluster(4)
    with pytest.raises(BadLog):
        Replica(
            Membership(network_id=NETWORK_ID, addresses=cluster.addresses, index=1), cluster.identities[2], Register()
        )
    for broken in (
        ConsensusParameters(window=0),
        ConsensusParameters(batch_bytes=10),
        ConsensusParameters(in_flight=100),
    ):
        with pytest.raises(BadParameters):
            broken.check()


# Catching up.


def lagging(cluster: Cluster, index: int = 3) -> Node:
    """A replica that was away while the others executed 200 requests."""
    cluster.run(100)
    node = cluster.nodes[index]
    node.crash()
    for nonce in range(200):
        cluster.submit(make_request(1, nonce))
        cluster.run(5)
    cluster.run(500)
    return node


def test_a_replica_that_was_away_fetches_what_it_missed() -> None:
    cluster = Cluster(4)
    node = lagging(cluster)
    node.start()
    cluster.run(1_500)
    assert len(set(cluster.heights())) == 1
    assert node.application.executed == cluster.nodes[0].application.executed
    node.crash(keep_unsynced=len(node.unsynced))
    node.start()
    assert node.application.executed == cluster.nodes[0].application.executed


def test_a_replica_catches_up_while_the_others_go_on_and_then_votes_again() -> None:
    cluster = Cluster(4)
    node = lagging(cluster)
    node.start()
    for nonce in range(200, 400):
        cluster.submit(make_request(1, nonce))
        cluster.run(5)
    cluster.run(1_000)
    assert len(set(cluster.heights())) == 1
    cluster.nodes[2].crash()
    cluster.submit(make_request(1, 400))
    cluster.run(100)
    assert cluster.answered(make_request(1, 400))


@pytest.mark.parametrize(
    "lie", ["other body", "no commits", "f+1 commits", "doubled commits", "forged commits", "empty"]
)
def test_decisions_without_proof_are_not_believed_and_another_peer_is_asked(lie: str) -> None:
    cluster = Cluster(4)
    node = lagging(cluster)

    def tamper(sender: int, to: int, data: bytes) -> bytes:
        message = decode_message(data, limit_bytes=1 << 24)
        if sender != 0 or not isinstance(message, Decisions):
            return data
        if lie == "empty":
            return encode_message(Decisions(()))
        batches = []
        for batch in message.batches:
            commits = batch.commits
            if lie == "other body":
                batch = msgspec.structs.replace(batch, requests=(make_request(9, 9),))
            elif lie == "no commits":
                commits = ()
            elif lie == "f+1 commits":
                commits = commits[:2]
            elif lie == "doubled commits":
                commits = commits[:2] * 3
            else:
                commits = tuple(msgspec.structs.replace(c, signature=b"\1" * 65) for c in commits)
            batches.append(msgspec.structs.replace(batch, commits=commits))
        return encode_message(Decisions(tuple(batches)))

    cluster.tamper = tamper
    node.start()
    cluster.run(10_000)
    assert len(set(cluster.heights())) == 1
    assert node.application.executed == cluster.nodes[0].application.executed
    assert node.replica.counters["decisions_asked"] > 1


def test_without_valid_certificates_f_plus_one_peers_alike_are_believed() -> None:
    """A liar's bad signatures may stand in everyone's certificates; then f+1 replicas' word counts."""
    cluster = Cluster(4)
    node = lagging(cluster)
    asked: set[int] = set()

    def tamper(sender: int, to: int, data: bytes) -> bytes:
        message = decode_message(data, limit_bytes=1 << 24)
        if not isinstance(message, Decisions):
            return data
        asked.add(sender)
        batches = tuple(msgspec.structs.replace(batch, commits=batch.commits[:2]) for batch in message.batches)
        return encode_message(Decisions(batches))

    cluster.tamper = tamper
    node.start()
    cluster.run(60_000)
    assert node.application.executed == cluster.nodes[0].application.executed
    assert len(asked) >= 2


def test_one_liar_that_claims_to_be_far_ahead_changes_nothing() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[3].crash()
    state = b"s" * 32
    vote = Commit(0, 5, b"d" * 32, 2**40, state, 3, bytes(65))
    for _ in range(3):
        for index in range(3):
            cluster.deliver(3, index, encode_message(vote))
        cluster.submit(make_request(1, _))
        cluster.run(3_000)
    assert [len(node.application.executed) for node in cluster.nodes[:3]] == [3, 3, 3]


def test_a_forward_of_garbage_is_counted_and_dropped() -> None:
    cluster = Cluster(4)
    cluster.deliver(1, 0, encode_message(Forward((b"", b"x" * 5, make_request(1, 0)))))
    cluster.run(100)
    assert cluster.nodes[0].replica.counters["forwards_refused"] == 2
    assert cluster.heights() == [1] * 4


def test_a_halted_replica_says_nothing_more() -> None:
    cluster = Cluster(4)
    node = cluster.nodes[1]
    node.replica.halted = True
    assert node.replica.step(Tick(cluster.now_ms + 99_999)) == []


def test_a_refusal_names_the_request_it_refuses() -> None:
    cluster = Cluster(4)
    cluster.submit(b"short", [1])
    refusals = [effect for effect in cluster.nodes[1].effects if isinstance(effect, SendRefusal)]
    assert [refusal.digest for refusal in refusals] == [request_digest(b"short")]


def test_commits_are_signed_so_that_others_can_check_them() -> None:
    cluster = Cluster(4)
    cluster.submit(make_request(1, 0))
    cluster.run(100)
    decided = [
        effect.record
        for effect in cluster.nodes[2].effects
        if isinstance(effect, Persist) and isinstance(effect.record, Decided)
    ]
    replica = cluster.nodes[2].replica
    assert len(decided[0].commits) == replica.q
    for commit in decided[0].commits:
        assert replica._signed_by(commit.replica, COMMIT, commit, commit.digest)
