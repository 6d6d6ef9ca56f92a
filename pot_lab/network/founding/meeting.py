"""All hosts of a network meet before its aggregators start: each listens on its two ports, and asks all others.

It shows what a file alone cannot: that ports are open from outside, that each host holds the secret half of its key,
that all have the same file and version, and that clocks agree. A host whose aggregator runs already answers too.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections import Counter
from collections.abc import Callable, Iterator

from pot_lab.errors import PotLabError
from pot_lab.network.clock import wall_clock_ms
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.presence import PRESENCE, Presence, decode_presence, digest_or_nothing, encode_presence
from pot_lab.network.wire import (
    MAX_CLIENT_FRAME_BYTES,
    Query,
    QueryAnswered,
    decode_answer,
    decode_question,
    encode_frame,
)
from pot_lab.network.zmtp.dialler import Dialler
from pot_lab.network.zmtp.listener import ListeningPort

_ASK_EVERY_S = 0.5
_POLL_MS = 20
_LINGER_S = 1.0
_LIMIT_BYTES = 4_096
_UNSENT_BYTES = 1 << 20
_MOST_MESSAGES = 64


class HostMet:
    """What became of meeting one host.

    Attributes:
        entry: the host, from `network.toml`.
        presence: what it said of itself; None while it has not answered.
        offset_ms: by how much its clock is ahead of this host's, give or take `uncertainty_ms`.
        peer_port_open: whether its port for aggregators answered with its key; None if that was not tried.
        asked: whether it asked this host.
    """

    def __init__(self, entry: AggregatorEntry, peer_port_open: bool | None) -> None:
        self.entry = entry
        self.presence: Presence | None = None
        self.offset_ms = self.uncertainty_ms = 0
        self.peer_port_open = peer_port_open
        self.asked = False

    @property
    def is_met(self) -> bool:
        """Whether nothing more is to be learnt of it, nor it of this host."""
        if self.presence is None or self.peer_port_open is False:
            return False
        return self.peer_port_open is None or self.presence.running or self.asked

    def answered(self, presence: Presence, sent_ms: int, now_ms: int) -> None:
        """It answered what was sent at `sent_ms`."""
        self.presence = presence
        self.offset_ms = presence.time_ms - (sent_ms + now_ms) // 2
        self.uncertainty_ms = (now_ms - sent_ms) // 2 + 1


class _Asked:
    """The connections to one host's ports."""

    def __init__(self, met: HostMet, make: Callable[[int], Dialler]) -> None:
        self.met = met
        self.clients = make(met.entry.client_port)
        self.peers = None if met.peer_port_open is None else make(met.entry.peer_port)
        self._ask_at_s = 0.0
        self._sent_ms = 0

    @property
    def diallers(self) -> list[Dialler]:
        return [self.clients] if self.peers is None else [self.clients, self.peers]

    def take_turn(self, now_s: float, clock_ms: Callable[[], int]) -> None:
        """Dial, ask again if it is time, and read what came."""
        for dialler in self.diallers:
            dialler.maintain(now_s)
        if self.peers is not None and self.peers.ready:
            self.met.peer_port_open = True
        for dialler in self.diallers:
            for frame in dialler.messages(_MOST_MESSAGES, now_s):
                if dialler is self.clients and frame:
                    self._read(frame, clock_ms())
        if self.met.presence is None and self.clients.ready and now_s >= self._ask_at_s:
            self._ask_at_s, self._sent_ms = now_s + _ASK_EVERY_S, clock_ms()
            self.clients.send(encode_frame(Query(1, PRESENCE, b"")))
        for dialler in self.diallers:
            dialler.flush()

    def _read(self, frame: bytes, now_ms: int) -> None:
        with contextlib.suppress(PotLabError):  # what is no answer is none
            answer = decode_answer(frame)
            if isinstance(answer, QueryAnswered) and self.met.presence is None:
                self.met.answered(decode_presence(answer.answer), self._sent_ms, now_ms)

    def close(self) -> None:
        for dialler in self.diallers:
            dialler.close()


def meet(
    config: NetworkConfig,
    keys: CurveKeyPair,
    own: AggregatorEntry | None,
    wait_s: float,
    *,
    clock_ms: Callable[[], int] = wall_clock_ms,
) -> list[HostMet]:
    """Ask every other host for its presence, and answer theirs.

    Args:
        config: the network's file, as this host has it.
        keys: CURVE keys; this host's own if it listens.
        own: where this host listens meanwhile; None to ask only, as beside an aggregator that runs.
        wait_s: how long the others may take to come.
    Returns: each other host, met or not, by index.
    Raises:
        PortTaken: another process, such as the aggregator itself, listens on a port of this host.
    """
    digest = digest_or_nothing(config)
    mets = [
        HostMet(entry, None if own is None else False)
        for entry in config.aggregators
        if own is None or entry.address != own.address
    ]
    by_key = {met.entry.curve_public: met for met in mets}
    with contextlib.ExitStack() as opened:
        events = select.epoll()
        opened.callback(events.close)
        ports: list[ListeningPort] = []
        if own is not None:
            for port in (own.peer_port, own.client_port):
                listening = ListeningPort(
                    own.host, port, keys, limit_bytes=MAX_CLIENT_FRAME_BYTES, unsent_limit_bytes=_UNSENT_BYTES
                )
                opened.callback(listening.close)
                ports.append(listening)

        def dial(entry: AggregatorEntry) -> Callable[[int], Dialler]:
            return lambda port: Dialler(
                entry.host,
                port,
                entry.curve_public,
                keys,
                events,
                limit_bytes=_LIMIT_BYTES,
                unsent_limit_bytes=_UNSENT_BYTES,
                counters=Counter(),
            )

        asked = [_Asked(met, dial(met.entry)) for met in mets]
        for each in asked:
            opened.callback(each.close)
        for now_s in _turns(wait_s, lambda: all(met.is_met for met in mets)):
            _answer(ports, by_key, lambda: encode_presence(digest, clock_ms(), running=False))
            ready = dict(events.poll(_POLL_MS / 1_000))
            for each in asked:
                for dialler in each.diallers:
                    if dialler.descriptor in ready:
                        dialler.on_event(ready[dialler.descriptor])
                each.take_turn(now_s, clock_ms)
    return mets


def _turns(wait_s: float, is_over: Callable[[], bool]) -> Iterator[float]:
    """The monotonic time of each turn, until all is over and a moment has passed for what is still under way."""
    deadline_s = time.monotonic() + wait_s
    over_at_s = None
    while (now_s := time.monotonic()) < deadline_s:
        if not is_over():
            over_at_s = None
        elif over_at_s is None:
            over_at_s = now_s
        elif now_s > over_at_s + _LINGER_S:
            return
        yield now_s


def _answer(ports: list[ListeningPort], by_key: dict[str, HostMet], presence: Callable[[], bytes]) -> None:
    """Answer who asks for this host's presence."""
    for port in ports:
        for sender, frame in port.messages():
            with contextlib.suppress(PotLabError):
                question = decode_question(frame or b"")
                if isinstance(question, Query) and question.name == PRESENCE:
                    port.send(sender.route, encode_frame(QueryAnswered(question.call, 0, presence())))
                    if sender.key in by_key:
                        by_key[sender.key].asked = True
        port.flush()
