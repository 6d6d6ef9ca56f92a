"""Primaries that die, lie, dawdle and censor lose their place, and nothing that was prepared is lost."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.votes import NEW_VIEW, PRE_PREPARE, PREPARE, VIEW_CHANGE, SignedVote, vote_digest
from pot_lab.consensus.messages import (
    NO_HASH,
    BatchContent,
    CheckpointProof,
    Commit,
    Endorsement,
    NewView,
    Prepare,
    PreparedProof,
    PrePrepare,
    ViewChange,
    batch_digest,
    content_digest,
    decode_message,
    encode_message,
    request_digest,
    signed_vote,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.view_change import Patience, plan
from tests.consensus.cluster import NETWORK_ID, START_MS, Cluster, make_request
from tests.consensus.test_replica import Puppet, executed_everywhere

LIMIT = 1 << 24


def views(cluster: Cluster) -> set[tuple[int, bool]]:
    return {(node.replica.view, node.replica.changing) for node in cluster.nodes if node.up}


def settled(cluster: Cluster) -> bool:
    """All stand at one height, and a quorum takes part in one view; one that left it alone follows by catching up."""
    active = [node.replica.view for node in cluster.nodes if node.up and not node.replica.changing]
    together = max(map(active.count, active), default=0)
    return together >= cluster.nodes[0].replica.q and len({node.replica.executed for node in cluster.nodes}) == 1


# Crashes.


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10])
def test_a_crashed_primary_is_replaced_within_two_request_timeouts(n: int) -> None:
    cluster = Cluster(n)
    cluster.run(100)
    cluster.nodes[0].crash()
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(2 * cluster.parameters.request_timeout_ms)
    assert executed_everywhere(cluster, request)
    assert views(cluster) == {(1, False)}


@pytest.mark.parametrize("n", [7, 10])
def test_f_crashed_primaries_in_a_row_are_replaced(n: int) -> None:
    cluster = Cluster(n)
    cluster.run(100)
    for node in cluster.nodes[: cluster.nodes[0].replica.f]:
        node.crash()
    requests = [make_request(account, 0) for account in range(5)]
    for request in requests:
        cluster.submit(request)
    cluster.run_until(lambda: all(map(cluster.answered, requests)), 30_000)
    assert {view for view, _ in views(cluster)} == {cluster.nodes[-1].replica.f}


def test_primaries_that_crash_one_after_the_other_for_long() -> None:
    cluster = Cluster(4, seed=3)
    cluster.jitter_ms = 5
    for nonce in range(12):
        primary = max(node.replica.view for node in cluster.nodes) % 4
        requests = [make_request(account, nonce) for account in range(3)]
        cluster.run(cluster.random.randint(0, 8))
        cluster.nodes[primary].crash(keep_unsynced=nonce % 3)
        for request in requests:
            cluster.submit(request)
        cluster.run_until(lambda r=requests: all(map(cluster.answered, r)), 60_000)
        cluster.nodes[primary].start()
        cluster.run(3_000)
    assert max(node.replica.view for node in cluster.nodes) >= 12
    cluster.run_until(lambda: settled(cluster))
    orders = [node.application.executed for node in cluster.nodes]
    assert orders == [orders[0]] * 4 and len(orders[0]) == 36


def test_a_due_deadline_that_the_primary_lets_pass_costs_it_its_place() -> None:
    cluster = Cluster(4)
    wanted = cluster.now_ms + 4_000

    def application():
        register = type(cluster.nodes[0].application)()
        register.wanted_ms = [wanted]
        return register

    for node in cluster.nodes:
        node.crash()
        node.start(application)
    cluster.run(1_000)
    cluster.nodes[0].crash()
    cluster.run(3_000 + 2 * cluster.parameters.request_timeout_ms)
    assert cluster.heights()[1:] == [1, 1, 1]


def test_an_idle_network_keeps_its_primary() -> None:
    cluster = Cluster(4)
    cluster.nodes[0].crash()
    cluster.run(60_000)
    assert views(cluster) == {(0, False)}


def test_too_few_replicas_do_not_run_through_views_and_go_on_when_one_returns() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[0].crash()
    cluster.nodes[1].crash()
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(60_000)
    assert {node.replica.view for node in cluster.nodes[2:]} == {1}
    cluster.nodes[0].start()
    cluster.run_until(lambda: cluster.answered(request), 60_000)


def test_a_replica_that_stood_still_itself_leaves_nobody() -> None:
    """Its process slept, or its clock jumped: what waits in its sockets comes first."""
    cluster = Cluster(4)
    cluster.run(100)
    cluster.cut = lambda sender, to: True
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(200)
    node = cluster.nodes[2]
    node.skew_ms = 5_000
    cluster.cut = lambda sender, to: False
    cluster.run(1_000)
    assert executed_everywhere(cluster, request)
    assert views(cluster) == {(0, False)} and node.replica.counters["stood_still"] == 1


def test_time_never_runs_back_over_a_view_change() -> None:
    cluster = Cluster(4)
    cluster.nodes[0].skew_ms = 1_900
    first, second = make_request(1, 0), make_request(1, 1)
    cluster.submit(first)
    cluster.run(100)
    cluster.nodes[0].crash()
    cluster.submit(second)
    cluster.run(6_000)
    times = cluster.nodes[1].application.times_ms
    assert len(times) >= 2 and times == sorted(times)


# Nothing prepared is lost.


def test_a_batch_committed_at_one_replica_alone_survives_the_primarys_death() -> None:
    """Only replica 1 hears the commits: it executes; the others know no more than that they prepared."""
    cluster = Cluster(4)
    cluster.run(100)

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        return None if isinstance(message, Commit) and to != 1 else data

    cluster.tamper = tamper
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(20)
    assert cluster.heights() == [0, 1, 0, 0]
    cluster.nodes[0].crash()
    cluster.nodes[1].crash()
    cluster.tamper = lambda sender, to, data: data
    later = make_request(2, 0)
    cluster.submit(later)
    cluster.run(3_000)
    cluster.nodes[0].start()
    cluster.run_until(lambda: cluster.answered(later), 60_000)
    assert cluster.nodes[2].application.executed == [request, later]
    cluster.nodes[1].start()
    cluster.run_until(lambda: settled(cluster))
    assert cluster.nodes[1].application.executed == [request, later]


def test_the_one_that_executed_votes_again_for_those_that_did_not() -> None:
    """Replica 1 executed alone, its proof is spoilt by a liar's signature, and the others need its vote."""
    cluster = Cluster(4)
    cluster.run(100)

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        if isinstance(message, Commit):
            if message.view == 0 and (to != 1 or sender == 3):
                return None
            if sender == 0:
                return encode_message(msgspec.structs.replace(message, signature=b"\1" * 65))
        return data

    cluster.tamper = tamper
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(20)
    assert cluster.heights() == [0, 1, 0, 0]
    cluster.nodes[0].crash()
    cluster.run_until(lambda: cluster.heights()[1:] == [1, 1, 1], 60_000)
    assert views(cluster) == {(1, False)}


def test_a_gap_below_a_prepared_batch_becomes_an_empty_one() -> None:
    """Only liars show such a gap; batch 2 keeps its place, and nothing fills place 1."""
    cluster = Cluster(7)
    cluster.run(100)
    cluster.nodes[0].crash()
    cluster.nodes[6].crash()
    cluster.cut = lambda sender, to: sender == 5
    first, second = make_request(1, 0), make_request(2, 0)
    shown = proof(cluster, 2, batch_digest(2, START_MS + 100, [request_digest(second)]))
    for to in range(1, 6):
        message = sign(cluster, 6, ViewChange(1, None, (shown,), 6, bytes(65)))
        cluster.deliver(6, to, encode_message(message))
    cluster.submit(first)
    cluster.run(1_550)
    cluster.cut = lambda sender, to: False
    for to in range(1, 4):
        cluster.deliver(6, to, encode_message(BatchContent(2, START_MS + 100, (second,))))
    cluster.run_until(lambda: cluster.answered(first), 30_000)
    cluster.run(2_000)
    assert cluster.heights()[1:6] == [3] * 5
    assert all(node.application.executed == [second, first] for node in cluster.nodes[1:6])
    times = cluster.nodes[1].application.times_ms
    assert times == sorted(times)


def test_a_batch_that_the_new_primary_never_saw_is_fetched() -> None:
    cluster = Cluster(7)
    cluster.run(100)
    cluster.cut = lambda sender, to: 1 in (sender, to)
    request = make_request(1, 0, bytes(50_000))

    def no_commits(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        return None if isinstance(message, Commit) and message.view == 0 else data

    cluster.tamper = no_commits
    cluster.submit(request, [0, 2, 3, 4, 5, 6])
    cluster.run(50)
    cluster.nodes[0].crash()
    cluster.cut = lambda sender, to: False
    cluster.run_until(lambda: cluster.answered(request), 20_000)
    cluster.run(2_000)
    assert executed_everywhere(cluster, request)
    assert cluster.nodes[1].replica.counters["batches_filled"] == 1


# Restarts.


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_in_the_middle_of_a_view_change_loses_nothing(seed: int) -> None:
    cluster = Cluster(4, seed)
    cluster.jitter_ms = 10
    cluster.run(100)
    requests = [make_request(account, 0) for account in range(8)]
    for request in requests:
        cluster.submit(request)
        cluster.run(cluster.random.randint(0, 2))
    cluster.nodes[0].crash()
    cluster.run_until(lambda: any(node.replica.changing for node in cluster.nodes[1:]), 10_000)
    cluster.run(seed * 3)
    for node in cluster.nodes[1:]:
        node.crash(keep_unsynced=cluster.random.randint(0, 2))
    for node in cluster.nodes:
        node.start()
    for request in requests:
        cluster.submit(request)
    cluster.run_until(lambda: all(map(cluster.answered, requests)), 30_000)
    cluster.run_until(lambda: settled(cluster), 30_000)
    orders = [node.application.executed for node in cluster.nodes]
    assert orders == [orders[0]] * 4 and sorted(orders[0]) == sorted(requests)


def test_a_restarted_replica_says_the_same_view_change_again() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[0].crash()
    cluster.nodes[1].crash()
    cluster.submit(make_request(1, 0))
    cluster.run(5_000)
    node = cluster.nodes[2]
    said = {
        encode_message(each.message) for each in node.effects if isinstance(getattr(each, "message", None), ViewChange)
    }
    node.crash()
    node.effects.clear()
    node.start()
    cluster.run(5_000)
    again = {
        encode_message(each.message) for each in node.effects if isinstance(getattr(each, "message", None), ViewChange)
    }
    assert again == said and len(said) == 1


def test_a_replica_that_slept_through_view_changes_is_brought_in() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[3].crash()
    cluster.cut = lambda sender, to: sender == 0
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(1_000)
    cluster.cut = lambda sender, to: False
    cluster.nodes[0].crash()
    cluster.nodes[3].start()
    cluster.run_until(lambda: cluster.answered(request), 20_000)
    cluster.nodes[0].start()
    cluster.run_until(lambda: settled(cluster), 20_000)
    assert {view for view, _ in views(cluster)} != {0}


# Lies.


def test_a_primary_that_sends_a_malformed_batch_is_left_at_once() -> None:
    cluster = Cluster(4)
    puppet = Puppet(cluster)
    good = puppet.proposal(1, cluster.now_ms, [make_request(1, 0)])
    puppet.say(msgspec.structs.replace(good, bodies=()))
    cluster.run(100)
    assert views(cluster) == {(1, False)}


def test_a_primary_that_leaves_one_account_out_loses_its_place() -> None:
    """It orders everyone else's requests, so there is progress all the time."""
    cluster = Cluster(4)
    victim = make_request(77, 0)
    primary = cluster.nodes[0]
    submit = primary.replica._admit
    primary.replica._admit = lambda digest, request, spread: (  # type: ignore[method-assign]
        None if request == victim else submit(digest, request, spread)
    )
    cluster.submit(victim)
    for nonce in range(100):
        cluster.submit(make_request(1, nonce))
        cluster.run(50)
    assert executed_everywhere(cluster, victim)
    assert {view for view, _ in views(cluster)} == {1}


def test_a_busy_honest_primary_is_not_taken_for_a_censor() -> None:
    cluster = Cluster(4, parameters=ConsensusParameters(batch_requests=5, in_flight=1), delay_ms=30)
    for nonce in range(60):
        for account in range(20):
            cluster.submit(make_request(account, nonce))
        cluster.run(60)
    cluster.run(20_000)
    assert views(cluster) == {(0, False)}


@pytest.mark.parametrize("lie", ["dropped proof", "foreign signature", "too few prepares", "wrong digest", "doubled"])
def test_a_lying_view_change_changes_nothing(lie: str) -> None:
    cluster = Cluster(4)
    cluster.run(100)
    request = make_request(1, 0)

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        if isinstance(message, Commit) and message.view == 0:
            return None
        if sender == 3 and isinstance(message, ViewChange) and message.prepared:
            proof = message.prepared[0]
            if lie == "dropped proof":
                return encode_message(sign(cluster, 3, msgspec.structs.replace(message, prepared=())))
            if lie == "foreign signature":
                return encode_message(msgspec.structs.replace(message, replica=2))
            if lie == "too few prepares":
                proof = msgspec.structs.replace(proof, prepares=proof.prepares[:1])
            elif lie == "doubled":
                proof = msgspec.structs.replace(proof, prepares=proof.prepares[:1] * 2)
            else:
                vote = msgspec.structs.replace(proof.proposal, digest=b"x" * 32)
                proof = msgspec.structs.replace(proof, proposal=vote)
            return encode_message(sign(cluster, 3, msgspec.structs.replace(message, prepared=(proof,))))
        return data

    cluster.tamper = tamper
    cluster.submit(request)
    cluster.run(2_500)
    cluster.run_until(lambda: cluster.answered(request), 60_000)
    cluster.run(2_000)
    assert cluster.nodes[1].application.executed == [request]
    if lie not in ("dropped proof", "foreign signature"):
        assert any(node.replica.counters["dropped_bad_view_change"] for node in cluster.nodes[1:3])


def proof(cluster: Cluster, sequence: int, digest: bytes) -> PreparedProof:
    """A certificate that all signed, whatever they did."""
    state = cluster.nodes[1].replica.state

    def vote(phase: int, index: int) -> bytes:
        return cluster.identities[index].sign(vote_digest(NETWORK_ID, phase, 0, sequence, digest, 0, state))

    proposal = SignedVote(PRE_PREPARE, 0, sequence, digest, 0, state, vote(PRE_PREPARE, 0))
    backups = range(1, len(cluster.nodes))
    return PreparedProof(proposal, tuple(Endorsement(index, 0, state, vote(PREPARE, index)) for index in backups))


def sign(cluster: Cluster, index: int, message: ViewChange | NewView) -> ViewChange | NewView:
    phase = VIEW_CHANGE if isinstance(message, ViewChange) else NEW_VIEW
    signed = vote_digest(NETWORK_ID, phase, message.view, 0, content_digest(message), 0, NO_HASH)
    return msgspec.structs.replace(message, signature=cluster.identities[index].sign(signed))


@pytest.mark.parametrize("lie", ["drops a batch", "two votes only", "another batch", "unsigned"])
def test_a_new_view_that_does_not_follow_is_refused_and_its_primary_passed_over(lie: str) -> None:
    cluster = Cluster(4)
    cluster.run(100)
    request = make_request(1, 0)

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        if isinstance(message, Commit) and message.view == 0:
            return None
        if sender == 1 and isinstance(message, NewView) and message.view == 1:
            if lie == "drops a batch":
                changed = msgspec.structs.replace(message, proposals=())
            elif lie == "two votes only":
                changed = msgspec.structs.replace(message, votes=message.votes[:2])
            elif lie == "another batch":
                vote = msgspec.structs.replace(message.proposals[0], digest=b"y" * 32)
                changed = msgspec.structs.replace(message, proposals=(vote,))
            else:
                return encode_message(msgspec.structs.replace(message, signature=b"\1" * 65))
            return encode_message(sign(cluster, 1, changed))
        return None if sender == 1 and isinstance(message, PrePrepare | Prepare) else data

    cluster.tamper = tamper
    cluster.submit(request)
    cluster.run(50)
    cluster.nodes[0].crash()
    cluster.run(15_000)
    cluster.nodes[0].start()
    cluster.run_until(lambda: cluster.answered(request), 60_000)
    assert cluster.nodes[2].application.executed == [request]
    assert cluster.nodes[2].replica.view >= 2


def test_a_replica_that_signs_two_view_changes_is_caught() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[3].crash()
    base = ViewChange(1, None, (), 3, bytes(65))
    first = sign(cluster, 3, base)
    proof_free = sign(cluster, 3, msgspec.structs.replace(base, stable=None, view=1, replica=3))
    assert first == proof_free
    cluster.deliver(3, 1, encode_message(first))
    replica = cluster.nodes[1].replica
    other = sign(cluster, 3, msgspec.structs.replace(base, stable=CheckpointProof(16, bytes(32), bytes(32), ())))
    cluster.deliver(3, 1, encode_message(other))
    assert [each.accused for each in cluster.accusations] == [3]
    assert cluster.accusations[0].evidence.accused(NETWORK_ID) == cluster.addresses[3]
    assert replica.view == 0


def test_one_replica_alone_changes_no_view_and_f_plus_one_do() -> None:
    cluster = Cluster(7)
    cluster.run(100)
    for liar in (5, 6):
        for to in range(5):
            cluster.deliver(liar, to, encode_message(sign(cluster, liar, ViewChange(9, None, (), liar, bytes(65)))))
    cluster.run(100)
    assert all(node.replica.view == 0 for node in cluster.nodes[:5])
    for to in range(4):
        cluster.deliver(4, to, encode_message(sign(cluster, 4, ViewChange(3, None, (), 4, bytes(65)))))
    cluster.run(1)
    assert all(node.replica.view == 3 for node in cluster.nodes[:4])


def test_entering_a_view_a_replica_votes_for_nothing_above_its_own_watermark() -> None:
    """It may have executed further than its last stable checkpoint allows it to vote, if it fetched certificates."""
    cluster = Cluster(4, parameters=ConsensusParameters(window=64, in_flight=4, beside_requests=0))
    behind = cluster.nodes[2]
    for nonce in range(12):
        cluster.submit(make_request(1, nonce))
        cluster.run(100)
    assert behind.replica.executed == 12 and behind.replica.low == 0
    behind.replica.parameters = msgspec.structs.replace(behind.replica.parameters, window=8)
    assert behind.replica.high == 8
    voted: dict[int, set[int]] = {sender: set() for sender in range(4)}

    def note(sender: int, to: int, data: bytes) -> bytes:
        if isinstance(vote := decode_message(data, limit_bytes=LIMIT), Prepare) and vote.view == 1:
            voted[sender].add(vote.sequence)
        return data

    cluster.tamper = note
    cluster.nodes[0].crash()
    cluster.submit(make_request(2, 0))
    cluster.run(2 * cluster.parameters.request_timeout_ms)
    assert views(cluster) == {(1, False)}
    assert voted[3] >= set(range(1, 13)), "what the view proposes again is voted for again"
    assert voted[2] and max(voted[2]) <= 8


def test_votes_of_views_gone_by_count_for_nothing() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    puppet = Puppet(cluster)
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run(4_000)
    assert views(cluster) == {(1, False)}
    before = cluster.heights()
    puppet.propose(before[1] + 1, cluster.now_ms, [make_request(2, 0)])
    cluster.run(100)
    assert cluster.heights() == before


def test_a_request_that_one_backup_alone_has_reaches_the_next_primary() -> None:
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[0].crash()
    request = make_request(1, 0)
    cluster.submit(request, [2], spread=True)
    cluster.run_until(lambda: cluster.answered(request), 30_000)


# Random.


@pytest.mark.parametrize("seed", range(40))
def test_replicas_agree_through_random_crashes_of_primaries_and_lost_messages(seed: int) -> None:
    n = (4, 4, 5, 6, 7)[seed % 5]
    parameters = ConsensusParameters(
        in_flight=1 + seed % 4, beside_requests=seed % 3 // 2, window=8 + 4 * (seed % 5), request_timeout_ms=600
    )
    cluster = Cluster(n, seed, parameters)
    choose = cluster.random
    cluster.jitter_ms = choose.choice([0, 10, 100])
    cluster.loss = choose.choice([0, 0.03, 0.12])
    cluster.duplication = choose.choice([0, 0.2])
    requests: list[bytes] = []
    down: list[int] = []
    f = cluster.nodes[0].replica.f
    for nonce in range(25):
        for account in range(3):
            requests.append(make_request(account, nonce, bytes(choose.choice([0, 40]))))
            cluster.submit(requests[-1])
        cluster.run(choose.choice([1, 20, 300, 1_500]))
        primary = max(node.replica.view for node in cluster.nodes) % n
        if choose.random() < 0.35 and len(down) < f and primary not in down:
            cluster.nodes[primary].crash(keep_unsynced=choose.randint(0, 2))
            down.append(primary)
        elif down and choose.random() < 0.4:
            cluster.nodes[down.pop(0)].start()
        if choose.random() < 0.05:
            for node in cluster.nodes:
                if node.up:
                    node.crash(keep_unsynced=choose.randint(0, 2))
            for index, node in enumerate(cluster.nodes):
                if index not in down:
                    node.start()
    cluster.loss = cluster.duplication = 0
    cluster.jitter_ms = 3
    for index in down:
        cluster.nodes[index].start()
    for request in requests:
        cluster.submit(request)
        cluster.run(2)
    cluster.run_until(lambda: all(map(cluster.answered, requests)), 120_000)
    cluster.run_until(lambda: settled(cluster), 60_000)
    orders = [node.application.executed for node in cluster.nodes]
    assert orders == [orders[0]] * n and len(set(orders[0])) == len(orders[0])
    assert not cluster.halts and not cluster.accusations
    for node in cluster.nodes:
        assert node.application.times_ms == sorted(node.application.times_ms)


@pytest.mark.parametrize("seed", range(24))
def test_a_lying_replica_among_honest_ones_never_makes_them_disagree(seed: int) -> None:
    """Replica 0 says different things to different replicas, in any view: batches, votes, view changes, new views."""
    n = (4, 6, 7)[seed % 3]
    cluster = Cluster(
        n, seed, ConsensusParameters(window=16, snapshot_batches=8, beside_requests=0, request_timeout_ms=500)
    )
    cluster.jitter_ms = 6
    choose = cluster.random
    other = make_request(99, seed)
    on_executed = cluster.on_executed
    cluster.on_executed = lambda node, effect: on_executed(node, effect) if node.index else None

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        if sender != 0:
            return data
        message = decode_message(data, limit_bytes=LIMIT)
        if choose.random() < 0.1:
            return None
        if choose.random() > 0.3:
            return data
        if isinstance(message, PrePrepare):
            digests = (request_digest(other),)
            return resigned(cluster, msgspec.structs.replace(message, digests=digests, bodies=(other,)))
        if isinstance(message, Prepare | Commit):
            return resigned(cluster, msgspec.structs.replace(message, digest=bytes([to]) * 32))
        if isinstance(message, ViewChange):
            return encode_message(sign(cluster, 0, msgspec.structs.replace(message, prepared=message.prepared[:-1])))
        if isinstance(message, NewView):
            return encode_message(sign(cluster, 0, msgspec.structs.replace(message, proposals=message.proposals[:-1])))
        return data

    cluster.tamper = tamper
    requests = [make_request(account, nonce) for nonce in range(12) for account in range(2)]
    for request in requests:
        cluster.submit(request)
        cluster.run(choose.choice([1, 10, 200]))
    for request in requests:
        cluster.submit(request)

    def answered(request: bytes) -> bool:
        honest = [index for index in cluster.replies.get(request_digest(request), {}) if index]
        return len(honest) >= cluster.nodes[1].replica.f + 1

    cluster.run_until(lambda: all(map(answered, requests)), 120_000)
    assert {index for index, _ in cluster.halts} <= {0}
    assert {each.accused for each in cluster.accusations} <= {0}
    orders = [node.application.executed for node in cluster.nodes[1:]]
    shortest = min(map(len, orders))
    assert all(order[:shortest] == orders[0][:shortest] for order in orders)


def resigned(cluster: Cluster, message: PrePrepare | Prepare | Commit) -> bytes:
    vote = signed_vote(message)
    digest = vote_digest(NETWORK_ID, vote.phase, vote.view, vote.sequence, vote.digest, vote.executed, vote.state)
    return encode_message(msgspec.structs.replace(message, signature=cluster.identities[0].sign(digest)))


# Rules.


def test_patience_doubles_from_view_to_view_and_comes_back_with_work_done() -> None:
    patience = Patience(100)
    assert patience.until(0, waiting=False) is None
    assert patience.until(10, waiting=True) == 110 and patience.until(50, waiting=True) == 110
    ends = []
    for _ in range(4):
        patience.left_view()
        ends.append(patience.until(1_000, waiting=True))
    assert ends == [1_100, 1_200, 1_400, 1_800]
    patience.executed()
    assert patience.until(2_000, waiting=True) == 2_100


def test_nothing_prepared_is_an_empty_plan() -> None:
    assert plan([ViewChange(1, None, (), index, bytes(65)) for index in range(3)]).batches == {}
