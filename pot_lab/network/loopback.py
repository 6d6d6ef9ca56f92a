"""Networks on one machine: free ports, and aggregators on them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable
from random import SystemRandom

from pot_lab.network.config import AggregatorEntry
from pot_lab.network.errors import NoFreePorts

LOOPBACK = "127.0.0.1"
_PORTS = range(10_000, 32_000)
"""Below those that the system gives to outgoing connections (Linux: from 32,768): a hundred aggregators make ten
thousand of these while the last of them still has to start, and one that starts again finds its port still free.
"""
_HELD_AT_MOST = 128
_held: deque[socket.socket] = deque(maxlen=_HELD_AT_MOST)
"""Sockets bound to the ports that were given last: see `free_ports`. One that falls out is closed."""


def free_ports(count: int) -> list[int]:
    """TCP ports of this machine on which nothing listens, and that no other process is given meanwhile.

    Seconds pass until whoever was given a port listens on it, and another network that is founded at the same time must
    not choose it. So this process stays bound to it without listening, until it ends or was given many others. That
    keeps out who looks for a free port as below, and (on Linux) lets in who listens with SO_REUSEADDR, as servers do.

    Args:
        count: how many.

    Raises:
        NoFreePorts: there are fewer.
    """
    found: list[int] = []
    for port in SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        holding = socket.socket()
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holding.bind((LOOPBACK, port))
        except OSError:
            holding.close()
            continue  # somebody was quicker
        _held.append(holding)
        found.append(port)
        if len(found) == count:
            return found
    raise NoFreePorts("there are too few free ports on this machine", seen=len(found), wanted=count)


def entries_on_loopback(keys: Iterable[tuple[bytes, str, bytes]]) -> tuple[AggregatorEntry, ...]:
    """Aggregators on free ports of this machine, by their address, CURVE key and sealing key; raises NoFreePorts."""
    known = list(keys)
    ports = iter(free_ports(3 * len(known)))
    return tuple(
        AggregatorEntry(
            index=index,
            host=LOOPBACK,
            peer_port=next(ports),
            client_port=next(ports),
            custody_port=next(ports),
            curve_public=curve_public,
            address=address,
            sealing_public=sealing_public,
        )
        for index, (address, curve_public, sealing_public) in enumerate(known)
    )
