"""Ports for networks on one machine."""

from __future__ import annotations

import socket

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
        monkeypatch.setattr(loopback, "_PORTS", [taken, other])
        assert free_ports(1) == [other]
        with pytest.raises(NoFreePorts, match="too few"):
            free_ports(2)


def ports_of(entry: AggregatorEntry) -> tuple[int, ...]:
    return entry.peer_port, entry.client_port, entry.custody_port


def test_aggregators_get_three_ports_each_and_keep_their_keys() -> None:
    entries = entries_on_loopback((bytes([index]) * 20, f"{index:040d}", bytes(32)) for index in range(4))
    assert [entry.index for entry in entries] == [0, 1, 2, 3]
    assert [entry.address[0] for entry in entries] == [0, 1, 2, 3]
    assert len({port for entry in entries for port in ports_of(entry)}) == 12
