"""What a lying aggregator sends beyond what a client reads waits at the liar, not in the client's memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from pot_lab.network.client.client import NetworkClient
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from pot_lab.network.zmtp.listener import ListeningPort
from tests.network.dealer import prepare_dealer

FLOOD_BYTES = 96 << 20
PATIENCE_S = 60.0
PIECE = b"x" * 65_536
KERNEL_BYTES = 32 << 20
"""More than the buffers of one connection on both sides ever hold."""


class Liar(threading.Thread):
    """An aggregator that floods the first connection that says anything, once it is told to.

    `taken_bytes` is what it got rid of; `is_over` is set when that is all, or has stopped growing.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.keys = CurveKeyPair.generate()
        [self.port] = free_ports(1)
        self.taken_bytes, self._ending = 0, False
        self.connected, self.floods, self.is_over = threading.Event(), threading.Event(), threading.Event()
        self._listening = ListeningPort(
            "127.0.0.1", self.port, self.keys, limit_bytes=1 << 20, unsent_limit_bytes=1 << 20
        )

    def run(self) -> None:
        routes: list[bytes] = []
        queued, quiet_since_s = 0, time.monotonic()
        while not self._ending:
            routes += [sender.route for sender, _ in self._listening.messages()]
            if routes:
                self.connected.set()
            before, floods = queued, self.floods.is_set()
            while floods and queued < FLOOD_BYTES and self._listening.send(routes[0], PIECE):
                queued += len(PIECE)
            self._listening.flush()
            self.taken_bytes = queued
            if queued > before or not floods:
                quiet_since_s = time.monotonic()
            elif queued >= FLOOD_BYTES or time.monotonic() > quiet_since_s + 3:
                self.is_over.set()
            time.sleep(0.001)
        self._listening.close()

    def end(self) -> None:
        self._ending = True
        self.join()


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    made.start()
    yield made
    made.end()


def network_of(liar: Liar) -> NetworkConfig:
    """Its aggregators but the first are away."""
    entries = tuple(
        AggregatorEntry(
            index=index,
            host="127.0.0.1",
            peer_port=1 + index,
            client_port=liar.port if index == 0 else 10 + index,
            curve_public=liar.keys.public if index == 0 else CurveKeyPair.generate().public,
            address=bytes([index]) * 20,
            sealing_public=bytes(32),
        )
        for index in range(4)
    )
    return NetworkConfig(network_id=bytes(32), name="liar", aggregators=entries)


def test_a_client_that_does_not_read_takes_no_more_than_the_kernel_holds(liar: Liar) -> None:
    held, go_on = threading.Event(), threading.Event()
    with NetworkClient(network_of(liar)) as client:
        assert liar.connected.wait(PATIENCE_S)
        client.after(0.0, lambda: (held.set(), go_on.wait(PATIENCE_S)))  # type: ignore[arg-type,return-value]
        assert held.wait(PATIENCE_S)
        liar.floods.set()
        assert liar.is_over.wait(PATIENCE_S)
        assert liar.taken_bytes < KERNEL_BYTES
        go_on.set()


def test_a_client_on_libzmq_takes_all_of_it(liar: Liar) -> None:
    """The hole: libzmq's thread reads on, whether anybody takes the messages or not."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        prepare_dealer(dealer, CurveKeyPair.generate(), liar.keys.public)
        dealer.connect(f"tcp://127.0.0.1:{liar.port}")
        dealer.send(b"")
        assert liar.connected.wait(PATIENCE_S)
        liar.floods.set()
        assert liar.is_over.wait(PATIENCE_S)
        assert liar.taken_bytes >= FLOOD_BYTES
