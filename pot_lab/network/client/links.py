"""The connections of a client to the aggregators of the set in force, and what is known about each."""

from __future__ import annotations

import functools
import logging
import select
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from pot_lab.errors import Malformed, PotLabError
from pot_lab.network.client.calls import PendingCall
from pot_lab.network.client.io_thread import IoThread
from pot_lab.network.config import AggregatorEntry
from pot_lab.network.errors import NoAgreement, Unreachable, WrongServerKey
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.wire import MAX_ANSWER_FRAME_BYTES, Answer, decode_answer
from pot_lab.network.z85 import decode_z85
from pot_lab.network.zmtp.dialler import Dialler

_log = logging.getLogger("pot_lab.client")

_FRAMES_A_TURN = 1_000
_FRAME_SLACK_BYTES = 4_096
_UNSENT_BYTES = 8 << 20
_DIALLING_S, _QUIET_S = 0.02, 0.5
_RESEND_AFTER_S = 0.02


class AggregatorLink:
    """The connection to one aggregator, and what is known about it.

    An aggregator may be a liar: what it sends beyond what is read waits in the kernel, and slows down nobody else.

    Args:
        entry: the aggregator.
        keys: the client's CURVE keys.
        events: where its socket is registered.
    Attributes:
        index: the aggregator's place in the set.
        where: its host and port.
        reason: what is known of it, for error messages.
        connected: whether the key exchange succeeded and the connection stands.
        wrong_key: whether it is there, and ended the last key exchange.
        ready: whether `send` takes frames: everything older that it has not answered was sent on this connection.
    """

    def __init__(self, entry: AggregatorEntry, keys: CurveKeyPair, events: select.epoll) -> None:
        self.index = entry.index
        self.where = f"{entry.host}:{entry.client_port}"
        self.connected = self.wrong_key = self.ready = self.closed = False
        self.reason = f"no connection to {self.where} yet"
        self._counters: Counter[str] = Counter()
        self._failed = self._refused = 0
        self._has_key = _is_key(entry.curve_public)
        self.dialler = Dialler(
            entry.host,
            entry.client_port,
            entry.curve_public,
            keys,
            events,
            limit_bytes=MAX_ANSWER_FRAME_BYTES + _FRAME_SLACK_BYTES,
            unsent_limit_bytes=_UNSENT_BYTES,
            counters=self._counters,
        )

    def send(self, frame: bytes) -> bool:
        """Send a frame; False when no connection takes it, or older frames must go first."""
        if not self.ready or not self.dialler.send(frame):
            return False
        self.dialler.flush()
        return True

    def maintain(self, now_s: float) -> None:
        """Dial again where the connection ended."""
        self.dialler.maintain(now_s)

    def look(self) -> bool:
        """Update what is known; True when the connection has just become usable."""
        was_connected, self.connected = self.connected, self.dialler.ready
        if self.connected and not was_connected:
            self.wrong_key = self.ready = False
            self.reason = f"{self.where} is connected but did not answer"
            return True
        if was_connected and not self.connected:
            self.ready = False
            self.reason = f"the connection to {self.where} was lost"
        elif self._counters["dials_failed"] > self._failed:
            self.wrong_key = self._counters["dials_refused"] > self._refused
            self._failed, self._refused = self._counters["dials_failed"], self._counters["dials_refused"]
            self.reason = f"nothing answers at {self.where}"
            if self.wrong_key:
                self.reason = f"{self.where} hangs up during the key exchange: it does not have the key in network.toml"
            if not self._has_key:
                self.reason = f"{self.where} names no CURVE key that can be connected to"
        return False

    def close(self) -> None:
        """Close the connection, dropping what was not sent."""
        self.closed, self.connected, self.ready = True, False, False
        self.dialler.close()


def _is_key(text: str) -> bool:
    """Whether 40 characters of Z85 stand for 32 bytes; they may stand for more."""
    try:
        return len(decode_z85(text)) == 32
    except Malformed:
        return False


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
        self._events: select.epoll | None = None
        self._due_s: float | None = None

    def __iter__(self) -> Iterator[AggregatorLink]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def connect(self, entries: Iterable[AggregatorEntry]) -> None:
        """Open a connection to each of these."""
        if self._events is None:
            self._events = select.epoll()
            self._io.read(self._events, self._on_events)
        self._links += [AggregatorLink(entry, self._keys, self._events) for entry in entries]
        self._take_turn()

    def disconnect(self) -> None:
        """Close all connections."""
        for link in self._links:
            link.close()
        self._links.clear()
        if self._events is not None:
            self._io.forget(self._events)
            self._events.close()
            self._events = None

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

    def _on_events(self) -> None:
        """Something happened on a socket."""
        if self._events is None:
            return
        by_descriptor = {link.dialler.descriptor: link for link in self._links}
        for descriptor, mask in self._events.poll(0):
            link = by_descriptor.get(descriptor)
            if link is not None:
                link.dialler.on_event(mask)
        self._take_turn()

    def _take_turn(self) -> None:
        """Dial, read what came, and come back: at once where more waits, soon while a connection is missing."""
        now_s = self._io.now_s()
        for link in list(self._links):
            if link.closed:
                continue  # what another one sent has closed it
            link.maintain(now_s)
            self._read(link, now_s)
            if not link.closed and link.look():
                self._resend(link)
        if not self._links:
            return
        wait_s = _QUIET_S if all(link.connected for link in self._links) else _DIALLING_S
        if any(link.dialler.busy for link in self._links):
            wait_s = 0.0
        if self._due_s is None or now_s + wait_s < self._due_s:
            self._due_s = now_s + wait_s
            self._io.after(wait_s, functools.partial(self._come_back, self._due_s))

    def _come_back(self, due_s: float) -> None:
        if due_s == self._due_s:  # otherwise an earlier turn was asked for meanwhile
            self._due_s = None
            self._take_turn()

    def _read(self, link: AggregatorLink, now_s: float) -> None:
        for frame in link.dialler.messages(_FRAMES_A_TURN, now_s):
            try:
                answer = decode_answer(frame or b"")
            except PotLabError:
                _log.warning("aggregator %d sent a frame that holds no answer", link.index)
                continue
            if not link.connected and link.look():
                self._resend(link)
            self._on_answer(link, answer)
            if link.closed:
                return  # what was read closed it

    def _resend(self, link: AggregatorLink) -> None:
        if link.closed or not link.connected:
            return
        link.ready = True
        if not all(link.send(frame) for frame in self._unanswered_frames(link)):
            link.ready = False
            self._io.after(_RESEND_AFTER_S, functools.partial(self._resend, link))
            return
        self._on_ready(link)
