"""The typed face of a network: say something to the ledger, ask it something, follow what happens.

Wraps the byte-moving `NetworkClient` (f+1 equal answers, retries) with signing, nonces, views and typed refusals, so
that whoever uses it sees records and errors and never bytes. It holds no rule: what may be said is the ledger's to
decide.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import AggregatorStatus
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.client.streams import Subscription
from pot_lab.network.config import NetworkConfig
from pot_lab.network.wire_codes import error_from_wire
from pot_lab.protocol import transactions, views
from pot_lab.protocol.errors import StaleNonce
from pot_lab.protocol.state import Event
from pot_lab.protocol.transactions import Reply

ANSWER_LIMIT_BYTES = 64 << 20
View = TypeVar("View")


class NoIdentity(PotLabError):
    """Something is to be signed, but this client was opened without an identity."""


class LedgerClient:
    """A connection to one network's ledger, for reading and, with an identity, for speaking.

    Args:
        config: the network, from its `network.toml`.
        identity: the account that signs; None for a reader.
    """

    def __init__(self, config: NetworkConfig, identity: Identity | None = None) -> None:
        self.config = config
        self.identity = identity
        self.network_id: bytes = config.network_id
        self.transport = NetworkClient(config)
        self._nonce = 0
        self._nonce_lock = threading.Lock()

    @classmethod
    def open(cls, network_file: Path, identity: Identity | None = None) -> LedgerClient:
        """Open the network described by a `network.toml`."""
        return cls(NetworkConfig.load(network_file), identity)

    def close(self) -> None:
        """Close sockets and end the background thread."""
        self.transport.close()

    def __enter__(self) -> LedgerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- saying -----------------------------------------------------------------------------------------------
    def submit(self, body: Record, *, timeout_s: float = 30.0) -> Reply:
        """Sign `body` and have it ordered; returns the ledger's reply when f+1 aggregators gave the same.

        Raises:
            Refused: (the subclass that names the rule) the ledger refused it; nothing changed.
            Unreachable: too few aggregators answered in time; the request may still be ordered later, once.
            NoIdentity: there is nobody to sign.
        """
        if self.identity is None:
            raise NoIdentity("this connection has no identity to sign with", wanted="connect with an account")
        for attempt in range(3):
            request = transactions.sign(self.network_id, body, self.identity, self._next_nonce())
            answer = self.transport.submit(request, timeout_s=timeout_s).result(timeout_s + 1)
            reply = decode(answer, Reply, limit_bytes=ANSWER_LIMIT_BYTES)
            if reply.accepted:
                return reply
            error = refusal(reply)
            if not isinstance(error, StaleNonce) or attempt == 2:
                raise error
            # another process speaks for the same account with a clock ahead of ours: go on after its last nonce
            with self._nonce_lock:
                self._nonce = max(self._nonce, self.account(self.identity.address).nonce)
        raise AssertionError("unreachable")

    def _next_nonce(self) -> int:
        """Nonces are microseconds, so that processes of one account need not agree on a counter."""
        with self._nonce_lock:
            self._nonce = max(self._nonce + 1, time.time_ns() // 1000)
            return self._nonce

    # --- asking -----------------------------------------------------------------------------------------------
    def ask(self, name: str, arguments: Record | None, type_: type[View], *, timeout_s: float = 10.0) -> View:
        """Read something from the ledger; believed when f+1 aggregators answer alike.

        Raises:
            UnknownOrder and other rules: the aggregators refuse the question.
            Unreachable: too few answered in time.
        """
        raw = encode(arguments) if arguments is not None else b""
        answer = self.transport.query(name, raw, timeout_s=timeout_s).result(timeout_s + 1)
        return decode(answer, type_, limit_bytes=ANSWER_LIMIT_BYTES)

    def order(self, order_id: bytes) -> views.OrderView:
        """One order with its claims, validations and timeline; raises UnknownOrder."""
        return self.ask("order", views.OrderQuery(order_id), views.OrderView)

    def orders(self, limit: int = 100, client: bytes = b"") -> list[views.OrderSummary]:
        """Orders, newest first; only those of `client` if one is given."""
        return self.ask("orders", views.OrdersQuery(limit, client), list[views.OrderSummary])

    def fetch_orders(self, limit: int = 100) -> list[views.OrderView]:
        """FetchOrders(n): open orders by reward per unit of training time."""
        return self.ask("fetch_orders", views.OrdersQuery(limit), list[views.OrderView])

    def account(self, address: bytes) -> views.AccountView:
        """Stakes, reputation, earnings and what may be claimed on the chain now."""
        return self.ask("account", views.AccountQuery(address), views.AccountView)

    def epoch(self) -> views.EpochView:
        """The pending and the last confirmed settlement."""
        return self.ask("epoch", None, views.EpochView)

    def network(self) -> views.NetworkView:
        """Genesis, parameters and counts."""
        return self.ask("network", None, views.NetworkView)

    def seats(self) -> views.SeatsView:
        """The aggregators, who asks to be one, and their votes."""
        return self.ask("seats", None, views.SeatsView)

    def status(self, timeout_s: float = 3.0) -> list[AggregatorStatus]:
        """How each aggregator does; an unreachable one says so instead of failing the call."""
        return self.transport.status().result(timeout_s + 5)

    # --- following --------------------------------------------------------------------------------------------
    def follow(self, callback: Callable[[int, int, list[Event]], None], from_sequence: int = 0) -> Subscription:
        """Call `callback(sequence, time_ms, events)` on the network thread for each batch that f+1 of them report."""

        def opened(sequence: int, time_ms: int, raw: tuple[bytes, ...]) -> None:
            callback(sequence, time_ms, [msgspec.msgpack.decode(event, type=Event) for event in raw])

        return self.transport.subscribe(opened, from_sequence)

    def wait_for_order(
        self, order_id: bytes, until: Callable[[views.OrderView], bool], *, timeout_s: float, poll_s: float = 0.25
    ) -> views.OrderView:
        """Read the order until `until(view)` holds.

        Raises:
            TimeoutError: it did not hold within `timeout_s`; the message says where the order stands.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            view = self.order(order_id)
            if until(view):
                return view
            if time.monotonic() > deadline:
                raise TimeoutError(f"order {order_id.hex()[:12]} is in its {view.window} window after {timeout_s:g} s")
            time.sleep(poll_s)


def refusal(reply: Reply) -> PotLabError:
    """The error that a refusing reply stands for: the same class that the ledger raised, with the same words."""
    return error_from_wire(reply.code, reply.message, reply.seen, reply.wanted)
