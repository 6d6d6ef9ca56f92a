"""Shares and budgets are of the thread's own time: what other processes take of it is charged to nobody."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from pot_lab.errors import Malformed, PotLabError
from pot_lab.network.aggregator.peer_budget import BURST_S, SHARE, PeerBudgets
from pot_lab.network.aggregator.read_time import TURN_S, TimeShare
from pot_lab.network.aggregator.serving_clock import ServingClock


class Host:
    """A thread that computes, waits, and is kept from the processor."""

    def __init__(self) -> None:
        self.used_s = self.now_s = 0.0
        self.clock = ServingClock(lambda: self.used_s, lambda: self.now_s)

    def compute(self, seconds: float) -> None:
        self.used_s += seconds
        self.now_s += seconds

    def stand_still(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, seconds: float, at_most_s: float = 1e9) -> None:
        with self.clock.waiting(at_most_s):
            self.now_s += seconds


@pytest.fixture
def host() -> Host:
    return Host()


def test_it_counts_what_was_computed_and_waited_and_nothing_else(host: Host) -> None:
    host.compute(2)
    host.stand_still(100)
    assert host.clock() == 2
    host.wait(3)
    assert host.clock() == 5


def test_a_wait_is_over_when_its_time_was(host: Host) -> None:
    host.wait(9, at_most_s=0.005)
    assert host.clock() == 0.005
    host.wait(9, at_most_s=0)
    assert host.clock() == 0.005


def test_what_is_computed_within_a_wait_counts_once(host: Host) -> None:
    with host.clock.waiting():
        host.compute(1)
        host.now_s += 2
    assert host.clock() == 3
    with host.clock.waiting():
        host.compute(1)
    assert host.clock() == 4


def test_a_wait_that_ends_in_an_error_counts(host: Host) -> None:
    with pytest.raises(PotLabError), host.clock.waiting():
        host.now_s += 2
        raise Malformed("anything")
    assert host.clock() == 2


def test_a_peer_is_not_charged_for_a_busy_host(host: Host) -> None:
    """On a host that gives the thread a tenth of a processor, a peer's frames cost it what they did on a quiet one."""
    budgets = PeerBudgets(host.clock)
    for _ in range(20):
        before_s = host.clock()
        host.compute(0.001)
        host.stand_still(10 * BURST_S)
        budgets.charge(1, host.clock() - before_s)
    assert budgets.wants(1)


def test_a_peer_has_its_share_of_what_the_thread_had_and_not_of_the_hosts_time(host: Host) -> None:
    budgets = PeerBudgets(host.clock)
    budgets.charge(1, BURST_S + 0.1)
    host.stand_still(1_000)
    assert not budgets.wants(1), "the thread had nothing of it"
    host.compute(0.1 / SHARE / 2)
    assert not budgets.wants(1)
    host.wait(0.1 / SHARE / 2 + 0.001)
    assert budgets.wants(1)


def test_readings_have_their_share_of_the_threads_time(host: Host) -> None:
    share = TimeShare(host.clock, 0.25)
    share.spend(TURN_S + 0.001)
    host.stand_still(10)
    share.begin(quiet=False)
    assert share.left_s == pytest.approx(-0.001)
    host.compute(0.008)
    share.begin(quiet=False)
    assert share.left_s == pytest.approx(0.001)


def test_the_real_clocks_are_the_threads_and_the_hosts() -> None:
    clock, counted = ServingClock(), Counter[str]()
    before_s = clock()
    used_s = time.thread_time()
    while time.thread_time() - used_s < 0.01:
        counted["turns"] += 1
    computed_s = clock() - before_s
    assert computed_s >= 0.01
    with clock.waiting():
        time.sleep(0.05)
    assert clock() - before_s >= computed_s + 0.04
