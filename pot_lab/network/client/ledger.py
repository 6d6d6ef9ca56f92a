"""The typed interface of a network: submit transactions to the ledger, query it, follow its events.

Wraps the byte-moving `NetworkClient` (f+1 equal answers, retries) with signing, nonces, views and typed refusals, so
that its users see records and errors and never bytes. It holds no rule: the ledger decides what it accepts.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.crypto.identity import Address, Identity
from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import AggregatorStatus, Call
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.client.order_watch import SLOW_POLL_S, OrderWatch
from pot_lab.network.client.streams import Subscription
from pot_lab.network.config import NetworkConfig
from pot_lab.network.seats import copies_of
from pot_lab.network.wire_codes import error_from_wire
from pot_lab.protocol import transactions, views
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import StaleNonce
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import Event, Member, OrderHeader
from pot_lab.protocol.transactions import Reply

ANSWER_LIMIT_BYTES = 64 << 20
View = TypeVar("View")
_NONCE_ATTEMPTS = 3


class NoIdentity(PotLabError):
    """A transaction is to be signed, but this client was opened without an identity.

    What to do: open the client with an identity, or only query.
    """


class LedgerClient:
    """A connection to one network's ledger, for reading and, with an identity, for submitting.

    Args:
        config: the network, from its `network.toml`.
        identity: the account that signs; None for a reader.
        transport: the client that moves the bytes; by default one of its own.
        clock_us: microseconds since 1970, for nonces.
    """

    def __init__(
        self,
        config: NetworkConfig,
        identity: Identity | None = None,
        *,
        transport: NetworkClient | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.config = config
        self.identity = identity
        self.network_id: bytes = config.network_id
        self.transport = transport or NetworkClient(config)
        self._clock_us = clock_us
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

    # --- submitting -------------------------------------------------------------------------------------------
    def submit(self, body: Record, *, timeout_s: float = 30.0) -> Reply:
        """Sign `body` and have it ordered; returns the ledger's reply when f+1 aggregators gave the same.

        Raises:
            Refused: (the subclass that names the rule) the ledger refused it; nothing changed.
            Unreachable: too few aggregators answered in time; the request may still be ordered later, once.
            NoIdentity: this client was opened without an identity.
        """
        if self.identity is None:
            raise NoIdentity("this connection has no identity to sign with", wanted="connect with an account")
        attempts_left = _NONCE_ATTEMPTS
        while True:
            request = transactions.sign(self.network_id, body, self.identity, self._next_nonce())
            answer = self.transport.submit(request, timeout_s=timeout_s).result(timeout_s + 1)
            reply = decode(answer, Reply, limit_bytes=ANSWER_LIMIT_BYTES)
            if reply.accepted:
                return reply
            error = refusal(reply)
            attempts_left -= 1
            if not isinstance(error, StaleNonce) or not attempts_left:
                raise error
            # another process signs for the same account with a clock ahead of ours: go on after its last nonce
            last = self.account(self.identity.address).nonce
            with self._nonce_lock:
                self._nonce = max(self._nonce, last)

    def _next_nonce(self) -> int:
        """Nonces are microseconds, so that processes of one account need not agree on a counter."""
        with self._nonce_lock:
            self._nonce = max(self._nonce + 1, self._clock_us())
            return self._nonce

    # --- querying ---------------------------------------------------------------------------------------------
    def ask(self, name: str, arguments: Record | None, type_: type[View], *, timeout_s: float = 10.0) -> View:
        """Read something from the ledger; accepted when f+1 aggregators answer alike.

        Args:
            name: the query's name, a key of `protocol.queries`.
            arguments: its arguments, None for a query without any.
            type_: the type of the answer.
            timeout_s: seconds until the call gives up.
        Raises:
            UnknownOrder and other rules: the aggregators refuse the query.
            Unreachable: too few answered in time.
        """
        return self.start_ask(name, arguments, type_, timeout_s=timeout_s).result(timeout_s + 1)

    def start_ask(
        self, name: str, arguments: Record | None, type_: type[View], *, timeout_s: float = 10.0
    ) -> Call[View]:
        """As `ask`, but returns at once; the call's result is decoded on the client's thread."""
        raw = encode(arguments) if arguments is not None else b""
        call: Call[View] = Call()

        def decoded(answered: Future[bytes]) -> None:
            try:
                call.finish(decode(answered.result(), type_, limit_bytes=ANSWER_LIMIT_BYTES))
            except PotLabError as error:
                call.fail(error)

        self.transport.query(name, raw, timeout_s=timeout_s).future.add_done_callback(decoded)
        return call

    def order(self, order_id: bytes) -> views.OrderView:
        """One order with its claims, validations and timeline; raises UnknownOrder."""
        return self.ask("order", views.OrderQuery(OrderId(order_id)), views.OrderView)

    def header(self, order_id: bytes) -> OrderHeader | None:
        """What is kept of an order whose time in the ledger is over; None where there is none."""
        return self.ask("header", views.OrderQuery(OrderId(order_id)), OrderHeader | None)  # type: ignore[arg-type]

    def orders(self, limit: int = 100, client: bytes = b"") -> list[views.OrderSummary]:
        """Orders, newest first; only those of `client` if one is given."""
        return self.ask("orders", views.OrdersQuery(limit, Address(client)), list[views.OrderSummary])

    def orders_in(self, windows: tuple[Window, ...], assigned: bytes = b"") -> list[views.OrderSummary]:
        """All orders in these windows, by id; only those that `assigned` was drawn for, if it is given."""
        found: list[views.OrderSummary] = []
        while True:
            after = found[-1].id if found else OrderId(b"")
            query = views.WindowsQuery(windows=windows, assigned=Address(assigned), after=after)
            page = self.ask("orders_in", query, list[views.OrderSummary])
            found += page
            if len(page) < query.limit:
                return found

    def fetch_orders(self, limit: int = 100) -> list[views.OrderView]:
        """FetchOrders(n): open orders by reward per unit of training time; their claims are in `order` alone."""
        return self.ask("fetch_orders", views.OrdersQuery(limit), list[views.OrderView])

    def holders(self, order_id: bytes) -> list[Member]:
        """The aggregators to whom shares of this order's keys are sealed, in their order; some may have left since."""
        return self.ask("holders", views.OrderQuery(OrderId(order_id)), list[Member])

    def fetch_validations(self, order_id: bytes) -> list[views.ValidationView]:
        """FetchValidations(OID): everybody's scores of an order's models, hidden or opened (section 3.3.3)."""
        return self.ask("fetch_validations", views.OrderQuery(OrderId(order_id)), list[views.ValidationView])

    def account(self, address: bytes) -> views.AccountView:
        """Stakes, reputation, earnings and what may be claimed on the chain now."""
        return self.ask("account", views.AccountQuery(Address(address)), views.AccountView)

    def epoch(self) -> views.EpochView:
        """The pending and the last confirmed settlement."""
        return self.ask("epoch", None, views.EpochView)

    def network(self) -> views.NetworkView:
        """Genesis, parameters and counts."""
        return self.ask("network", None, views.NetworkView)

    def seats(self) -> views.SeatsView:
        """The aggregators, the candidates for a seat, and the votes."""
        return self.ask("seats", None, views.SeatsView)

    def why(self, order_id: bytes, account: bytes) -> views.WhyView:
        """Why the account was paid what it was for the order, or was not; raises UnknownOrder."""
        return self.ask("why", views.WhyQuery(OrderId(order_id), Address(account)), views.WhyView)

    def governance(self) -> views.GovernanceView:
        """Parameters and version of the rules in force, and the proposals to change them."""
        return self.ask("governance", None, views.GovernanceView)

    def copies(self) -> tuple[str, ...]:
        """Where the aggregators in force serve their custody: addresses of `Store`'s `copies`. Does not wait."""
        return copies_of(self.transport.membership, self.config)

    def status(self, timeout_s: float = 3.0) -> list[AggregatorStatus]:
        """How each aggregator is, by index; those that do not answer in time are not `reachable`."""
        return self.transport.status().result(timeout_s + 5)

    # --- following --------------------------------------------------------------------------------------------
    def follow(self, callback: Callable[[int, int, list[Event]], None], from_sequence: int = 0) -> Subscription:
        """Call `callback(sequence, time_ms, events)` on the network thread for each batch that f+1 of them report."""

        def opened(sequence: int, time_ms: int, raw: tuple[bytes, ...]) -> None:
            callback(sequence, time_ms, [msgspec.msgpack.decode(event, type=Event) for event in raw])

        return self.transport.subscribe(opened, from_sequence)

    def follow_new(self, callback: Callable[[int, int, list[Event]], None]) -> Subscription:
        """`follow`, beginning with the first batch after the newest state that this client has read."""
        return self.follow(callback, self.transport.known_sequence + 1)

    def watch_order(
        self,
        order_id: bytes,
        on_view: Callable[[views.OrderView], None],
        *,
        on_error: Callable[[PotLabError], None] | None = None,
        poll_s: float = SLOW_POLL_S,
    ) -> OrderWatch:
        """Call `on_view(view)` with the order now, and again whenever a batch changed it, until `close`.

        It listens to the event stream, and reads the order every `poll_s` seconds while that is silent. Callbacks run
        on the network thread, so they must be quick; they may close the watch. `on_error` gets the error of a read
        that failed; the watch goes on.

            with client.watch_order(order_id, lambda view: print(view.window)):
                ...
        """
        watch = OrderWatch(order_id, _OrderOnNetwork(self, order_id), on_view, on_error=on_error, poll_s=poll_s)
        watch.refresh()
        return watch

    def wait_for_order(
        self,
        order_id: bytes,
        until: Callable[[views.OrderView], bool],
        *,
        timeout_s: float,
        poll_s: float = SLOW_POLL_S,
    ) -> views.OrderView:
        """Return the order's first view for which `until(view)` holds; `until` is called on this thread.

        Raises:
            TimeoutError: it did not hold within `timeout_s`; the message names the order's window.
            UnknownOrder, Unreachable: the order cannot be read.
        """
        deadline_s = time.monotonic() + timeout_s
        views_: queue.SimpleQueue[views.OrderView | PotLabError] = queue.SimpleQueue()
        with self.watch_order(order_id, views_.put, on_error=views_.put, poll_s=poll_s):
            while True:
                try:
                    view = views_.get(timeout=max(0.0, deadline_s - time.monotonic()))
                except queue.Empty:
                    break
                if isinstance(view, PotLabError):
                    raise view
                if until(view):
                    return view
        last = self.order(order_id)
        if until(last):
            return last
        raise TimeoutError(f"order {order_id.hex()[:12]} is in its {last.window} window after {timeout_s:g} s")


class _OrderOnNetwork:
    """One order as an `OrderWatch` reads it."""

    def __init__(self, client: LedgerClient, order_id: bytes) -> None:
        self._client, self._order_id = client, order_id

    def read(self) -> Call[views.OrderView]:
        return self._client.start_ask("order", views.OrderQuery(OrderId(self._order_id)), views.OrderView)

    def follow(self, callback: Callable[[int, int, list[Event]], None]) -> Subscription:
        return self._client.follow_new(callback)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._client.transport.after(delay_s, action)


def refusal(reply: Reply) -> PotLabError:
    """The error that a refusing reply stands for: the same class that the ledger raised, with the same words."""
    return error_from_wire(reply.code, reply.message, reply.seen, reply.wanted)
