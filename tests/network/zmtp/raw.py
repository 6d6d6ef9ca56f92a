"""A client of a ZMTP port that may do anything between two bytes, for tests."""

from __future__ import annotations

import socket
import struct
import time

from zmq.utils import z85

from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.zmtp.connection import Connection
from pot_lab.network.zmtp.curve import ClientHandshake

PATIENCE_S = 240
_LIMIT_BYTES = 64 << 20


def connected(
    host: str, port: int, server_key: str, keys: CurveKeyPair | None = None, source: str | None = None
) -> Connection:
    """A connection whose handshake is not begun; `source` is the address that it comes from."""
    keys = keys or CurveKeyPair.generate()
    stream = socket.create_connection((host, port), source_address=None if source is None else (source, 0))
    stream.setblocking(False)
    secret, public, server = (z85.decode(each.encode()) for each in (keys.secret, keys.public, server_key))
    handshake = ClientHandshake(secret, public, server, b"DEALER")
    return Connection(stream, handshake, limit_bytes=_LIMIT_BYTES, unsent_limit_bytes=_LIMIT_BYTES)


def advance(connection: Connection) -> list[bytes | None]:
    """Send and read what is there; the messages that came."""
    connection.flush()
    found: list[bytes | None] = []
    has_more = True
    while not connection.ended:
        taken = connection.take()
        if taken is not None:
            if taken.is_message:
                found.append(taken.body)
        elif not has_more:
            break
        else:
            has_more = connection.read()
            if not has_more:
                continue
    connection.flush()
    return found


def opened(host: str, port: int, server_key: str, keys: CurveKeyPair | None = None) -> Connection:
    """A connection to a process of its own, once its handshake is over."""
    connection = connected(host, port, server_key, keys)
    until_s = time.monotonic() + PATIENCE_S
    while not connection.ready:
        assert not connection.ended, connection.ended
        assert time.monotonic() < until_s
        advance(connection)
        time.sleep(0.002)
    return connection


def push(connection: Connection, data: bytes, timeout_s: float) -> int:
    """Send bytes as long as the kernel takes them; returns how many it took until it took none for `timeout_s`."""
    connection.stream.settimeout(timeout_s)
    sent = 0
    try:
        while sent < len(data):
            sent += connection.stream.send(data[sent : sent + 65_536])
    except OSError:
        pass
    return sent


def reset_at_close(connection: Connection) -> None:
    """Let closing it reset the connection, so that the other side's next read or write fails."""
    connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: Connection) -> None:
    """Reset the connection."""
    reset_at_close(connection)
    connection.close()
