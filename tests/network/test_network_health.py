"""What a network's state means, and what to do about it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pot_lab.network.client.calls import AggregatorStatus
from pot_lab.network.founding.checks import CheckResult
from pot_lab.network.health import MUCH_LAG, aggregators_health, settlement_health, store_health
from pot_lab.network.loopback import free_ports
from pot_lab.protocol.settlement import Settlement
from pot_lab.protocol.views import EpochView


def status(index: int, **changes: Any) -> AggregatorStatus:
    usual: dict[str, Any] = {"index": index, "reachable": True, "view": 3, "primary": 3, "height": 9, "state": b"a"}
    return AggregatorStatus(**{**usual, **changes})


def away(index: int) -> AggregatorStatus:
    return AggregatorStatus(index=index, reachable=False, reason=f"nothing answers at host-{index}:7001")


def said(found: list[CheckResult], level: str) -> list[str]:
    return [each.text for each in found if each.level == level]


def test_four_that_agree_are_healthy() -> None:
    found = aggregators_health([status(index) for index in range(4)])
    assert [each.level for each in found] == ["ok"] * 4
    assert found[3].text == "aggregator 3: primary, view 3, height 9"


def test_one_that_is_away_is_named_and_the_network_goes_on() -> None:
    found = aggregators_health([*(status(index) for index in range(3)), away(3)])
    assert said(found, "wrong") == ["aggregator 3: nothing answers at host-3:7001"]
    assert said(found, "warning") == ["the network decides; no other may stop"]
    found = aggregators_health([*(status(index) for index in range(6)), away(6)])
    assert said(found, "warning") == ["the network decides; 1 more may stop"]


def test_below_the_quorum_nothing_is_decided() -> None:
    found = aggregators_health([status(0), status(1), away(2), away(3)])
    assert "nothing is decided: 2 of 4 aggregators answer, 3 must" in said(found, "wrong")
    assert all(each.remedy for each in found if each.level != "ok")


def test_one_that_is_behind_or_has_another_state_is_told_apart() -> None:
    behind = status(2, height=9 - MUCH_LAG - 1, lag=MUCH_LAG + 1, state=b"old")
    assert said(aggregators_health([status(0), status(1), behind, status(3)]), "warning") == [
        f"aggregator 2 is {MUCH_LAG + 1} batches behind"
    ]
    found = aggregators_health([status(0), status(1), status(2, state=b"other"), status(3)])
    assert said(found, "wrong") == ["aggregator 2 has another state than the others"]


def test_a_change_of_the_primary_is_told() -> None:
    found = aggregators_health([status(0), status(1), status(2), status(3, view=4)])
    assert said(found, "warning") == ["the aggregators are changing the primary"]


def epoch(round_: int, signatures: int, settlement: bool = True) -> EpochView:
    waiting = Settlement(
        epoch=5, round=round_, signer_set_id=1, root=bytes(32), cumulative_total=1, orders_hash=bytes(32),
        ledger_hash=bytes(32),
    )  # fmt: skip
    return EpochView(
        settlement=waiting if settlement else None,
        order_ids=(),
        signers=(),
        signatures=(b"",) * signatures,
        quorum=3,
        confirmed_epoch=4,
        confirmed_root=bytes(32),
        confirmed_total_grains=0,
        slashes=(),
    )


def test_a_settlement_that_is_tried_again_and_again_is_told_with_what_to_do() -> None:
    assert [each.level for each in settlement_health(epoch(0, 0, settlement=False))] == ["ok"]
    assert [each.level for each in settlement_health(epoch(1, 1))] == ["ok"]
    (unsigned,), (unsent,) = settlement_health(epoch(4, 2)), settlement_health(epoch(4, 3))
    assert unsigned.level == unsent.level == "warning" and "tried 4 times" in unsigned.text
    assert "pot-lab seat" in unsigned.remedy and "epoch_refused" in unsent.remedy


@pytest.mark.parametrize("url", ["", "file:///blobs", "s3://bucket/key"])
def test_stores_that_no_port_tells_of_are_not_asked(url: str) -> None:
    assert said(store_health(url), "warning") == []


def test_a_store_that_does_not_answer_is_a_warning() -> None:
    (port,) = free_ports(1)
    assert "does not answer" in said(store_health(f"http://127.0.0.1:{port}"), "warning")[0]
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert said(store_health(f"http://127.0.0.1:{server.getsockname()[1]}/x"), "warning") == []
