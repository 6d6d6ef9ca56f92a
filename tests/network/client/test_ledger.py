"""The ledger's client signs with growing nonces, raises the ledger's own refusals, and waits on the event stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import AggregatorStatus, Call
from pot_lab.network.client.ledger import LedgerClient, NoIdentity, refusal
from pot_lab.network.errors import ClientClosed, RemoteError, Unreachable
from pot_lab.protocol import queries
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import NotAllowed, StaleNonce, UnknownOrder
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.state import Event
from pot_lab.protocol.transactions import Register, Reply, Unregister, Withdraw, open_transaction
from tests.network.test_config import network
from tests.protocol.scenes import bring_to, new_world
from tests.protocol.world import World, key


class Subscribed:
    def __init__(self, ledger: OneLedger, callback: Callable[[int, int, tuple[bytes, ...]], None], first: int) -> None:
        self.ledger, self.callback, self.first = ledger, callback, first

    def close(self) -> None:
        self.ledger.streams.remove(self)


class OneLedger:
    """A network of one ledger in this process, in the place of `NetworkClient`: what it is told runs at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.streams: list[Subscribed] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.nonces: list[int] = []
        self.queries = 0
        self.error: PotLabError | None = None
        self.lock = threading.RLock()

    @property
    def known_sequence(self) -> int:
        return self.world.ledger.state.sequence

    def submit(self, request: bytes, *, timeout_s: float) -> Call[bytes]:
        call: Call[bytes] = Call()
        with self.lock:
            self.nonces.append(open_transaction(request, self.world.network_id).nonce)
            call.finish(encode(self.world.ordered(request)[0]))
        self.push()
        return call

    def query(self, name: str, arguments: bytes, *, timeout_s: float) -> Call[bytes]:
        call: Call[bytes] = Call()
        self.queries += 1
        try:
            if self.error is not None:
                raise self.error
            with self.lock:
                call.finish(queries.query(self.world.ledger, name, arguments))
        except PotLabError as error:
            call.fail(error)
        return call

    def subscribe(self, callback: Callable[[int, int, tuple[bytes, ...]], None], first: int) -> Subscribed:
        self.streams.append(Subscribed(self, callback, first))
        return self.streams[-1]

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.timers.append((delay_s, action))

    def status(self) -> Call[list[AggregatorStatus]]:
        call: Call[list[AggregatorStatus]] = Call()
        call.finish([AggregatorStatus(index=0, reachable=True)])
        return call

    def push(self) -> None:
        """Push the events since the last push."""
        events, self.world.events = self.world.events, []
        for stream in list(self.streams):
            stream.callback(self.known_sequence, self.world.now_ms, tuple(map(encode, events)))

    def close(self) -> None:
        self.streams.clear()


@pytest.fixture
def ledger() -> OneLedger:
    return OneLedger(new_world())


def client_of(
    ledger: OneLedger, identity: Identity | None = None, clock_us: Callable[[], int] = lambda: 0
) -> LedgerClient:
    config = msgspec.structs.replace(network(), network_id=ledger.world.network_id)
    return LedgerClient(config, identity, transport=ledger, clock_us=clock_us)  # type: ignore[arg-type]


VALIDATOR = key("validator 0")


def test_nonces_follow_the_clock_and_grow_where_it_stands_still(ledger: OneLedger) -> None:
    times_us = iter([1_000, 1_000, 500, 2_000])
    client = client_of(ledger, VALIDATOR, lambda: next(times_us))
    for body in (Unregister(int(Role.VALIDATOR)), Register(int(Role.VALIDATOR))) * 2:
        assert client.submit(body).accepted
    assert ledger.nonces == [1_000, 1_001, 1_002, 2_000]


def test_behind_another_process_of_the_account_it_goes_on_after_its_nonce(ledger: OneLedger) -> None:
    client_of(ledger, VALIDATOR, lambda: 5_000).submit(Unregister(int(Role.VALIDATOR)))
    slow = client_of(ledger, VALIDATOR, lambda: 1_000)
    assert slow.submit(Register(int(Role.VALIDATOR))).accepted
    assert slow.submit(Unregister(int(Role.VALIDATOR))).accepted
    assert ledger.nonces == [5_000, 1_000, 5_001, 5_002]


def test_after_three_stale_nonces_it_gives_up(ledger: OneLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(ledger, VALIDATOR, lambda: 10)
    client.submit(Unregister(int(Role.VALIDATOR)))
    monkeypatch.setattr(client, "_next_nonce", lambda: 1)
    with pytest.raises(StaleNonce, match="seen: 1, wanted: at least 11"):
        client.submit(Register(int(Role.VALIDATOR)))
    assert ledger.nonces == [10, 1, 1, 1]


def test_a_refusal_is_raised_as_the_ledgers_own_class_with_its_words(ledger: OneLedger) -> None:
    client = client_of(ledger, key("stranger"), lambda: 10)
    with pytest.raises(UnknownOrder) as caught:
        client.submit(Withdraw(bytes(32)))
    assert caught.value.message and len(ledger.nonces) == 1


def refused(code: str, seen: str = "", wanted: str = "") -> Reply:
    return Reply(accepted=False, sequence=1, time_ms=1, code=code, message="message", seen=seen, wanted=wanted)


def test_a_reply_of_an_unknown_rule_is_a_remote_error() -> None:
    error = refusal(refused("LaterRule", "seen", "wanted"))
    assert type(error) is RemoteError and str(error) == "LaterRule: message (seen: seen, wanted: wanted)"
    assert type(refusal(refused("NotAllowed"))) is NotAllowed


def test_without_an_identity_nothing_is_submitted(ledger: OneLedger) -> None:
    with pytest.raises(NoIdentity):
        client_of(ledger).submit(Register(0))
    assert ledger.nonces == []


def test_views_are_those_of_the_ledger(ledger: OneLedger) -> None:
    client, world = client_of(ledger), ledger.world
    order_id = bring_to(world, Window.COMMIT)
    assert client.order(order_id).window is Window.COMMIT
    assert [each.id for each in client.orders()] == [order_id]
    assert [each.id for each in client.orders_in(tuple(Window))] == [order_id]
    assert [each.id for each in client.orders(client=world.client.address)] == [order_id]
    assert client.orders(client=key("nobody").address) == []
    assert [each.id for each in client.fetch_orders(5)] == [order_id]
    assert list(client.order(order_id).validations) == client.fetch_validations(order_id)
    assert client.account(VALIDATOR.address).nonce == world.nonces[VALIDATOR.address]
    assert client.epoch() and len(client.seats().seats) == 4
    assert client.network().genesis == world.genesis
    assert [each.reachable for each in client.status()] == [True]
    with pytest.raises(UnknownOrder):
        client.order(bytes(32))
    call = client.start_ask("order", None, Reply)
    with pytest.raises(PotLabError):
        call.result(0)


def test_followers_get_events_decoded(ledger: OneLedger) -> None:
    seen: list[tuple[int, int, list[Event]]] = []
    client = client_of(ledger, VALIDATOR, lambda: 10_000)
    client.follow(lambda *row: seen.append(row), 3)
    ledger.world.events = []
    client.submit(Unregister(int(Role.VALIDATOR)))
    [(sequence, time_ms, events)] = seen
    assert (sequence, time_ms) == (ledger.known_sequence, ledger.world.now_ms)
    assert [(event.kind, event.account) for event in events] == [("unregistered", VALIDATOR.address)]
    assert ledger.streams[0].first == 3


def test_a_watched_order_is_read_when_an_event_names_it_and_followed_from_now_on(ledger: OneLedger) -> None:
    world = ledger.world
    order_id, other = bring_to(world, Window.COMMIT), bring_to(world, Window.COMMIT)
    world.events = []
    windows: list[Window] = []
    watch = client_of(ledger).watch_order(order_id, lambda view: windows.append(view.window))
    assert windows == [Window.COMMIT] and ledger.streams[0].first == ledger.known_sequence + 1
    world.events = [Event(kind="claim_committed", order=other)]
    ledger.push()
    assert len(windows) == 1
    world.wait_for(order_id, Window.REVEAL)
    ledger.push()
    assert windows[-1] is Window.REVEAL
    watch.close()
    assert ledger.streams == []


def test_waiting_returns_the_first_view_that_fits(ledger: OneLedger) -> None:
    world = ledger.world
    order_id = bring_to(world, Window.COMMIT)
    client = client_of(ledger)
    assert client.wait_for_order(order_id, lambda view: view.window is Window.COMMIT, timeout_s=0).id == order_id
    before = ledger.queries

    def go_on() -> None:
        while not ledger.streams:
            pass
        with ledger.lock:
            world.wait_for(order_id, Window.REVEAL)
        ledger.push()

    other = threading.Thread(target=go_on)
    other.start()
    view = client.wait_for_order(order_id, lambda view: view.window is Window.REVEAL, timeout_s=60)
    other.join()
    assert view.window is Window.REVEAL and ledger.queries - before <= 4, "it listens instead of polling"
    assert ledger.streams == [] and [each.name for each in threading.enumerate() if "watch" in each.name] == []


def test_waiting_ends_in_time_with_a_last_look(ledger: OneLedger) -> None:
    order_id = bring_to(ledger.world, Window.COMMIT)
    client = client_of(ledger)
    with pytest.raises(TimeoutError, match=rf"order {order_id.hex()[:12]} is in its commit window after 0\.01 s"):
        client.wait_for_order(order_id, lambda view: False, timeout_s=0.01)
    assert ledger.streams == []
    looks = iter([False, True])
    assert client.wait_for_order(order_id, lambda view: next(looks), timeout_s=0.01).id == order_id


def test_waiting_for_what_cannot_be_read_raises_why(ledger: OneLedger) -> None:
    with pytest.raises(UnknownOrder):
        client_of(ledger).wait_for_order(bytes(32), lambda view: True, timeout_s=60)
    ledger.error = Unreachable("too few answered")
    with pytest.raises(Unreachable):
        client_of(ledger).wait_for_order(bytes(32), lambda view: True, timeout_s=60)


def test_a_silent_stream_is_made_up_for_by_a_slow_poll(ledger: OneLedger) -> None:
    world = ledger.world
    order_id = bring_to(world, Window.COMMIT)
    windows: list[Window] = []
    client_of(ledger).watch_order(order_id, lambda view: windows.append(view.window), poll_s=3.0)
    world.wait_for(order_id, Window.REVEAL)
    world.events = []
    [(delay_s, poll)] = ledger.timers
    poll()
    assert delay_s == 3.0 and windows == [Window.COMMIT, Window.REVEAL]


def test_it_opens_a_network_from_its_file_and_closes_it(tmp_path: Path) -> None:
    network().save(tmp_path / "network.toml")
    with LedgerClient.open(tmp_path / "network.toml") as client:
        assert client.identity is None and client.config.name == "test"
    with pytest.raises(ClientClosed):
        client.transport.query("network").result(10)


class Timed(Call[bytes]):
    """A call that keeps for how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float | None] = []

    def result(self, timeout_s: float | None = None) -> bytes:
        self.waited_s.append(timeout_s)
        return super().result(timeout_s)


def test_it_waits_a_second_longer_than_the_network_takes_to_say_why(
    ledger: OneLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, submitted = client_of(ledger, VALIDATOR, lambda: 10_000), Timed()
    monkeypatch.setattr(ledger, "submit", lambda request, *, timeout_s: submitted)
    submitted.fail(Unreachable(f"after {3.0:g} s"))
    with pytest.raises(Unreachable):
        client.submit(Register(0), timeout_s=3.0)
    asked = Timed()
    asked.fail(Unreachable("far away"))
    monkeypatch.setattr(client, "start_ask", lambda *_, timeout_s: asked)
    with pytest.raises(Unreachable):
        client.ask("order", None, Reply, timeout_s=5.0)
    assert (submitted.waited_s, asked.waited_s) == ([4.0], [6.0])
