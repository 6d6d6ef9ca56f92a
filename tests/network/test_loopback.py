"""Ports for networks on one machine."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from pot_lab.network import loopback
from pot_lab.network.config import AggregatorEntry
from pot_lab.network.errors import NoFreePorts
from pot_lab.network.loopback import LOOPBACK, entries_on_loopback, free_ports


def test_ports_are_distinct_and_free_and_none_that_outgoing_connections_get() -> None:
    ports = free_ports(200)
    assert len(set(ports)) == 200 and all(10_000 <= port < 32_000 for port in ports)
    for port in ports[:20]:
        socket.create_server((LOOPBACK, port)).close()


def test_a_port_in_use_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOOPBACK, free_ports(1)[0])) as server:
        taken = server.getsockname()[1]
        (other,) = free_ports(1)
        loopback._held.pop().close()
        monkeypatch.setattr(loopback, "_PORTS", [taken, other])
        assert free_ports(1) == [other]
        with pytest.raises(NoFreePorts, match="too few"):
            free_ports(2)


FOUNDER = """
import sys
from pot_lab.network import loopback
loopback._PORTS = [int(port) for port in sys.argv[1:-1]]
if sys.argv[-1] == "holds none":
    loopback._held = type("Dropped", (), {"append": lambda self, each: each.close()})()
print(*loopback.free_ports(2), flush=True)
input()
"""


@pytest.mark.parametrize("holds", [True, False])
def test_two_networks_that_are_founded_at_once_get_other_ports(holds: bool) -> None:
    """Without holding them, which is the fault with the rule switched off, both get the only two ports there are."""
    ports = [str(port) for port in free_ports(4)]
    for _ in ports:
        loopback._held.pop().close()
    command = [sys.executable, "-c", FOUNDER, *(ports if holds else ports[:2]), "holds" if holds else "holds none"]
    founders: list[subprocess.Popen[str]] = []
    given: list[str] = []
    try:
        for _ in range(2):
            founders.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            given += founders[-1].stdout.readline().split()  # type: ignore[union-attr]
        assert len(given) == 4 and len(set(given)) == (4 if holds else 2)
        for port in set(given):
            socket.create_server((LOOPBACK, int(port))).close()  # whoever has been given it can listen on it
    finally:
        for founder in founders:
            founder.communicate("\n", timeout=240)


def ports_of(entry: AggregatorEntry) -> tuple[int, ...]:
    return entry.peer_port, entry.client_port, entry.custody_port


def test_aggregators_get_three_ports_each_and_keep_their_keys() -> None:
    entries = entries_on_loopback((bytes([index]) * 20, f"{index:040d}", bytes(32)) for index in range(4))
    assert [entry.index for entry in entries] == [0, 1, 2, 3]
    assert [entry.address[0] for entry in entries] == [0, 1, 2, 3]
    assert len({port for entry in entries for port in ports_of(entry)}) == 12
