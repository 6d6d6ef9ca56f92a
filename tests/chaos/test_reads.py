"""What a client reads is never older than what it was told before, even if those who answer first are behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from pot_lab.errors import PotLabError
from pot_lab.network.errors import Unreachable
from tests.chaos.network import PATIENCE_S, Bookkeeper, ChaosNetwork
from tests.chaos.proxy import Proxies


@pytest.fixture
def network(tmp_path: Path) -> Iterator[ChaosNetwork]:
    with Proxies() as proxies, ChaosNetwork(tmp_path, durability="flush", proxies=proxies) as network:
        yield network


def leave_two_behind(network: ChaosNetwork, book: Bookkeeper) -> tuple[int, list[int]]:
    """A request that only two aggregators execute: the third gives its votes and hears no more, the fourth hears
    nothing. Returns the batch that was acknowledged, and those two. A busy machine may cut too late; then once more.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        found = _left_two_behind(network, book)
        if found is not None:
            return found
    pytest.fail("this machine is too busy to cut links within 0.7 s")


def _left_two_behind(network: ChaosNetwork, book: Bookkeeper) -> tuple[int, list[int]] | None:
    assert network.proxies is not None
    network.proxies.heal()
    network.settle(book)
    book.put().result(PATIENCE_S)
    book.look()
    network.settle(book)
    first = network.primary(book)
    second, third, fourth = ((first + step) % 4 for step in (1, 2, 3))
    network.proxies.cut(*(link for ends, link in network.peers.items() if fourth in ends))
    for index in (first, second):
        network.way(index, third).delay_s = 0.7  # its commit follows the proposal and a prepare; theirs come too late
    before = network.way(first, third).passed_bytes
    book.put().result(PATIENCE_S)
    network.proxies.cut(*(link for ends, link in network.peers.items() if third in ends))
    if network.way(first, third).passed_bytes == before:
        return None
    heights = {state.index: state.height for state in book.status().result(PATIENCE_S)}
    return (
        (heights[first], [first, second])
        if heights[first] == heights[second] > heights[third] == heights[fourth]
        else None
    )


def test_a_read_waits_for_those_who_know_what_this_client_was_told(network: ChaosNetwork) -> None:
    book = network.bookkeeper("reader")
    height, ahead = leave_two_behind(network, book)
    for index in ahead:
        network.signal(index, signal.SIGSTOP)
    with pytest.raises(Unreachable):
        book.look(timeout_s=1.5)
    for index in ahead:
        network.signal(index, signal.SIGCONT)
    assert network.proxies is not None
    network.proxies.heal()
    assert book.look() >= height
    verdict = network.verdict()
    assert verdict.acknowledged == verdict.operations >= 2


def test_reads_under_load_never_go_back(network: ChaosNetwork) -> None:
    assert network.proxies is not None
    book, writer = network.bookkeeper("reader"), network.bookkeeper("writer")
    network.settle(book)
    for one, other in permutations(network.all, 2):
        network.way(one, other).delay_s = 0.15 * (other >= 2)
    end_s, deadline_s, looks = time.monotonic() + 3, time.monotonic() + PATIENCE_S, 0
    calls = []
    while time.monotonic() < end_s or (looks <= 5 and time.monotonic() < deadline_s):
        calls.append(writer.put())
        try:
            book.look(timeout_s=1)
            looks += 1
        except PotLabError:
            pass  # no f+1 alike now
    for call in calls:
        call.result(PATIENCE_S)
    network.proxies.heal()
    assert network.verdict().reads > 5
