"""Aggregators killed, stopped and cut off from power at any moment, and the history judged afterwards."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from random import Random

import pytest

from tests.chaos.ledger_life import Crowd
from tests.chaos.network import PATIENCE_S, ChaosNetwork, steady_load


def kill_in_turn(network: ChaosNetwork, seconds: float, random: Random) -> int:
    """Kill any f, wait a moment, start them again, wait a moment, and so on; returns how many were killed."""
    kills = 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        victims = random.sample(sorted(network.all), random.randint(1, network.config.f))
        for index in victims:
            network.kill(index)
            kills += 1
        time.sleep(random.uniform(0, 3))
        for index in victims:
            network.start(index)
        time.sleep(random.uniform(0, 3))
    return kills


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("n", "seed"), [(4, 2), (7, 3)])
def test_any_f_killed_in_turn_for_minutes(tmp_path: Path, n: int, seed: int) -> None:
    with ChaosNetwork(tmp_path, n, snapshot_batches=256) as network:
        network.stepped_over = network.all
        with steady_load(network):
            kills = kill_in_turn(network, 180, Random(seed))
        assert network.verdict().acknowledged > 500 and kills >= 20


@pytest.mark.long
def test_money_stays_whole_while_primaries_die(tmp_path: Path) -> None:
    """Orders, stakes and settlements on the real ledger, of which every copy is counted to the grain afterwards."""
    with ChaosNetwork(tmp_path, ledger=True) as network:
        assert network.cast is not None
        book = network.bookkeeper("crowd")
        with Crowd(network.cast, network.chain, book, orders=1 << 30, patience_s=PATIENCE_S):
            for _ in range(5):
                time.sleep(4)
                victim = network.primary(book)
                network.kill(victim)
                time.sleep(2)
                network.start(victim)
        assert network.verdict().acknowledged > 50
        state = network.ledger.state
        assert state.confirmed.epoch > 0 and state.earned_grains > 0


def test_a_stopped_primary_is_replaced_and_goes_on_as_a_backup(tmp_path: Path) -> None:
    with ChaosNetwork(tmp_path) as network:
        with steady_load(network) as books:
            network.settle(books[0])
            for until_replaced in (False, True):
                stopped = network.primary(books[0])
                network.signal(stopped, signal.SIGSTOP)
                if until_replaced:
                    deadline_s = time.monotonic() + PATIENCE_S
                    while network.primary(books[0]) == stopped:
                        assert time.monotonic() < deadline_s, "nobody replaces a primary that stands still"
                else:
                    time.sleep(0.3)
                network.signal(stopped, signal.SIGCONT)
                network.settle(books[0])
        network.verdict()


def test_a_power_cut_loses_no_more_than_what_nobody_had_waited_for(tmp_path: Path) -> None:
    """All die at one moment, again and again, and every disk loses any part of what it had not been waited for."""
    random = Random(4)
    with ChaosNetwork(tmp_path, snapshot_batches=32) as network:
        network.stepped_over = network.all
        with steady_load(network, per_s=60) as books:
            for _ in range(2):
                network.settle(books[0])
                time.sleep(random.uniform(1.0, 2.5))
                network.power_cut(random)
                for index in sorted(network.all):
                    network.start(index)
        # All may come back just below what was acknowledged last, and be alike: what follows comes after it.
        network.bookkeeper("last").put().result(PATIENCE_S)
        assert network.verdict().acknowledged > 50
