"""A replica's log gives back its records and, to others, the batches it decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.consensus.replica import BadLog
from pot_lab.consensus.steps import Persist
from pot_lab.network.replica_log import ReplicaLog
from tests.consensus.cluster import Cluster, Node, make_request

OWNER = b"o" * 32


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
            log.append(effect.record, urgent=effect.urgent)
        log.flush()
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
        log.append(later, urgent=False)
