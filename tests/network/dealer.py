"""Clients on libzmq, as other languages have them and older releases had: a DEALER under CURVE.

What they send is what aggregators have to take. libzmq aborts a process where a connection whose input it stopped hangs
up, so this one's input never stops (RCVHWM 0), and it sends no heartbeat (`tests/network/zmtp/test_libzmq.py`).
"""

from __future__ import annotations

import zmq

from pot_lab.network.keys import CurveKeyPair

_HIGH_WATER_MARK = 2_000
_KEEP_ALIVE_S, _UNACKNOWLEDGED_MS = 10, 10_000
_RECONNECT_MS, _RECONNECT_MAX_MS = 20, 1_000


def prepare_dealer(socket: zmq.Socket[bytes], keys: CurveKeyPair, server_key: str) -> None:
    """Give a DEALER its CURVE keys, limits and reconnection rules."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEP_ALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEP_ALIVE_S // 2)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    socket.setsockopt(zmq.TCP_MAXRT, _UNACKNOWLEDGED_MS)


def reconnect(socket: zmq.Socket[bytes], url: str) -> None:
    """Begin a connection again that may have been given up."""
    try:
        socket.disconnect(url)
    except zmq.ZMQError:
        pass  # it was given up already
    socket.connect(url)
