"""A replica's log gives back its records and, to others, the batches it decided."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pot_lab.consensus.membership import Membership
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.replica_state import BadLog
from pot_lab.consensus.steps import Compact, KeepSnapshot, Persist, Recovered, Restored
from pot_lab.network.aggregator.replica_log import ReplicaLog
from pot_lab.network.errors import LogCorrupt
from tests.consensus.cluster import NETWORK_ID, Cluster, Node, Register, make_request

OWNER = b"o" * 32
SMALL = ConsensusParameters(window=16, snapshot_batches=12)


def history_of(node: Node) -> list[Persist]:
    return [effect for effect in node.effects if isinstance(effect, Persist)]


def replicas() -> tuple[Node, Node]:
    """One that was there all the time, and one that fetched part of it."""
    cluster = Cluster(4)
    cluster.run(100)
    for nonce in range(150):
        if nonce == 20:
            cluster.nodes[3].crash(keep_unsynced=99)
        if nonce == 120:
            cluster.nodes[3].start()
        cluster.submit(make_request(1, nonce, bytes(500)))
        cluster.run(20)
    cluster.run(2_000)
    assert cluster.heights() == [150] * 4
    return cluster.nodes[1], cluster.nodes[3]


def test_records_and_decisions_survive_the_file(tmp_path: Path) -> None:
    for number, node in enumerate(replicas()):
        effects = history_of(node)
        log = ReplicaLog(tmp_path / f"log{number}", OWNER, "fsync")
        for effect in effects:
            log.append(effect.record)
        log.sync()
        expected = log.decisions(1, 150, 1 << 30)
        log.close()

        again = ReplicaLog(tmp_path / f"log{number}", OWNER, "fsync")
        chunks = list(again.recover())
        assert [record for chunk in chunks for record in chunk] == [effect.record for effect in effects]
        assert max(map(len, chunks)) <= 64
        assert again.decisions(1, 150, 1 << 30) == expected
        assert [batch.sequence for batch in expected] == list(range(1, 151))
        assert [batch.requests for batch in expected] == [(make_request(1, n, bytes(500)),) for n in range(150)]
        assert all(len(batch.commits) >= 3 for batch in expected)
        assert again.decisions(100, 400, 1 << 30) == expected[99:]
        assert 2 <= len(again.decisions(1, 150, 5_000)) < 10
        assert len(again.decisions(1, 150, 1)) == 1
        assert again.decisions(151, 160, 1 << 30) == []
        again.close()


def test_decisions_out_of_order_are_refused(tmp_path: Path) -> None:
    log = ReplicaLog(tmp_path / "log", OWNER, "flush")
    records = [effect.record for effect in history_of(replicas()[0])]
    later = [record for record in records if type(record).__name__ == "Decided"][1]
    with pytest.raises(BadLog):
        log.append(later)


def write_out(directory: Path, effects: list[object], *, stop_at: int | None = None) -> ReplicaLog:
    """Carry a replica's effects out as an aggregator does; with `stop_at`, die in the middle of that compaction."""
    directory.mkdir()
    log = ReplicaLog(directory / "log", OWNER, "fsync")
    compactions = 0
    for effect in effects:
        if isinstance(effect, Persist):
            log.append(effect.record)
        elif isinstance(effect, KeepSnapshot):
            log.keep_snapshot(effect.sequence, effect.snapshot)
        elif isinstance(effect, Compact):
            if compactions == stop_at:
                log.sync()
                return log
            log.compact(effect.proof)
            compactions += 1
    log.sync()
    return log


def come_back(cluster: Cluster, directory: Path) -> tuple[Replica, ReplicaLog]:
    log = ReplicaLog(directory / "log", OWNER, "fsync")
    replica = Replica(
        Membership(network_id=NETWORK_ID, addresses=cluster.addresses, index=1),
        cluster.identities[1],
        Register(),
        SMALL,
    )
    beginning = log.beginning()
    if beginning is not None:
        replica.step(Restored(*beginning))
    for records in log.recover():
        for effect in replica.step(Recovered(records, final=False)):
            if isinstance(effect, KeepSnapshot):
                log.keep_snapshot(effect.sequence, effect.snapshot)
    for effect in replica.step(Recovered(())):
        if isinstance(effect, Compact):
            log.compact(effect.proof)
    return replica, log


def worked() -> Cluster:
    cluster = Cluster(4, parameters=SMALL)
    for nonce in range(60):
        cluster.submit(make_request(1, nonce, bytes(500)))
        cluster.run(20)
    cluster.run(500)
    return cluster


def test_a_compacted_log_brings_the_replica_back_and_still_serves_what_it_holds(tmp_path: Path) -> None:
    cluster = worked()
    node = cluster.nodes[1]
    write_out(tmp_path / "data", node.effects).close()
    assert (tmp_path / "data" / "log").stat().st_size < 60 * 1_000
    replica, log = come_back(cluster, tmp_path / "data")
    assert (replica.executed, replica.state, replica.low) == (60, node.replica.state, node.replica.low)
    floor = min(int(path.name.split("-")[1]) for path in (tmp_path / "data").glob("snapshot-*"))
    assert floor >= 40
    assert [batch.sequence for batch in log.decisions(1, 100, 1 << 30)] == list(range(floor + 1, 61))
    log.close()


@pytest.mark.parametrize("stage", ["before", "half a new log", "renamed, old snapshot still there"])
def test_a_power_cut_in_the_middle_of_a_compaction_loses_nothing(tmp_path: Path, stage: str) -> None:
    cluster = worked()
    effects = cluster.nodes[1].effects
    directory = tmp_path / "data"
    last = sum(isinstance(effect, Compact) for effect in effects) - 1
    log = write_out(directory, effects, stop_at=last)
    old = {path.name: path.read_bytes() for path in directory.glob("snapshot-*")}
    if stage == "half a new log":
        (directory / "log.new").write_bytes((directory / "log").read_bytes()[:700])
    elif stage != "before":
        log.compact([effect for effect in effects if isinstance(effect, Compact)][last].proof)
        for name, data in old.items():
            (directory / name).write_bytes(data)
    log.close()
    replica, again = come_back(cluster, directory)
    assert replica.executed >= 40 and replica.state == cluster.nodes[1].replica._states.get(replica.executed)
    assert len(list(directory.glob("snapshot-*"))) <= 2
    again.close()
    replica, again = come_back(cluster, directory)
    assert replica.executed >= 40
    again.close()


def test_a_log_whose_snapshot_is_gone_is_refused(tmp_path: Path) -> None:
    write_out(tmp_path / "data", worked().nodes[1].effects).close()
    for path in (tmp_path / "data").glob("snapshot-*"):
        path.unlink()
    log = ReplicaLog(tmp_path / "data" / "log", OWNER, "fsync")
    with pytest.raises(LogCorrupt, match="snapshot"):
        log.beginning()
    log.close()


def test_a_copy_that_somebody_made_of_a_snapshot_is_left_alone(tmp_path: Path) -> None:
    write_out(tmp_path / "data", worked().nodes[1].effects).close()
    copy = tmp_path / "data" / "snapshot-48.old"
    copy.write_bytes(b"a copy")
    log = ReplicaLog(tmp_path / "data" / "log", OWNER, "fsync")
    assert log.beginning() is not None and copy.exists()
    log.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """As when strangers' connections hold them all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in taken:
            os.close(each)


def test_without_descriptors_a_log_stays_whole_and_goes_on(tmp_path: Path) -> None:
    effects = worked().nodes[1].effects
    compactions = [effect.proof for effect in effects if isinstance(effect, Compact)]
    snapshots = {effect.sequence: effect.snapshot for effect in effects if isinstance(effect, KeepSnapshot)}
    log = write_out(tmp_path / "data", effects, stop_at=len(compactions) - 1)
    before = list(log.file.records())
    last = compactions[-1].sequence
    with no_descriptors_left():
        assert log.compact(compactions[-1]) is False
        assert log.keep_snapshot(last, snapshots[last]) is False
    assert log.compact(compactions[-1]) is False  # its snapshot was not kept
    assert list(log.file.records()) == before
    assert log.keep_snapshot(last, snapshots[last]) and log.compact(compactions[-1])
    assert log.beginning() == (compactions[-1], snapshots[last])
    log.close()


def test_without_descriptors_a_log_that_was_stepped_over_cannot_stay(tmp_path: Path) -> None:
    effects = worked().nodes[1].effects
    proof = [effect.proof for effect in effects if isinstance(effect, Compact)][-1]
    log = ReplicaLog(tmp_path / "log", OWNER, "fsync")
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        log.compact(proof)
    log.close()
