"""One set of replicas following another while requests flow."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from pot_lab.consensus.membership import NO_SEAT, Membership, Succession
from pot_lab.consensus.parameters import Parameters
from pot_lab.crypto.identity import Identity
from tests.consensus.cluster import NETWORK_ID, Cluster, ask_for_seats, make_request

SMALL = Parameters(window=8, snapshot_batches=6, in_flight=2)


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
    start = Membership(NETWORK_ID, cluster.addresses, NO_SEAT)
    chain = Succession(start)
    assert not chain.follow(second)  # a link is missing
    others = tuple(reversed(first.seats))
    assert not chain.follow(msgspec.structs.replace(first, seats=others))
    too_few = msgspec.structs.replace(first.proof, attestations=first.proof.attestations[:2])
    assert not chain.follow(msgspec.structs.replace(first, proof=too_few))
    assert not chain.follow(msgspec.structs.replace(first, body=bytes(32)))
    assert chain.follow(first) and chain.follow(second) and chain.follow(first)
    assert chain.latest.membership.addresses == cluster.nodes[0].replica.membership.addresses
