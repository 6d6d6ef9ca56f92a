"""The connection to one aggregator, and what is known about it."""

from __future__ import annotations

import zmq

from pot_lab.network.config import AggregatorEntry
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.transport import prepare_dealer
from pot_lab.network.wire import (
    MAX_ANSWER_FRAME_BYTES,
)

_MONITORED = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


_GIVEN_UP = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


_HANDSHAKE_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | _GIVEN_UP


class _Link:
    """The connection to one aggregator, and what is known about it."""

    def __init__(self, entry: AggregatorEntry, context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeyPair) -> None:
        self.index = entry.index
        self.where = f"{entry.host}:{entry.client_port}"
        self.connected = self.wrong_key = self.tcp_open = False
        self.ready = False
        self.retries = 0
        self.reason = f"no connection to {self.where} yet"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_ANSWER_FRAME_BYTES + 4_096)
        prepare_dealer(self.socket, keys, entry.curve_public)
        self.monitor = self.socket.get_monitor_socket(_MONITORED)
        self.url = entry.client_url
        self.socket.connect(self.url)

    def send(self, frame: bytes) -> bool:
        """Hand over a frame; False when there is no connection to take it, or older frames must go first."""
        if not self.ready:
            return False
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def note(self, event: int) -> bool:
        """Learn from a monitor event; True when the connection has just become usable."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connected, self.wrong_key, self.ready = True, False, False
            self.reason = f"{self.where} is connected but did not answer"
            return True
        if event == zmq.EVENT_CONNECTED:
            self.tcp_open, self.retries = True, 0
        elif event & _HANDSHAKE_FAILED or (event == zmq.EVENT_DISCONNECTED and self.tcp_open and not self.connected):
            self.connected, self.tcp_open, self.wrong_key = False, False, True
            self.reason = f"{self.where} hangs up during the key exchange: it does not have the key in network.toml"
        elif event == zmq.EVENT_DISCONNECTED and self.connected:
            self.connected = self.tcp_open = False
            self.reason = f"the connection to {self.where} was lost"
        elif event == zmq.EVENT_CONNECT_RETRIED and not self.connected:
            self.retries += 1
            if self.retries > 1 or not self.wrong_key:
                self.wrong_key = False
                self.reason = f"nothing answers at {self.where}"
        return False

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
