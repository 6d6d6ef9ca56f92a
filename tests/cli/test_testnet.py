"""`pot-lab testnet status`: how an aggregator is described; the commands run real processes in tests/scenarios."""

from __future__ import annotations

import pytest

from pot_lab.cli.testnet import aggregator_state
from pot_lab.network.client.calls import AggregatorStatus


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (AggregatorStatus(index=1, reachable=True, view=1, primary=1, height=9), "primary, view 1, height 9, lag 0"),
        (
            AggregatorStatus(index=2, reachable=True, view=1, primary=1, height=7, lag=2),
            "backup, view 1, height 7, lag 2",
        ),
        (AggregatorStatus(index=0, reachable=False, reason="silent"), "not reachable"),
    ],
)
def test_an_aggregators_state(status: AggregatorStatus, text: str) -> None:
    assert aggregator_state(status) == text
