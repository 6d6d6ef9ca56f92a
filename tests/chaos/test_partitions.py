"""Aggregators that cannot hear each other: by a proxy on every link, and by real network namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from tests.chaos.network import PATIENCE_S, Bookkeeper, ChaosNetwork, steady_load
from tests.chaos.proxy import Proxies
from tests.network.toy import ROOT


@pytest.fixture
def network(tmp_path: Path) -> Iterator[ChaosNetwork]:
    with Proxies() as proxies, ChaosNetwork(tmp_path, durability="flush", proxies=proxies) as network:
        yield network


def begin(network: ChaosNetwork) -> tuple[Proxies, Bookkeeper, int]:
    """The proxies, a client whose first requests are done, and the primary."""
    assert network.proxies is not None
    book = network.bookkeeper("client")
    network.settle(book)
    book.put_all(5)
    return network.proxies, book, network.primary(book)


def test_a_primary_cut_off_from_the_others_is_replaced(network: ChaosNetwork) -> None:
    proxies, book, first = begin(network)
    proxies.cut(*(link for ends, link in network.peers.items() if first in ends))
    book.put_all(5)
    proxies.heal()
    network.settle(book)
    assert network.primary(book) != first
    assert network.verdict().acknowledged == 10


@pytest.mark.parametrize("is_deaf", [True, False], ids=["deaf", "dumb"])
def test_a_primary_that_only_speaks_or_only_hears_does_not_stop_the_others(
    network: ChaosNetwork, is_deaf: bool
) -> None:
    """Its connections stay open and its kernel acknowledges: nobody is told that anything is wrong."""
    proxies, book, first = begin(network)
    for other in network.all - {first}:
        network.way(*((other, first) if is_deaf else (first, other))).passes = False
    book.put_all(20, 0.02)
    proxies.heal()
    network.settle(book)
    assert network.verdict().acknowledged == 25


def test_two_halves_decide_nothing_and_together_decide_everything(network: ChaosNetwork) -> None:
    proxies, book, _ = begin(network)
    network.settle(book)
    before = book.look()
    proxies.cut(*(link for (one, other), link in network.peers.items() if (one < 2) != (other < 2)))
    calls = [book.put() for _ in range(5)]
    time.sleep(2.5)
    assert book.look() == before and not any(call.done() for call in calls)
    proxies.heal()
    assert [call.result(PATIENCE_S) for call in calls] == [b"%d" % number for number in range(6, 11)]
    network.verdict()


def test_slow_thin_links_and_clients_that_reach_only_some_lose_nothing(network: ChaosNetwork) -> None:
    proxies, _, first = begin(network)
    for one, other in permutations(network.all, 2):
        way = network.way(one, other)
        way.delay_s, way.bytes_per_s = 0.01 * (1 + one + other), 60_000
    proxies.cut(network.doors[first])
    network.doors[(first + 1) % 4].back.passes = False
    with steady_load(network, per_s=10):
        time.sleep(3)
    proxies.heal()
    network.verdict()


INSIDE = ["unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]


def namespaces_missing() -> str:
    """Why there can be no network namespaces here; empty if there can."""
    try:
        probe = subprocess.run(
            [*INSIDE, sys.executable, "-m", "tests.chaos.namespaces", "probe"],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if probe.returncode == 0 else (probe.stderr.strip().splitlines() or ["unshare failed"])[-1]


@pytest.mark.timeout(2_000)
def test_a_partition_of_real_networks_heals(tmp_path: Path) -> None:
    """Each aggregator in a network namespace of its own; links move between two bridges, and packets just vanish."""
    reason = namespaces_missing()
    if reason:
        pytest.skip(f"no network namespaces on this machine: {reason}")
    command = [*INSIDE, sys.executable, "-m", "tests.chaos.namespaces", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1_500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["acknowledged"] == found["operations"] == 35 and found["view"] > 0
