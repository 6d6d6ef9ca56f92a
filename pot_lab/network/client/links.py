"""The connections of a client to the aggregators of the set in force, and what is known about each."""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Callable, Iterable, Iterator

import zmq

from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import PendingCall
from pot_lab.network.client.io_thread import IoThread
from pot_lab.network.config import AggregatorEntry
from pot_lab.network.errors import NoAgreement, Unreachable, WrongServerKey
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.transport import prepare_dealer, reconnect
from pot_lab.network.wire import MAX_ANSWER_FRAME_BYTES, Answer, decode_answer

_log = logging.getLogger("pot_lab.client")

_GIVEN_UP = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_HANDSHAKE_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | _GIVEN_UP
_MONITORED = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | _HANDSHAKE_FAILED
)
_FRAMES_A_TURN = 1_000
_FRAME_SLACK_BYTES = 4_096
_RECONNECT_AFTER_S = 1.0
_RESEND_AFTER_S = 0.02


class AggregatorLink:
    """The connection to one aggregator, and what is known about it.

    Attributes:
        index: the aggregator's place in the set.
        where: its host and port.
        reason: what is known of it, for error messages.
        connected: whether the key exchange succeeded and the connection stands.
        ready: whether `send` takes frames: everything older that it has not answered was sent on this connection.
    """

    def __init__(self, entry: AggregatorEntry, context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeyPair) -> None:
        self.index = entry.index
        self.where = f"{entry.host}:{entry.client_port}"
        self.connected = self.wrong_key = self.tcp_open = False
        self.ready = self.closed = False
        self.retries = 0
        self.reason = f"no connection to {self.where} yet"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_ANSWER_FRAME_BYTES + _FRAME_SLACK_BYTES)
        self.url = entry.client_url
        try:
            prepare_dealer(self.socket, keys, entry.curve_public)
        except zmq.ZMQError:  # 40 characters of Z85 may be too large for 32 bytes
            self.url, self.reason = "", f"{self.where} names no CURVE key that can be connected to"
        self.monitor = self.socket.get_monitor_socket(_MONITORED)
        if ":" in entry.host:
            self.socket.setsockopt(zmq.IPV6, 1)
        self._connect()

    def _connect(self) -> None:
        """Connect, or note why not: an aggregator chooses its host, and the others must be reached all the same."""
        if not self.url:
            return
        try:
            reconnect(self.socket, self.url)
        except zmq.ZMQError as error:
            self.reason = f"{self.where} is no address that can be connected to: {error.strerror}"

    def reconnect(self) -> None:
        """Begin the connection again, which libzmq has given up."""
        if not self.closed and not self.connected:
            self._connect()

    def send(self, frame: bytes) -> bool:
        """Send a frame; False when no connection takes it, or older frames must go first."""
        if not self.ready:
            return False
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def on_monitor_event(self, event: int) -> bool:
        """Update what is known by a monitor event; True when the connection has just become usable."""
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
        """Close the sockets, dropping what was not sent."""
        self.closed = True
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)


class AggregatorLinks:
    """One connection to each aggregator of the set in force; lives on the client's thread.

    A connection that became usable is first sent everything that its aggregator has not answered, in order: were
    anything newer to overtake it, an account's later nonce would void its earlier ones.

    Args:
        io: the thread.
        keys: the client's CURVE keys.
        on_answer: called with each frame from an aggregator, decoded.
        unanswered_frames: what an aggregator has not answered, in order.
        on_ready: called when a connection takes frames (again), after those were sent.
    """

    def __init__(
        self,
        io: IoThread,
        keys: CurveKeyPair,
        *,
        on_answer: Callable[[AggregatorLink, Answer], None],
        unanswered_frames: Callable[[AggregatorLink], Iterable[bytes]],
        on_ready: Callable[[AggregatorLink], None],
    ) -> None:
        self._io, self._keys = io, keys
        self._on_answer, self._unanswered_frames, self._on_ready = on_answer, unanswered_frames, on_ready
        self._links: list[AggregatorLink] = []

    def __iter__(self) -> Iterator[AggregatorLink]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def connect(self, entries: Iterable[AggregatorEntry]) -> None:
        """Open a connection to each of these."""
        for entry in entries:
            link = AggregatorLink(entry, self._io.context, self._keys)
            self._links.append(link)
            self._io.read(link.socket, functools.partial(self._read, link))
            self._io.read(link.monitor, functools.partial(self._read_monitor, link))

    def disconnect(self) -> None:
        """Close all connections."""
        for link in self._links:
            self._io.forget(link.socket)
            self._io.forget(link.monitor)
            link.close()
        self._links.clear()

    def reason(self, index: int) -> str:
        """What is known of an aggregator that did not answer."""
        return self._links[index].reason

    def unanswered(self, pending: PendingCall, what: str, needed: int) -> Unreachable:
        """The error of a call that `needed` aggregators did not answer alike in time, with the reason of each.

        Returns: NoAgreement when enough answered, WrongServerKey when too few have the keys of `network.toml`, else
            Unreachable.
        """
        asked = [link for link in self._links if pending.concerns(link.index)]
        reasons: dict[int, str] = {}
        for link in asked:
            if link.index in pending.answers:
                reasons[link.index] = f"{link.where} answered"
            elif link.index in pending.refusals:
                reasons[link.index] = f"{link.where} refused: {pending.refusals[link.index]}"
            else:
                reasons[link.index] = link.reason
        details = "; ".join(f"aggregator {index}: {reason}" for index, reason in reasons.items())
        answered = f"{len(pending.answers)} of {len(reasons)} answered"
        message = f"{what} by {needed} aggregators alike ({answered}): {details}"
        if len(pending.answers) >= needed:
            return NoAgreement(message, reasons)
        if sum(link.wrong_key for link in asked) > len(reasons) - needed:
            return WrongServerKey(message, reasons)
        return Unreachable(message, reasons)

    def _read(self, link: AggregatorLink) -> None:
        for _ in range(_FRAMES_A_TURN):
            if link.closed:
                return  # what was read last closed it
            try:
                frame = link.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                answer = decode_answer(frame)
            except PotLabError:
                _log.warning("aggregator %d sent a frame that holds no answer", link.index)
                continue
            self._on_answer(link, answer)

    def _read_monitor(self, link: AggregatorLink) -> None:
        while not link.closed:
            try:
                event, _ = struct.unpack("=HI", link.monitor.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                return
            if link.on_monitor_event(event):
                self._resend(link)
            elif event & _GIVEN_UP:
                self._io.after(_RECONNECT_AFTER_S, link.reconnect)

    def _resend(self, link: AggregatorLink) -> None:
        if link.closed or not link.connected:
            return
        link.ready = True
        if not all(link.send(frame) for frame in self._unanswered_frames(link)):
            link.ready = False
            self._io.after(_RESEND_AFTER_S, functools.partial(self._resend, link))
            return
        self._on_ready(link)
