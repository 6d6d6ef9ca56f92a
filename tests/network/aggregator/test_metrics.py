"""Metrics add up what the parts counted, and know which peers were heard from lately."""

from __future__ import annotations

from pot_lab.consensus.membership import Membership
from pot_lab.consensus.replica import Replica
from pot_lab.network.aggregator.metrics import Metrics, PeerActivity
from tests.network.toy import Toy
from tests.protocol.world import key


def test_peers_are_heard_from_for_ten_seconds_and_longer_in_large_sets() -> None:
    peers = PeerActivity()
    peers.note(1, 1_000)
    peers.note(2, 5_000)
    assert peers.count(11_000, 4) == 2
    assert peers.count(11_001, 4) == 1
    assert [peers.count(15_001, n) for n in (1, 4, 16, 31, 32, 47)] == [0, 0, 0, 0, 2, 2]
    assert [peers.count(25_000, n) for n in (32, 47, 48)] == [1, 1, 2]
    peers.note(1, 15_001)
    assert peers.count(15_001, 4) == 1
    peers.clear()
    assert peers.count(0, 4) == 0


def test_counters_of_parts_are_added_by_name_and_shown_as_text() -> None:
    identities = [key(f"replica {index}") for index in range(4)]
    membership = Membership(network_id=bytes(32), addresses=tuple(each.address for each in identities), index=0)
    replica = Replica(membership, identities[0], Toy())
    now_ms = [5_000]
    metrics = Metrics(replica, lambda: now_ms[0])
    metrics.add(lambda: {"a": 1, "b": 2})
    metrics.add(lambda: {"b": 3})
    now_ms[0] = 5_700
    totals = metrics.totals()
    assert (totals["a"], totals["b"], totals["uptime_ms"]) == (1, 5, 700)
    assert totals["requests_pending"] == 0 and totals["batches_open"] == 0 and totals["resident_bytes"] > 1 << 20
    lines = metrics.text().splitlines()
    assert lines[:3] == ["pot_lab_view 0", "pot_lab_view_changing 0", "pot_lab_executed_sequence 0"]
    assert "pot_lab_b 5" in lines and metrics.text().endswith("\n")
