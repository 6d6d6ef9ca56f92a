"""One set of replicas following another while requests flow."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from pot_lab.agreement.votes import PRE_PREPARE, vote_digest
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership, Succession
from pot_lab.consensus.messages import (
    Checkpoint,
    Commit,
    Forward,
    Message,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
    batch_digest,
    decode_message,
    encode_message,
    request_digest,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.proof import BadProof, assemble, verify
from pot_lab.consensus.steps import Broadcast, Received, Send
from pot_lab.crypto.identity import Identity
from tests.consensus.cluster import NETWORK_ID, Cluster, ask_for_seats, make_request

SMALL = ConsensusParameters(window=8, snapshot_batches=6, in_flight=2, beside_requests=0)


def small_cluster(n: int = 4, seed: int = 0) -> Cluster:
    cluster = Cluster(n, seed=seed, parameters=SMALL)
    cluster.run(100)
    return cluster


def change_seats(cluster: Cluster, identities: Sequence[Identity], nonce: int = 0) -> None:
    """Order another set, and let it take over wherever it can."""
    request = ask_for_seats(9, nonce, identities)
    cluster.submit(request)
    cluster.run_until(lambda: cluster.answered(request))


def eras(cluster: Cluster, hosts: Sequence[int]) -> list[int]:
    return [cluster.nodes[host].replica.era for host in hosts]


def work(cluster: Cluster, account: int, count: int, hosts: Sequence[int]) -> None:
    """Requests that must all be answered and run everywhere."""
    requests = [make_request(account, nonce) for nonce in range(count)]
    for request in requests:
        cluster.submit(request, list(hosts), spread=True)
        cluster.run(20)
    cluster.run_until(lambda: all(map(cluster.answered, requests)))
    cluster.run_until(lambda: len({cluster.nodes[host].replica.executed for host in hosts}) == 1)
    for host in hosts:
        executed = cluster.nodes[host].application.executed
        assert all(executed.count(request) == 1 for request in requests)


def test_a_fifth_replica_joins_and_counts() -> None:
    cluster = small_cluster()
    work(cluster, 1, 5, range(4))
    joiner = cluster.add_host()
    assert not joiner.replica.has_seat
    change_seats(cluster, cluster.identities[:5])
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    assert len(set(eras(cluster, range(5)))) == 1
    assert (joiner.replica.index, joiner.replica.n, joiner.replica.q) == (4, 5, 4)
    cluster.nodes[0].crash()  # now no quorum without the fifth
    work(cluster, 2, 5, [1, 2, 3, 4])
    assert not cluster.halts


def test_a_member_leaves_and_is_not_missed() -> None:
    cluster = small_cluster(5)
    change_seats(cluster, cluster.identities[1:])
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    assert not cluster.nodes[0].replica.has_seat
    cluster.nodes[0].crash()
    assert [cluster.nodes[host].replica.index for host in (1, 2, 3, 4)] == [0, 1, 2, 3]
    work(cluster, 1, 5, [1, 2, 3, 4])
    cluster.nodes[1].crash()  # the primary, and f of four
    work(cluster, 2, 3, [2, 3, 4])


def test_a_member_changes_its_key_without_a_pause() -> None:
    cluster = small_cluster()
    cluster.nodes[2].crash()
    fresh = cluster.give_key(2, b"fresh")
    cluster.nodes[2].start()
    cluster.run(500)
    change_seats(cluster, [*cluster.identities[:2], fresh, cluster.identities[3]])
    cluster.run_until(lambda: all(eras(cluster, range(4))))
    assert cluster.nodes[2].replica.index == 2
    cluster.nodes[3].crash()
    work(cluster, 1, 5, [0, 1, 2])


def test_an_idle_network_comes_to_the_change_by_itself_within_a_window_and_a_checkpoint() -> None:
    cluster = small_cluster()
    cluster.add_host()
    change_seats(cluster, cluster.identities[:5])
    asked_at = cluster.nodes[0].replica.executed
    cluster.run(3_000)
    era = cluster.nodes[0].replica.era
    assert asked_at + SMALL.window - 1 <= era <= asked_at + SMALL.window + SMALL.checkpoint_batches
    heights = cluster.heights()
    cluster.run(5_000)
    assert cluster.heights() == heights  # and then it is quiet again


def test_the_sets_in_force_are_those_that_the_batches_say() -> None:
    cluster = small_cluster()
    cluster.add_host()
    change_seats(cluster, cluster.identities[:5])
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    work(cluster, 1, 2, range(5))
    era = cluster.nodes[0].replica.era
    for node in cluster.nodes:
        assert sorted(set(node.application.eras)) in ([0, era], [era])


@pytest.mark.parametrize("victim", range(5))
@pytest.mark.parametrize("moment_ms", range(0, 120, 17))
def test_any_replica_may_be_killed_at_any_moment_of_a_change(victim: int, moment_ms: int) -> None:
    cluster = small_cluster(seed=moment_ms)
    cluster.add_host()
    cluster.submit(ask_for_seats(9, 0, cluster.identities[:5]), range(4), spread=True)
    for nonce in range(4):
        cluster.submit(make_request(1, nonce), range(4), spread=True)
    cluster.run(moment_ms)
    cluster.nodes[victim].crash(keep_unsynced=moment_ms % 3)
    cluster.run(4_000)
    cluster.nodes[victim].start()
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    work(cluster, 2, 3, range(5))
    assert cluster.nodes[0].application.executed.count(make_request(1, 3)) == 1


@pytest.mark.parametrize("moment_ms", range(0, 100, 7))
def test_a_power_cut_in_the_middle_of_a_change_loses_nothing(moment_ms: int) -> None:
    cluster = small_cluster(seed=moment_ms)
    cluster.add_host()
    cluster.submit(ask_for_seats(9, 0, cluster.identities[:5]), range(4), spread=True)
    cluster.run(moment_ms)
    for node in cluster.nodes:
        node.crash()
    for node in cluster.nodes:
        node.start()
    cluster.submit(ask_for_seats(9, 0, cluster.identities[:5]), range(4), spread=True)
    cluster.run_until(lambda: all(eras(cluster, range(5))), 120_000)
    work(cluster, 1, 3, range(5))


def test_one_that_slept_through_several_changes_follows_them_all() -> None:
    cluster = small_cluster()
    sleeper = cluster.nodes[3]
    sleeper.crash()
    for nonce in range(3):
        cluster.add_host()
        change_seats(cluster, cluster.identities[: 5 + nonce], nonce)
        hosts = [0, 1, 2, *range(4, 5 + nonce)]
        cluster.run_until(lambda hosts=hosts, nonce=nonce: len(set(eras(cluster, hosts))) == 1)
        cluster.run_until(lambda hosts=hosts, nonce=nonce: cluster.nodes[0].replica.n == 5 + nonce)
    sleeper.start()
    cluster.run_until(lambda: sleeper.replica.era == cluster.nodes[0].replica.era)
    assert len(sleeper.replica.succession.handovers) == 3
    work(cluster, 1, 3, range(7))


def test_what_a_replica_knows_of_the_sets_survives_its_restarts() -> None:
    cluster = small_cluster()
    for nonce in range(2):
        cluster.add_host()
        change_seats(cluster, cluster.identities[: 5 + nonce], nonce)
        cluster.run_until(lambda nonce=nonce: all(node.replica.n == 5 + nonce for node in cluster.nodes))
        work(cluster, 1 + nonce, 9, range(5 + nonce))  # past another snapshot
    for node in cluster.nodes:
        before = node.replica.membership, node.replica.succession.handovers
        node.crash()
        node.start()
        assert (node.replica.membership, node.replica.succession.handovers) == before
    newcomer = cluster.nodes[5]
    newcomer.crash()
    newcomer.disk, newcomer.unsynced, newcomer.snapshots = [], [], {}
    newcomer.start()
    cluster.run_until(lambda: newcomer.replica.era == cluster.nodes[0].replica.era)


def test_a_lost_checkpoint_delays_the_change_and_nothing_else() -> None:
    cluster = small_cluster()
    cluster.add_host()
    cluster.loss = 0.3
    cluster.submit(ask_for_seats(9, 0, cluster.identities[:5]), range(4), spread=True)
    cluster.run(5_000)
    cluster.loss = 0.0
    cluster.run_until(lambda: all(eras(cluster, range(5))), 120_000)
    work(cluster, 1, 3, range(5))


def test_a_dead_primary_does_not_keep_the_old_set_in_force() -> None:
    cluster = small_cluster()
    cluster.add_host()
    change_seats(cluster, cluster.identities[:5])
    cluster.nodes[0].crash()
    rest = [1, 2, 3, 4]
    cluster.run_until(lambda: all(eras(cluster, rest)), 120_000)
    work(cluster, 1, 3, rest)


def test_a_chain_of_sets_is_followed_only_by_what_the_set_before_signed() -> None:
    cluster = small_cluster()
    for nonce in range(2):
        cluster.add_host()
        change_seats(cluster, cluster.identities[: 5 + nonce], nonce)
        cluster.run_until(lambda nonce=nonce: all(node.replica.n == 5 + nonce for node in cluster.nodes))
    first, second = cluster.nodes[0].replica.succession.handovers
    start = Membership(network_id=NETWORK_ID, addresses=cluster.addresses, index=NO_SEAT)
    chain = Succession(start)
    assert not chain.follow(second)  # a link is missing
    others = tuple(reversed(first.seats))
    assert not chain.follow(msgspec.structs.replace(first, seats=others))
    too_few = msgspec.structs.replace(first.proof, attestations=first.proof.attestations[:2])
    assert not chain.follow(msgspec.structs.replace(first, proof=too_few))
    assert not chain.follow(msgspec.structs.replace(first, body=bytes(32)))
    assert chain.follow(first) and chain.follow(second) and chain.follow(first)
    assert chain.latest.membership.addresses == cluster.nodes[0].replica.membership.addresses


@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 10, 13])
def test_every_size_that_a_set_grows_to_works_without_f_of_it_and_not_without_a_quorum(n: int) -> None:
    cluster = small_cluster(n)
    cluster.add_host()
    change_seats(cluster, cluster.identities)
    everybody = range(n + 1)
    cluster.run_until(lambda: all(eras(cluster, everybody)))
    replica = cluster.nodes[n].replica
    assert (replica.n, replica.q) == (n + 1, -(-(n + 1 + replica.f + 1) // 2))
    for host in range(replica.f):
        cluster.nodes[host].crash()
    work(cluster, 1, 2, everybody[replica.f :])
    gone = replica.n - replica.q + 1
    for host in range(replica.f, gone):
        cluster.nodes[host].crash()
    blocked = make_request(2, 0)
    cluster.submit(blocked, list(everybody[gone:]), spread=True)
    cluster.run(20_000)
    assert not cluster.answered(blocked)


@pytest.mark.parametrize("seed", range(8))
def test_sets_come_and_go_amid_loss_and_crashes_and_nothing_answered_is_lost(seed: int) -> None:
    cluster = small_cluster(5, seed=seed)
    random = cluster.random
    seats, requests = list(range(5)), []
    cluster.jitter_ms, cluster.loss, cluster.duplication = 20, 0.05, 0.05
    for step in range(5):
        if len(seats) < 7 and (len(seats) == 4 or random.random() < 0.6):
            seats.append(cluster.add_host().index)
        else:
            seats.remove(random.choice(seats))
        cluster.submit(ask_for_seats(9, step, [cluster.identities[host] for host in seats]))
        for nonce in range(4):
            requests.append(make_request(step + 1, nonce))
            cluster.submit(requests[-1])
            cluster.run(random.randint(0, 60))
        victim = cluster.nodes[random.choice(seats)]
        victim.crash(keep_unsynced=random.randint(0, 2))
        cluster.run(random.randint(0, 1_500))
        victim.start()
        wanted = tuple(cluster.identities[host].address for host in seats)
        cluster.run_until(
            lambda wanted=wanted, seats=seats: all(
                cluster.nodes[host].replica.membership.addresses == wanted for host in seats
            ),
            120_000,
        )
    cluster.loss = 0.0
    answered = [request for request in requests if cluster.answered(request)]
    assert len(answered) > len(requests) // 2
    cluster.run_until(lambda: len({cluster.nodes[host].replica.executed for host in seats}) == 1, 60_000)
    for host in seats:
        executed = cluster.nodes[host].application.executed
        assert all(executed.count(request) == 1 for request in answered)
    assert not cluster.halts


def ending(cluster: Cluster) -> int:
    """Order a change, and stop everything one batch before the old set's end; returns that end."""
    cluster.add_host()
    change_seats(cluster, cluster.identities[:5])
    end = cluster.nodes[0].replica._ends
    cluster.run_until(lambda: cluster.nodes[1].replica.executed >= end - 1)
    return end


def test_what_a_primary_proposes_above_the_end_gets_no_vote() -> None:
    cluster = small_cluster()

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decoded(data)
        last = isinstance(message, Checkpoint) and message.sequence == cluster.nodes[sender].replica._ends
        return None if last else data

    cluster.tamper = tamper
    end = ending(cluster)
    node, primary = cluster.nodes[1], cluster.identities[0]
    cluster.run_until(lambda: node.replica.executed == end)
    digest = batch_digest(end + 1, cluster.now_ms, ())
    signed = vote_digest(NETWORK_ID, PRE_PREPARE, 0, end + 1, digest, end, node.replica.state)
    beyond = PrePrepare(0, end + 1, cluster.now_ms, (), (), end, node.replica.state, primary.sign(signed))
    sent = len(node.effects)
    cluster.deliver(0, 1, encode_message(beyond))
    cluster.run(300)
    votes = [effect for effect in node.effects[sent:] if isinstance(effect, Broadcast)]
    assert not any(isinstance(effect.message, Prepare | Commit) for effect in votes)
    cluster.tamper = lambda sender, to, data: data
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    assert node.replica.counters["suspected_slow"] == 0  # waiting for a checkpoint is nobody's fault
    work(cluster, 1, 3, range(5))


def test_leaving_a_view_in_two_eras_is_no_lie_and_neither_counts_in_the_other() -> None:
    cluster = small_cluster()
    said: list[tuple[int, bytes]] = []

    def tamper(sender: int, to: int, data: bytes) -> bytes:
        if isinstance(decoded(data), ViewChange):
            said.append((sender, data))
        return data

    cluster.tamper = tamper
    cluster.nodes[0].crash()
    cluster.submit(make_request(1, 0), [1, 2, 3], spread=True)
    cluster.run(4_000)
    cluster.nodes[0].start()
    assert {decoded(data).view for _, data in said} == {1}
    ending(cluster)
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    assert {node.replica.view for node in cluster.nodes} == {0}
    for sender, data in said:
        cluster.deliver(sender, 4, data)
    assert cluster.nodes[4].replica._changes.at_least(1) == 0
    assert cluster.nodes[4].replica.counters["dropped_other_era"] == len(said)
    cluster.nodes[0].crash()
    cluster.submit(make_request(1, 1), [1, 2, 3, 4], spread=True)
    cluster.run_until(lambda: cluster.answered(make_request(1, 1)))
    assert any(decoded(data).era and decoded(data).view == 1 for _, data in said)
    assert not cluster.accusations


def test_a_proof_names_its_era_and_is_checked_against_that_set() -> None:
    cluster = small_cluster()
    cluster.add_host()
    before = make_request(1, 0)
    cluster.submit(before)
    cluster.run(200)
    change_seats(cluster, cluster.identities[:5])
    cluster.run_until(lambda: all(eras(cluster, range(5))))
    after = make_request(1, 1)
    cluster.submit(after)
    cluster.run(500)
    chain = Succession(Membership(network_id=NETWORK_ID, addresses=cluster.addresses, index=NO_SEAT))
    assert all(map(chain.follow, cluster.nodes[0].replica.succession.handovers))
    era, addresses = chain.latest.membership.since, chain.latest.membership.addresses
    parts = [node.replica.prove(request_digest(after)) for node in cluster.nodes]
    proof = assemble(parts, NETWORK_ID, addresses, era=era)
    assert proof is not None
    assert verify(proof, NETWORK_ID, addresses, after, era=era)
    with pytest.raises(BadProof, match="another era"):
        verify(proof, NETWORK_ID, cluster.addresses, after)
    with pytest.raises(BadProof):
        verify(msgspec.structs.replace(proof, era=0), NETWORK_ID, cluster.addresses, after)
    older = [node.replica.prove(request_digest(before)) for node in cluster.nodes[:4]]
    proof = assemble(older, NETWORK_ID, addresses, era=era)
    assert proof is not None and verify(proof, NETWORK_ID, addresses, before, era=era)


def decoded(data: bytes) -> Message:
    return decode_message(data, limit_bytes=1 << 24)


def test_a_peer_without_a_seat_may_fetch_and_nothing_else() -> None:
    cluster = small_cluster()
    work(cluster, 1, 3, range(4))
    stranger, replica = cluster.add_host(), cluster.nodes[0].replica
    state, before = replica.state, replica.executed
    for message in (
        Prepare(0, before + 1, bytes(32), before, state, 2, bytes(65)),
        Commit(0, before + 1, bytes(32), before, state, 2, bytes(65)),
        Checkpoint(before, state, bytes(32), 2, bytes(65)),
        Forward((make_request(7, 7),)),
    ):
        cluster.deliver(stranger.index, 0, encode_message(message))
    assert replica.counters["dropped_outsider"] == 4 and replica.pool.get(request_digest(make_request(7, 7))) is None
    for index in (1, 2, 3):  # claims of another state stop nobody when strangers make them
        cluster.nodes[0].step(Received(OUTSIDERS + index, Status(0, True, before, bytes(32), 0, False)))
    assert not cluster.halts
    cluster.run_until(lambda: stranger.replica.executed == before)
    cluster.run(2_000)
    said = [each.message for each in stranger.effects if isinstance(each, Send | Broadcast)]
    assert not any(isinstance(message, Prepare | Commit | Checkpoint) for message in said)
