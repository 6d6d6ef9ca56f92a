"""Aggregators stopped and started one by one under load, as for an upgrade: nothing is lost and nobody waits for long.

The rule is that of operations.md, "Upgrade": the next one is stopped when the last one has caught up.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.ledger_life import Crowd
from tests.chaos.network import PATIENCE_S, Bookkeeper, ChaosNetwork, steady_load


def upgrade_all(network: ChaosNetwork, book: Bookkeeper, pause_s: float = 0.0) -> None:
    """Stop each aggregator as a service manager does, start it again, and wait until it has caught up."""
    for index in sorted(network.all):
        assert network.stop(index) == 0, network.stderr(index)
        time.sleep(pause_s)
        network.start(index)
        network.settle(book)


def test_all_are_replaced_one_by_one_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    with ChaosNetwork(tmp_path, snapshot_batches=64) as network:
        network.stepped_over = network.all  # whoever was away for long is brought back by a snapshot
        with steady_load(network) as books:
            network.settle(books[0])
            upgrade_all(network, books[0])
        assert network.verdict().acknowledged > 20


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("n", [4, 7])
def test_rounds_of_upgrades_with_pauses_lose_nothing(tmp_path: Path, n: int) -> None:
    with ChaosNetwork(tmp_path, n, snapshot_batches=256) as network:
        network.stepped_over = network.all
        with steady_load(network) as books:
            for pause_s in (0.0, 2.0, 10.0):
                network.settle(books[0])
                upgrade_all(network, books[0], pause_s)
        assert network.verdict().acknowledged > 500


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_money_stays_whole_while_all_are_upgraded(tmp_path: Path) -> None:
    """Orders, stakes and settlements on the real ledger go on meanwhile; every copy is counted to the grain."""
    with ChaosNetwork(tmp_path, ledger=True) as network:
        assert network.cast is not None
        book = network.bookkeeper("crowd")
        with Crowd(network.cast, network.chain, book, orders=1 << 30, patience_s=PATIENCE_S):
            time.sleep(10)
            for _ in range(2):
                upgrade_all(network, book, pause_s=2.0)
        assert network.verdict().acknowledged > 50
        assert network.ledger.state.confirmed.epoch > 0
