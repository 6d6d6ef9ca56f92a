"""Table 5 by the simulator: what narrow and far links cost, under both models."""

from __future__ import annotations

import pytest

from pot_lab.simulator.tables import MBPS, PAPER_S, RECORD_BYTES, cell, table_5

ONE_WAY_S = 0.3


def test_one_transaction_takes_five_ways_and_no_more() -> None:
    got = cell(1, 4, MBPS["fast"], "connection")
    assert 5 * ONE_WAY_S <= got.answered_s <= 5 * ONE_WAY_S * 1.05
    assert got.synchronised_s == pytest.approx(4 * ONE_WAY_S, rel=0.05)


def test_a_narrow_link_takes_longer_and_a_shared_one_longest() -> None:
    fast, slow = cell(30, 4, MBPS["fast"], "connection"), cell(30, 4, MBPS["slow"], "connection")
    shared = cell(30, 4, MBPS["slow"], "uplink")
    assert fast.answered_s < slow.answered_s < shared.answered_s
    assert fast.sent_bytes > 30 * 4 * min(RECORD_BYTES)


def test_the_table_stands_beside_the_papers() -> None:
    assert cell(100, 10, MBPS["slow"], "connection").answered_s < PAPER_S[100, 10][0]
    table = table_5([(9, 4)])
    assert [row["speed"] for row in table["rows"]] == ["slow", "medium", "fast"]
    for row in table["rows"]:
        assert 0 < row["connection"]["synchronised_s"] < row["connection"]["answered_s"]
        assert row["connection"]["answered_s"] <= row["uplink"]["answered_s"]
        assert row["paper_s"] is None
